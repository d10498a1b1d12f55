// A thread waits for the signals that ask to stop; all other threads block them. So no handler ever runs on the stack
// of a thread that computes. oneDNN 2.6.3 does not survive a signal frame on its stack: 20,000 products of 100 x 100
// floats under a timer with an empty handler end in a corrupted heap.
#include "jobs/process/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "core/error.h"

namespace longlora {
namespace {

std::atomic<bool> stop_came = false;

}  // namespace

void take_stop_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::thread([signals] {
        for (int signal = 0; sigwait(&signals, &signal) == 0;) stop_came = true;
    }).detach();  // the thread lives as long as the process
}

void ignore_file_size_signal() { std::signal(SIGXFSZ, SIG_IGN); }

void explain_bus_errors() {
    struct sigaction action = {};
    action.sa_flags = SA_SIGINFO | SA_RESETHAND;
    action.sa_sigaction = [](int, siginfo_t* info, void*) {
        // Another cause, such as broken memory: on return the signal comes again and has its default effect.
        if (info->si_code != BUS_ADRERR) return;
        constexpr char kSentence[] =
            "longlora: a file of weights that is mapped into memory cannot be read, because it was cut short meanwhile "
            "or its disk fails; use another copy of the file\n";
        static_cast<void>(!write(STDERR_FILENO, kSentence, sizeof kSentence - 1));
        _exit(static_cast<int>(ExitCode::bad_input));
    };
    sigaction(SIGBUS, &action, nullptr);
}

void leave_crashes_to_the_system() { setenv("OMPI_MCA_opal_signal", "", 0); }

bool stop_signal_came() { return stop_came; }

}  // namespace longlora
