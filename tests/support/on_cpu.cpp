// The usual test programs compute on this CPU (tests/support/test_device.h).
#include "tests/support/test_device.h"

namespace longlora {
const bool kOnGpu = false;
}
