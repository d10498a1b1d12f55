// Files that the kernel keeps: /proc/meminfo, /proc/self/cgroup and the cgroups' own.
#include "jobs/host_memory.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>

#include "core/clock.h"
#include "core/error.h"
#include "kernels/address_range.h"

namespace longlora {
namespace {

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

/// "max", as of a cgroup without a limit, is no number.
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
    for (std::string line; std::getline(lines, line);) {   // "0::/path", or "4:memory:/path" of version 1
        const auto first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool one = ("," + controllers + ",").find(",memory,") != std::string::npos;
        if (!one && !controllers.empty()) continue;
        const std::string tree = root + (one ? "/memory" : ""), name = one ? "/memory.limit_in_bytes" : "/memory.max";
        for (std::string path = line.substr(second + 1); !path.empty(); path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/')))
            least = std::min(least, limit_in(tree + path + name));
    }
    return least;
}

/// MemAvailable: page cache that can be dropped included. It is the machine's, so limits of a container and of the job go before.
std::int64_t free_memory_bytes() {
    std::ifstream in("/proc/meminfo");
    std::string key;
    std::int64_t kib = 0;
    for (std::string rest; in >> key >> kib; std::getline(in, rest))
        if (key == "MemAvailable:") return std::min({kib << 10, machine_memory_bytes(), cgroup_limit_bytes(content_of("/proc/self/cgroup"), "/sys/fs/cgroup")});
    fail("the free memory cannot be read from /proc/meminfo; say with --memory SIZE how much a rank may use");
}

std::string pinned_memory_problem(const std::vector<PinnedShare>& by_rank, bool offload) {
    for (const PinnedShare& one : by_rank) {
        std::int64_t pinned = 0, free = one.free;
        int ranks = 0;
        for (const PinnedShare& other : by_rank)
            if (other.host == one.host) pinned += other.pinned, free = std::min(free, other.free), ++ranks;
        if (pinned <= free / 10 * 9) continue;
        return text(ranks, " rank(s) on ", one.host, " need ", bytes_text(pinned), " of pinned host memory, and of the ", bytes_text(free),
                    " that are free there they may take ", bytes_text(free / 10 * 9), "; start fewer ranks on a node, ask Slurm for more memory (--mem)",
                    offload ? ", or leave out --offload activations" : "");
    }
    return "";
}

}  // namespace longlora
