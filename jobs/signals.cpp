// A signal handler can only reach a variable of static storage; this file is its one owner.
#include "jobs/signals.h"

#include <unistd.h>

#include <csignal>
#include <initializer_list>

#include "core/error.h"

namespace longlora {
namespace {

volatile std::sig_atomic_t stop_came = 0;
void on_signal(int) { stop_came = 1; }

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
    action.sa_handler = [](int) {
        constexpr char kSentence[] = "longlora: a file of weights that is mapped into memory cannot be read: it was cut short meanwhile, or its disk fails; use another copy of it\n";
        static_cast<void>(!write(STDERR_FILENO, kSentence, sizeof kSentence - 1));
        _exit(static_cast<int>(ExitCode::bad_input));
    };
    sigaction(SIGBUS, &action, nullptr);
}

bool stop_signal_came() { return stop_came != 0; }

}  // namespace longlora
