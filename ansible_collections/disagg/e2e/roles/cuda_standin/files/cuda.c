/* libcuda.so.1 for a node without a GPU. Every call answers what NVIDIA's driver answers where it finds no device:
   CUDA_ERROR_NO_DEVICE, 100 in cuda.h. The calls are those that Mooncake's libraries import (nm -D --undefined-only);
   one that is missing here shows as "undefined symbol" when they are loaded. */

enum { NO_ERROR = 0, NO_DEVICE = 100 };

#define REFUSED(call) \
    int call(void) { return NO_DEVICE; }

REFUSED(cuCtxGetDevice)
REFUSED(cuCtxSetCurrent)
REFUSED(cuDeviceGet)
REFUSED(cuDeviceGetAttribute)
REFUSED(cuDevicePrimaryCtxRelease_v2)
REFUSED(cuDevicePrimaryCtxRetain)
REFUSED(cuInit)
REFUSED(cuMemAddressFree)
REFUSED(cuMemAddressReserve)
REFUSED(cuMemCreate)
REFUSED(cuMemExportToShareableHandle)
REFUSED(cuMemGetAddressRange_v2)
REFUSED(cuMemGetAllocationGranularity)
REFUSED(cuMemGetHandleForAddressRange)
REFUSED(cuMemImportFromShareableHandle)
REFUSED(cuMemMap)
REFUSED(cuMemRelease)
REFUSED(cuMemRetainAllocationHandle)
REFUSED(cuMemSetAccess)
REFUSED(cuMemUnmap)
REFUSED(cuPointerGetAttribute)
REFUSED(cuPointerSetAttribute)

int cuGetErrorName(int error, const char **text)
{
    (void)error;
    *text = "CUDA_ERROR_NO_DEVICE";
    return NO_ERROR;
}

int cuGetErrorString(int error, const char **text)
{
    (void)error;
    *text = "no CUDA-capable device is detected";
    return NO_ERROR;
}
