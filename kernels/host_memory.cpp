// Reads the files of the operating system: /proc/meminfo, /proc/self/cgroup, and those of the cgroups.
#include "kernels/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>

#include "core/error.h"

namespace longlora {
namespace {

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

/// The number in the file; kNoLimit if there is no file or no number ("max" in a cgroup without a limit).
std::int64_t limit_in(const std::string& file) {
    std::int64_t bytes = 0;
    std::ifstream in(file);
    return in >> bytes && bytes > 0 ? bytes : kNoLimit;
}

std::string content_of(const char* path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

std::int64_t cgroup_limit_bytes(const std::string& membership, const std::string& root) {
    std::int64_t least = kNoLimit;
    std::istringstream lines(membership);
    for (std::string line; std::getline(lines, line);) {  // "0::/path", or "4:memory:/path" of version 1
        const auto first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool one = ("," + controllers + ",").find(",memory,") != std::string::npos;
        if (!one && !controllers.empty()) continue;
        const std::string tree = root + (one ? "/memory" : ""), name = one ? "/memory.limit_in_bytes" : "/memory.max";
        for (std::string path = line.substr(second + 1);; path.resize(path.find_last_of('/'))) {
            least = std::min(least, limit_in(tree + path + name));
            if (path.find('/') == std::string::npos) break;
        }
    }
    return least;
}

/// In a container, /proc/self/cgroup may name cgroups that lie elsewhere in the tree that the container sees. Its own
/// limit is then at the root, so the root is asked too.
std::int64_t host_memory_bytes() {
    const std::int64_t physical = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    return std::min(physical,
                    cgroup_limit_bytes(content_of("/proc/self/cgroup") + "\n0::/\n0:memory:/\n", "/sys/fs/cgroup"));
}

/// MemAvailable includes the page cache that can be dropped. It counts the whole computer, so the limits of the
/// container and the job come on top.
std::int64_t free_memory_bytes() {
    std::ifstream in("/proc/meminfo");
    std::string key;
    std::int64_t kib = 0;
    for (std::string rest; in >> key >> kib; std::getline(in, rest))
        if (key == "MemAvailable:") return std::min(kib << 10, host_memory_bytes());
    fail("the free memory cannot be read from /proc/meminfo; give the memory that a rank may use with --memory SIZE");
}

}  // namespace longlora
