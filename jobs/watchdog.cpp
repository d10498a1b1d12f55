// The process is ended without cleaning up: the main thread may hang inside MPI.
#include "jobs/watchdog.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "core/clock.h"
#include "core/error.h"

namespace longlora {

Watchdog::Watchdog(double timeout_seconds, int rank) : timeout_(timeout_seconds), rank_(rank), thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void Watchdog::watch() {
    std::int64_t seen = -1;
    double since = now_seconds();
    std::unique_lock lock(mutex_);
    while (!stop_) {
        changed_.wait_for(lock, std::chrono::duration<double>(std::min(1.0, timeout_ / 4)));
        if (progress_ != seen) {
            seen = progress_;
            since = now_seconds();
        } else if (now_seconds() - since > timeout_) {
            std::fprintf(stderr, "longlora: rank %d made no progress for %s (--timeout); another rank may be lost; the same command goes on from the last checkpoint\n",
                         rank_, duration_text(timeout_).c_str());
            _exit(static_cast<int>(ExitCode::communication));
        }
    }
}

}  // namespace longlora
