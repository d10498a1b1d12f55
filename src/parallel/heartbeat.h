// Heartbeat: a rank that computes tells the others so now and then. So a rank that waits can tell a slow rank from
// one that hangs. A heartbeat is an empty message on a communicator of its own, to rank 0 and from rank 0 to all.
// What follows from silence is decided in jobs/process/watchdog.h.
#pragma once

#include <mpi.h>

#include <functional>

#include "parallel/host_group.h"

namespace longlora::parallel {

class Heartbeat {
public:
    /// Collective over `group`. Calls alive() when this rank computes and when it hears that another rank does.
    /// interval_seconds: time between two heartbeats that a rank sends.
    Heartbeat(const HostGroup& group, double interval_seconds, std::function<void()> alive);
    ~Heartbeat();
    Heartbeat(const Heartbeat&) = delete;
    Heartbeat& operator=(const Heartbeat&) = delete;

    /// This rank computes: call it between parts of long work. Cheap. Main thread only.
    void send();
    /// This rank waits for others: call it now and then during the wait. Main thread only.
    void receive();

private:
    bool hear();
    void tell();
    MPI_Comm comm_ = MPI_COMM_NULL;
    int rank_ = 0, size_ = 1;
    double interval_, last_told_ = 0, last_heard_ = 0;
    std::function<void()> alive_;
};

}  // namespace longlora::parallel
