// scontrol is run as a program, once, when a run folder has a lock. A controller that does not answer costs ten
// seconds.
#include "jobs/process/slurm_job.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace longlora {
namespace {

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

std::int64_t number(const std::string& digits) { return std::strtoll(digits.c_str(), nullptr, 10); }

bool is_number(const std::string& word) {
    return !word.empty() && word.find_first_not_of("0123456789") == std::string::npos;
}

/// The value of KEY=VALUE among the words of `answer`; "" if there is none.
std::string value_of(const std::string& answer, const std::string& key) {
    const std::string start = key + "=";
    for (std::size_t at = answer.find(start); at != std::string::npos; at = answer.find(start, at + 1)) {
        if (at > 0 && answer[at - 1] != ' ' && answer[at - 1] != '\n') continue;
        const std::size_t begin = at + start.size();
        return answer.substr(begin, answer.find_first_of(" \n", begin) - begin);
    }
    return "";
}

std::string ask_scontrol(const std::string& job) {
    std::FILE* pipe = ::popen(("timeout -k 1 10 scontrol --oneliner show job " + job + " 2>&1").c_str(), "r");
    if (!pipe) return "";
    std::string answer;
    std::array<char, 4096> piece;
    for (std::size_t n; (n = std::fread(piece.data(), 1, piece.size(), pipe)) > 0;) answer.append(piece.data(), n);
    ::pclose(pipe);
    return answer;
}

}  // namespace

JobIdentity job_of_environment() {
    JobIdentity job{variable("SLURM_CLUSTER_NAME"), variable("SLURM_JOB_ID"), variable("SLURM_RESTART_COUNT")};
    if (!job.id.empty() && job.restart.empty()) job.restart = "0";
    return job;
}

bool answer_says_ended(const std::string& answer, const std::string& restart) {
    // The job ended so long ago that Slurm has forgotten it.
    if (answer.find("Invalid job id") != std::string::npos) return true;
    const std::string state = value_of(answer, "JobState");
    if (state.empty()) return false;
    if (number(value_of(answer, "Restarts")) > number(restart)) return state != "COMPLETING";
    for (const std::string_view over : {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED",
                                        "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"})
        if (state == over) return true;
    return false;
}

bool slurm_says_ended(const LockHolder& holder, const JobIdentity& mine) {
    if (mine.id.empty() || holder.job.cluster != mine.cluster || !is_number(holder.job.id)) return false;
    if (holder.job.id == mine.id && number(mine.restart) != number(holder.job.restart))
        return number(mine.restart) > number(holder.job.restart);
    if (holder.job.id == mine.id) return false;  // two steps of one job: nothing is known about the other step
    return answer_says_ended(ask_scontrol(holder.job.id), holder.job.restart);
}

}  // namespace longlora
