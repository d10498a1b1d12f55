// CudaDevice: a GPU as a device.
#include "kernels/device.h"
