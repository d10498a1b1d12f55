// Signs of life of every rank, RUN/ranks/R: written by a thread of the rank that calls no MPI, read by whoever wants to
// know which rank stands still.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longlora {

struct RankState {
    int rank = 0;
    std::string token;  ///< of this start (run_lock.h); files of others are no sign of life
    std::string host;
    std::int64_t process = 0;
    std::int64_t beat = 0;          ///< grows with every write
    std::int64_t step = 0;          ///< the last one that this rank finished
    bool waiting = false;           ///< for other ranks
    double worked_seconds_ago = 0;  ///< since this rank last did a part of its own work
};

void create_rank_folder(const std::string& run);
/// In place, so that no room is needed on a disk that has become full.
void write_rank_state(const std::string& run, const RankState& state);
/// Of ranks 0 .. num_ranks - 1; those whose file is missing, is of another start, or cannot be read are left out.
std::vector<RankState> read_rank_states(const std::string& run, const std::string& token, int num_ranks);

/// What `before` and `now`, read some time apart, say about ranks that stand still: "rank 2 on n1 (process 77) gives no
/// sign of life", ... Ranks whose beat did not change are dead or stopped; of the others those stand still in their own
/// work that do not wait and did nothing for `still_seconds`.
struct Standstill {
    std::string sentence;
    int speaker = -1;  ///< the lowest rank that gives signs of life: who tells it; -1 for none
};
Standstill who_stands_still(const std::vector<RankState>& before, const std::vector<RankState>& now, int num_ranks,
                            double still_seconds);

}  // namespace longlora
