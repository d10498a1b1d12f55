// Heartbeat: ranks that compute tell the others now and then, so that waiting for a slow rank is not taken for a hang,
// and a hang not for waiting. Empty messages on a communicator of its own, to rank 0 and from there to all. What
// follows from silence is the caller's business (jobs/process/watchdog.h).
#pragma once

#include <mpi.h>

#include <functional>

#include "parallel/host_group.h"

namespace longlora::parallel {

class Heartbeat {
public:
    /// Collective over `group`. alive(): called when this rank computes, or hears that another one does.
    /// interval_seconds: between two beats of a rank.
    Heartbeat(const HostGroup& group, double interval_seconds, std::function<void()> alive);
    ~Heartbeat();
    Heartbeat(const Heartbeat&) = delete;
    Heartbeat& operator=(const Heartbeat&) = delete;

    /// This rank computes: call it between parts of long work. Cheap. Main thread.
    void beat();
    /// This rank waits for others: call it now and then meanwhile. Main thread.
    void listen();

private:
    bool hear();
    void tell();
    MPI_Comm comm_ = MPI_COMM_NULL;
    int rank_ = 0, size_ = 1;
    double interval_, last_told_ = 0, last_heard_ = 0;
    std::function<void()> alive_;
};

}  // namespace longlora::parallel
