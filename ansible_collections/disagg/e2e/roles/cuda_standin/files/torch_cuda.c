/* libtorch_cuda.so for a CPU build of torch. Mooncake's process group is linked to it and uses nothing of it. */

const int disagg_e2e_standin = 1;
