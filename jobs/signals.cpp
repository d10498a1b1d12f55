// A signal handler can only reach a variable of static storage; this file is its one owner.
#include "jobs/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <initializer_list>

#include "core/error.h"

namespace longlora {
namespace {

std::atomic<bool> stop_came = false;   // lock-free, so a handler may set it and any thread read it
static_assert(std::atomic<bool>::is_always_lock_free);
void on_signal(int) { stop_came = true; }

}  // namespace

void install_stop_signals() {
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    for (int signal : {SIGUSR1, SIGTERM}) sigaction(signal, &action, nullptr);
}

void ignore_file_size_signal() { std::signal(SIGXFSZ, SIG_IGN); }

void explain_bus_errors() {
    struct sigaction action = {};
    action.sa_flags = SA_SIGINFO | SA_RESETHAND;
    action.sa_sigaction = [](int, siginfo_t* info, void*) {
        if (info->si_code != BUS_ADRERR) return;   // broken memory, say: it comes again, and is not ours to explain
        constexpr char kSentence[] = "longlora: a file of weights that is mapped into memory cannot be read: it was cut short meanwhile, or its disk fails; use another copy of it\n";
        static_cast<void>(!write(STDERR_FILENO, kSentence, sizeof kSentence - 1));
        _exit(static_cast<int>(ExitCode::bad_input));
    };
    sigaction(SIGBUS, &action, nullptr);
}

bool stop_signal_came() { return stop_came; }

}  // namespace longlora
