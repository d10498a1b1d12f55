// Memory shadow.
#include "sim/ptx/launch.h"
