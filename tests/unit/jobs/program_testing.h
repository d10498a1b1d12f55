// Runs the program on one or several ranks, gets its exit code and output, and kills it when wanted; and a folder with
// a tiny model and data for it. No tests here.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/random.h"
#include "io/json.h"
#include "io/token_file.h"
#include "tests/unit/io/io_testing.h"

extern char** environ;

namespace longlora::program_testing {

using Words = std::vector<std::string>;

inline Words operator+(Words a, const Words& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

struct Outcome {
    int code = -1;  ///< exit code; 128 + signal if a signal ended the process; 124 after the time limit
    std::string out, err;
};

/// A started process. Its output goes to files in a temporary folder.
class Process {
public:
    /// Starts a process with `folder` as its working directory. It does not inherit Open MPI's variables, since this
    /// test is an MPI program itself and its variables would confuse another one.
    Process(const Words& words, const std::string& folder) {
        std::vector<std::string> kept;
        for (char** variable = environ; *variable; ++variable)
            if (std::strncmp(*variable, "OMPI_", 5) && std::strncmp(*variable, "PMIX_", 5) &&
                std::strncmp(*variable, "ORTE_", 5))
                kept.emplace_back(*variable);
        kept.emplace_back("OMP_NUM_THREADS=1");
        // Without Open MPI's daemon and networks, one rank alone starts in 0.1 s instead of 0.4 s.
        if (words[0] != "mpirun")
            for (const char* setting : {"OMPI_MCA_ess_singleton_isolated=1", "OMPI_MCA_pml=ob1", "OMPI_MCA_btl=self"})
                kept.emplace_back(setting);
        std::vector<char*> arguments, variables;
        for (const auto& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
        for (auto& variable : kept) variables.push_back(variable.data());
        arguments.push_back(nullptr);
        variables.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 1, (out_ / "out").c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
        posix_spawn_file_actions_addopen(&actions, 2, (out_ / "err").c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);  // so that kill() reaches all ranks
        posix_spawnattr_setpgroup(&attributes, 0);
        const int error = posix_spawnp(&pid_, arguments[0], &actions, &attributes, arguments.data(), variables.data());
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        BOOST_REQUIRE_MESSAGE(error == 0, "cannot start " << arguments[0] << ": " << std::strerror(error));
    }
    ~Process() {
        if (pid_ > 0) kill(SIGKILL), wait(10);
    }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    void signal(int number) const {
        if (pid_ > 0) ::kill(pid_, number);
    }
    void kill(int number) const {
        if (pid_ > 0) ::kill(-pid_, number);
    }
    /// SIGKILL to the last rank that mpirun started, or to the program itself.
    void kill_a_rank() {
        pid_t victim = pid_;
        for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
            if (entry.path().filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
            std::string stat = io_testing::slurp(entry.path().string() + "/stat");  // "PID (NAME) STATE PPID ..."
            const auto end = stat.rfind(") ");
            if (end == std::string::npos || stat.find("(longlora") == std::string::npos) continue;
            if (std::atoi(stat.c_str() + end + 4) == pid_)
                victim = std::max(victim, static_cast<pid_t>(std::atoi(stat.c_str())));
        }
        if (!ended()) ::kill(victim, SIGKILL);
    }
    bool ended() {
        if (pid_ > 0 && waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = 0;
        return pid_ == 0;
    }
    Outcome wait(double seconds = 120) {
        const double limit = now_seconds() + seconds;
        bool late = false;
        while (!ended()) {
            if (now_seconds() > limit && !late) kill(SIGKILL), late = true;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        return {late                 ? 124
                : WIFEXITED(status_) ? WEXITSTATUS(status_)
                                     : 128 + WTERMSIG(status_),
                io_testing::slurp((out_ / "out")), io_testing::slurp((out_ / "err"))};
    }

private:
    io_testing::Scratch out_;
    pid_t pid_ = 0;
    int status_ = 0;
};

/// The command that starts the program on `ranks` ranks.
inline Words command(int ranks, const Words& arguments) {
    const Words program = Words{PROGRAM} + arguments;
    if (ranks == 1) return program;
    return Words{"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-q",
                 "-n",     std::to_string(ranks)} +
           program;
}

inline std::string line_of(const Words& words) {
    std::string line;
    for (const auto& word : words) line += (line.empty() ? "" : " ") + word;
    return line;
}

/// Everything under a folder: path -> size, "folder" for folders.
inline std::map<std::string, std::string> listing(const std::string& folder) {
    std::map<std::string, std::string> out;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
        out[entry.path().string().substr(folder.size())] =
            entry.is_directory() ? "folder" : std::to_string(entry.file_size());
    return out;
}

/// The lines of `text` that begin with "longlora: ". These are the program's messages, without those of mpirun.
inline Words sentences_of(const std::string& text) {
    Words out;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with("longlora: ")) out.push_back(line);
    return out;
}

/// A folder with model/ (golden "mha": vocabulary 256, 3 layers), data.h5 (20 documents of 300 tokens) and the files
/// that runs write.
class Workshop {
public:
    Workshop() {
        std::filesystem::copy(std::string(SOURCE_FOLDER) + "/tests/golden/mha", *this / "model",
                              std::filesystem::copy_options::recursive);
        make_data("data.h5", 256, 20, 1);
    }
    std::string operator/(const std::string& name) const { return folder_ / name; }
    const std::string& path() const { return folder_.folder; }

    /// Writes documents of tokens below 250 with a pattern that a model can learn; `seed` changes the content.
    void make_data(const std::string& name, std::int64_t vocabulary, int documents, std::uint64_t seed) const {
        std::vector<std::vector<std::int32_t>> contents;
        for (int d = 0; d < documents; ++d) {
            contents.emplace_back();
            for (int t = 0; t < 300; ++t)
                contents.back().push_back(
                    static_cast<std::int32_t>((7 * t + 13 * d + random_below(5, seed, d, t)) % 250));
        }
        TokenFileInfo info;
        info.tokenizer_kind = "none";
        info.vocabulary = vocabulary;
        write_token_file(*this / name, info, contents);
    }

    Outcome run(const Words& arguments, int ranks = 1) const {
        Outcome outcome = Process(command(ranks, arguments), path()).wait();
        if (outcome.code == 124) BOOST_ERROR("did not end in time: longlora " << line_of(arguments));
        return outcome;
    }
    /// Runs the program, which must end with exit code 0; otherwise its messages are shown.
    Outcome done(const Words& arguments, int ranks = 1) const {
        const Outcome outcome = run(arguments, ranks);
        BOOST_TEST(outcome.code == 0, "code " << outcome.code << " of longlora " << line_of(arguments) << "\n"
                                              << outcome.err);
        return outcome;
    }
    /// Runs the program with bad input: exit code 2 and one sentence that has all of `parts` and shows nothing of the
    /// implementation; no file is created or changes its size.
    void refused(const Words& arguments, const Words& parts, int ranks = 1, int code = 2) const {
        refused_as(command(ranks, arguments), parts, code);
    }
    void refused_as(const Words& words, const Words& parts, int code = 2) const {
        const auto before = listing(path());
        const Outcome outcome = Process(words, path()).wait();
        const Words sentences = sentences_of(outcome.err);
        std::string wrong;
        if (outcome.code != code) wrong += text("; exit code ", outcome.code, " instead of ", code);
        if (sentences.size() != 1) wrong += text("; ", sentences.size(), " sentences instead of one");
        for (const auto& part : parts)
            if (outcome.err.find(part) == std::string::npos) wrong += "; does not say \"" + part + "\"";
        for (const char* inside : {"internal", "std::", "vector::", "_M_", "json.exception", "longlora: longlora",
                                   "INI ", "required INT", "(/", "nullptr", "basic_string", "terminate called"})
            if (outcome.err.find(inside) != std::string::npos) wrong += text("; says \"", inside, "\"");
        if (listing(path()) != before) wrong += "; files were created or changed";
        BOOST_TEST(wrong.empty(), line_of(words) << wrong << "\n" << outcome.err);
        std::filesystem::remove_all(*this / "run");  // what a failed case left, for the next one
    }

private:
    io_testing::Scratch folder_;
};

/// The shortest training of a Workshop; `run` is the run folder.
inline Words training(const std::string& run = "run", int steps = 2) {
    return {"train",
            "--model",
            "model",
            "--data",
            "data.h5",
            "--run",
            run,
            "--context",
            "64",
            "--global-batch",
            "4",
            "--lr",
            "1e-3",
            "--warmup",
            std::to_string(std::min(steps, 2)),
            "--dtype",
            "float32",
            "--steps",
            std::to_string(steps)};
}

/// `words` with the option --name set to `value`, or without the option if `value` is "-".
inline Words with(Words words, const std::string& name, const std::string& value) {
    const auto found = std::find(words.begin(), words.end(), "--" + name);
    if (found != words.end()) words.erase(found, found + 2);
    return value == "-" ? words : words + Words{"--" + name, value};
}

}  // namespace longlora::program_testing
