// The name of this computer. What devices and memory it has is in kernels/ and jobs/process/.
#pragma once

#include <unistd.h>

#include <string>

namespace longlora {

inline std::string host_name() {
    char name[256] = {};
    gethostname(name, sizeof name - 1);
    return name;
}

}  // namespace longlora
