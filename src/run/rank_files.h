// The heartbeat files of the ranks, RUN/ranks/R. A thread of each rank that calls no MPI writes its file
// (jobs/process/watchdog.h). Any process may read them to find out which ranks make no progress.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longlora {

struct RankState {
    int rank = 0;
    std::string token;  ///< the token of this start (run/lock.h); files of other starts do not count
    std::string host;
    std::int64_t process = 0;
    std::int64_t heartbeat_count = 0;  ///< grows with every write
    std::int64_t step = 0;             ///< the last step that this rank finished
    bool waiting = false;              ///< whether this rank waits for other ranks
    double worked_seconds_ago = 0;     ///< time since this rank last did a part of its own work
};

void create_rank_folder(const std::string& run);
/// Writes the file in place, which needs no space on a disk that has become full.
void write_rank_state(const std::string& run, const RankState& state);
/// The states of ranks 0 .. num_ranks - 1. A rank is left out if its file is missing, belongs to another start, or
/// cannot be read.
std::vector<RankState> read_rank_states(const std::string& run, const std::string& token, int num_ranks);

/// Compares `before` and `now`, read some time apart, and names the ranks that make no progress: "rank 2 on n1
/// (process 77) sends no heartbeat" ... A rank whose beat did not change is dead or stopped. A rank whose beat
/// changed makes no progress if it does not wait for others and did none of its own work for `still_seconds`.
struct Standstill {
    std::string sentence;
    int reporting_rank = -1;  ///< the lowest rank that sends heartbeats, which prints the sentence; -1 for none
};
Standstill find_stuck_ranks(const std::vector<RankState>& before, const std::vector<RankState>& now, int num_ranks,
                            double still_seconds);

}  // namespace longlora
