// The test programs named test_*_sim and test_*_gpu compute on a GPU, simulated or real (tests/support/test_device.h).
#include "tests/support/test_device.h"

namespace longlora {
const bool kOnGpu = true;
}
