// Watchdog: a thread that ends the process with exit code 5 when the main thread makes no progress for too long, so that a lost rank is never a hang.
// It calls no MPI.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

namespace longlora {

class Watchdog {
public:
    /// rank names the process in the message.
    Watchdog(double timeout_seconds, int rank);
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    /// The main thread made progress.
    void alive() { ++progress_; }

private:
    void watch();
    const double timeout_;
    const int rank_;
    std::atomic<std::int64_t> progress_{0};
    std::mutex mutex_;
    std::condition_variable changed_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace longlora
