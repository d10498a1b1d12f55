// A signal handler can only reach a variable of static storage; this file is its one owner.
#include "jobs/signals.h"

#include <csignal>
#include <initializer_list>

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

bool stop_signal_came() { return stop_came != 0; }

}  // namespace longlora
