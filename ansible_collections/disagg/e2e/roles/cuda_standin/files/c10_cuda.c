/* libc10_cuda.so for a CPU build of torch. Mooncake's process group calls these for tensors on a GPU only, and there are
   none: so each ends the process, by name, rather than answer something. The names are torch's C++ functions as the
   compiler writes them (Itanium C++ ABI). */

#include <stdio.h>
#include <stdlib.h>

#define MISSING(symbol, name)                                                           \
    void symbol(void)                                                                   \
    {                                                                                   \
        fputs("libc10_cuda.so is a stand-in here, and " name " was called\n", stderr);  \
        abort();                                                                        \
    }

MISSING(_ZN3c104cuda14current_deviceEv, "c10::cuda::current_device")
MISSING(_ZN3c104cuda17hasPrimaryContextEa, "c10::cuda::hasPrimaryContext")
MISSING(_ZN3c104cuda20getCurrentCUDAStreamEa, "c10::cuda::getCurrentCUDAStream")
MISSING(_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_jb, "c10::cuda::c10_cuda_check_implementation")
MISSING(_ZNK3c104cuda10CUDAStream11synchronizeEv, "c10::cuda::CUDAStream::synchronize")
MISSING(_ZNK3c104cuda10CUDAStream6streamEv, "c10::cuda::CUDAStream::stream")
