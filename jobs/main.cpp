// longlora: finds the subcommand, starts and ends MPI, and turns errors into one sentence and an exit code. The work
// of each subcommand is in a folder of its own, for example jobs/train/command.cpp.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string_view>

#include "core/error.h"
#include "jobs/command_line/commands.h"
#include "jobs/process/launcher.h"
#include "jobs/process/signals.h"
#include "jobs/process/watchdog.h"
#include "parallel/agree.h"

namespace longlora {
namespace {

struct Command {
    const char* name;
    int (*run)(const Arguments&, const parallel::HostGroup&);
    const char* help;
    bool handles_stop_signals = false;  ///< the command reads stop_signal_came()
    bool only_reads = false;            ///< several processes, each on its own, do no harm
};

constexpr Command kCommands[] = {
    {"prepare", prepare_command, "text (.txt, .jsonl[.gz|.zst], .bin) -> token file"},
    {"train", train_command, "extend a model's context length; the same command resumes a stopped run", true},
    {"evaluate", evaluate_command, "perplexity at each context length, and how it was measured", true},
    {"export", export_command, "checkpoint -> Hugging Face model, PEFT adapter or LongLoRA files"},
    {"plan", plan_command, "memory, FLOPs and messages of a training step, before it runs"},
    {"status", status_command, "how far a run has come, and whether it is alive", false, true},
    {"inspect", inspect_command, "what is inside a token file, checkpoint, model or adapter", false, true},
};

void print_usage(std::FILE* out) {
    std::fprintf(out,
                 "longlora %s: context extension of Llama models by LongLoRA fine-tuning\n\nusage: longlora COMMAND "
                 "...    (mpirun -n N longlora COMMAND ... for several ranks)\n\n",
                 LONGLORA_VERSION);
    for (const auto& c : kCommands) std::fprintf(out, "  %-9s %s\n", c.name, c.help);
    std::fprintf(out,
                 "\n'longlora COMMAND --help' lists the options of a command.\nexit codes: 0 done, 2 bad input, 3 does "
                 "not fit, 4 loss or gradient not finite, 5 a rank is lost, 75 stopped with a checkpoint\n");
}

bool asks_for_help(const Arguments& arguments) {
    return std::ranges::any_of(arguments, [](const std::string& word) { return word == "--help" || word == "-h"; });
}

/// Refuses processes that were started together but do not see each other. Collective.
void check_launch(const parallel::HostGroup& group, const Launch& launch) {
    parallel::agree(group, [&] {
        const std::string problem = launch_problem(launch, group.size());
        require(problem.empty(), problem);
    });
}

int run_command(const Arguments& arguments, const parallel::HostGroup& group, const Launch& launch) {
    const std::string name = arguments.empty() ? "" : arguments[0];
    const bool leads = group.rank() == 0;
    if (name == "--help" || name == "-h" || name == "help") {
        if (leads) print_usage(stdout);
        return 0;
    }
    if (name == "--version") {
        if (leads) std::printf("longlora %s\n", LONGLORA_VERSION);
        return 0;
    }
    for (const auto& c : kCommands) {
        if (name != c.name) continue;
        if (!c.only_reads && !asks_for_help(arguments)) check_launch(group, launch);
        return c.run(Arguments(arguments.begin() + 1, arguments.end()), group);
    }
    if (leads && name.empty()) print_usage(stderr);
    if (leads && !name.empty())
        std::fprintf(stderr, "longlora: '%s' is not a command; 'longlora --help' lists them\n", name.c_str());
    return static_cast<int>(ExitCode::bad_input);
}

// A rank that has spent this many seconds in MPI_Init, MPI_Abort or MPI_Finalize ends itself.
constexpr double kInitSeconds = 600, kAbortSeconds = 10, kFinalizeSeconds = 60;

/// Prints what went wrong on this rank and ends all ranks, within kAbortSeconds even if stderr does not accept the
/// sentence.
void print_and_abort(const parallel::HostGroup& group, ExitCode code, const std::string& sentence) {
    if (group.size() > 1) exit_within(kAbortSeconds, static_cast<int>(code));
    std::fprintf(stderr, "longlora: %s\n", sentence.c_str());
    if (group.size() > 1) MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
}

/// An error that all ranks agreed on is printed once, and MPI ends in order. After any other error ranks may be
/// waiting for each other, so all are ended.
int run_and_report(const Arguments& arguments, const parallel::HostGroup& group, const Launch& launch) {
    try {
        return run_command(arguments, group, launch);
    } catch (const parallel::AgreedError& e) {
        if (group.rank() == 0) std::fprintf(stderr, "longlora: %s\n", e.what());
        return static_cast<int>(e.code);
    } catch (const std::exception& e) {
        const ExitCode code = exit_code_of(e);
        const std::string where = group.size() > 1 ? text(" (on rank ", group.rank(), ")") : "";
        print_and_abort(group, code,
                        sentence_of(e) + where +
                            (code == ExitCode::internal ? "; this is a fault of the program, please report it" : ""));
        return static_cast<int>(code);
    }
}

}  // namespace
}  // namespace longlora

int main(int argc, char** argv) {
    longlora::ignore_file_size_signal();
    longlora::explain_bus_errors();
    longlora::leave_crashes_to_the_system();
    for (const auto& command : longlora::kCommands)
        if (argc > 1 && command.handles_stop_signals && std::string_view(argv[1]) == command.name)
            longlora::take_stop_signals();
    int provided = 0, code = static_cast<int>(longlora::ExitCode::communication);
    const longlora::Launch launch = longlora::launch_of_environment([](const char* name) { return std::getenv(name); });
    {
        auto started = std::make_unique<longlora::Deadline>(longlora::kInitSeconds, code);
        MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
        const longlora::parallel::HostGroup group;
        started.reset();
        code = longlora::run_and_report({argv + 1, argv + argc}, group, launch);
    }
    // The work is done and on disk, so a rank that is lost now changes nothing.
    longlora::exit_within(longlora::kFinalizeSeconds, code);
    MPI_Finalize();
    return code;
}
