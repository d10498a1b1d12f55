// Adds up what the ranks of each computer pin.
#include "jobs/process/pinned_memory.h"

#include <algorithm>

#include "core/clock.h"
#include "core/error.h"

namespace longlora {

std::string pinned_memory_problem(const std::vector<PinnedShare>& by_rank, bool offload) {
    for (const PinnedShare& one : by_rank) {
        std::int64_t pinned = 0, free = one.free;
        int ranks = 0;
        for (const PinnedShare& other : by_rank)
            if (other.host == one.host) pinned += other.pinned, free = std::min(free, other.free), ++ranks;
        if (pinned <= free / 10 * 9) continue;
        return text(ranks, " rank(s) on ", one.host, " need ", bytes_text(pinned),
                    " of pinned host memory, but of the ", bytes_text(free), " that are free there they may take ",
                    bytes_text(free / 10 * 9), "; start fewer ranks on a node, ask Slurm for more memory (--mem)",
                    offload ? ", or leave out --offload activations" : "");
    }
    return "";
}

}  // namespace longlora
