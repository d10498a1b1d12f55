// Reads and writes the heartbeat files: one line of JSON of fixed length per rank.
#include "run/rank_files.h"

#include <algorithm>
#include <map>

#include "core/clock.h"
#include "core/error.h"
#include "io/json.h"
#include "io/own_file.h"

namespace longlora {
namespace {

constexpr std::size_t kBytes = 512;  // size of a file; a host name has up to 255 bytes
constexpr std::size_t kMostNamed = 8;

std::string rank_path(const std::string& run, int rank) { return text(run, "/ranks/", rank); }

std::string name_of(const RankState& s) { return text("rank ", s.rank, " on ", s.host, " (process ", s.process, ")"); }

std::string list_of(const std::vector<std::string>& names) {
    std::string out;
    for (std::size_t i = 0; i < std::min(names.size(), kMostNamed); ++i) out += (i ? ", " : "") + names[i];
    return names.size() > kMostNamed ? text(out, " and ", names.size() - kMostNamed, " more") : out;
}

}  // namespace

void create_rank_folder(const std::string& run) { create_folders(run + "/ranks"); }

void write_rank_state(const std::string& run, const RankState& s) {
    std::string line = to_line({{"rank", s.rank},
                                {"token", s.token},
                                {"host", s.host},
                                {"process", s.process},
                                {"beat", s.heartbeat_count},
                                {"step", s.step},
                                {"waiting", s.waiting},
                                {"worked_seconds_ago", s.worked_seconds_ago}});
    line.resize(kBytes - 1, ' ');
    line += '\n';
    open_own_file(rank_path(run, s.rank)).write_at(line.data(), line.size(), 0);
}

std::vector<RankState> read_rank_states(const std::string& run, const std::string& token, int num_ranks) {
    std::vector<RankState> states;
    for (int rank = 0; rank < num_ranks; ++rank) {
        try {
            const std::string path = rank_path(run, rank);
            const Json json = read_json_file(path);
            if (get_text(json, "token", path) != token) continue;
            states.push_back({rank, token, get_text(json, "host", path), get_integer(json, "process", path),
                              get_integer(json, "beat", path), get_integer(json, "step", path),
                              json.at("waiting").get<bool>(), json.at("worked_seconds_ago").get<double>()});
        } catch (const std::exception&) {
            // The rank counts as one without a heartbeat.
        }
    }
    return states;
}

Standstill find_stuck_ranks(const std::vector<RankState>& before, const std::vector<RankState>& now, int num_ranks,
                            double still_seconds) {
    std::map<int, RankState> earlier, later;
    for (const RankState& s : before) earlier[s.rank] = s;
    for (const RankState& s : now) later[s.rank] = s;
    Standstill out;
    std::vector<std::string> silent, stuck;
    for (int rank = 0; rank < num_ranks; ++rank) {
        const auto was = earlier.find(rank), is = later.find(rank);
        const bool beats =
            is != later.end() && (was == earlier.end() || was->second.heartbeat_count != is->second.heartbeat_count);
        if (!beats)
            silent.push_back(is != later.end()      ? name_of(is->second)
                             : was != earlier.end() ? name_of(was->second)
                                                    : text("rank ", rank));
        else if (!is->second.waiting && is->second.worked_seconds_ago >= still_seconds)
            stuck.push_back(name_of(is->second));
        if (beats && out.reporting_rank < 0) out.reporting_rank = rank;
    }
    if (!silent.empty())
        out.sentence = list_of(silent) + (silent.size() == 1 ? " sends no heartbeat" : " send no heartbeat");
    if (!stuck.empty())
        out.sentence +=
            (silent.empty() ? "" : "; ") + list_of(stuck) +
            (stuck.size() == 1 ? " makes no progress in its own work" : " make no progress in their own work");
    if (silent.empty() && stuck.empty()) out.sentence = "every rank waits for another rank";
    return out;
}

}  // namespace longlora
