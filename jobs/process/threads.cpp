// The allowed cores are those in the affinity mask, which launchers and containers set.
#include "jobs/process/threads.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

namespace longlora {

int threads_per_rank(const parallel::HostGroup& group) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    sched_getaffinity(0, sizeof allowed, &allowed);
    char host[256] = {};
    gethostname(host, sizeof host - 1);
    const std::string mine =
        std::string(host) + '\n' + std::string(reinterpret_cast<const char*>(&allowed), sizeof allowed);
    const auto all = group.all_gather(mine);
    const auto sharers = std::max<std::ptrdiff_t>(1, std::count(all.begin(), all.end(), mine));
    if (const char* asked = std::getenv("OMP_NUM_THREADS"); asked && std::atoi(asked) > 0) return std::atoi(asked);
    return std::max(1, static_cast<int>(CPU_COUNT(&allowed) / sharers));
}

}  // namespace longlora
