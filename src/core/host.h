// The name of this computer. Its devices and memory are found by kernels/ and jobs/process/.
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
