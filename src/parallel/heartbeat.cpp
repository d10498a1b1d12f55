// Rank 0 passes on the heartbeats that it receives. Ranks send heartbeats only while they compute, so a silent
// interval means that all are waiting.
#include "parallel/heartbeat.h"

#include "core/clock.h"
#include "parallel/mpi_check.h"

namespace longlora::parallel {
namespace {

constexpr int kTag = 0;
constexpr double kListenSeconds = 0.02;  // between two checks for messages

}  // namespace

Heartbeat::Heartbeat(const HostGroup& group, double interval_seconds, std::function<void()> alive)
    : comm_(duplicate(group.handle())),
      rank_(group.rank()),
      size_(group.size()),
      interval_(interval_seconds),
      alive_(std::move(alive)) {}

Heartbeat::~Heartbeat() { release(comm_); }

/// Receives the heartbeats that have arrived; returns whether there was one.
bool Heartbeat::hear() {
    const double now = now_seconds();
    if (size_ == 1 || now - last_heard_ < kListenSeconds) return false;
    last_heard_ = now;
    bool any = false;
    for (int found = 1; found;) {
        MPI_Status status;
        check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, kTag, comm_, &found, &status), "MPI_Iprobe", rank_);
        if (!found) break;
        check_mpi(MPI_Recv(nullptr, 0, MPI_BYTE, status.MPI_SOURCE, kTag, comm_, MPI_STATUS_IGNORE), "MPI_Recv", rank_);
        any = true;
    }
    return any;
}

/// Sends a heartbeat: rank 0 to all others, another rank to rank 0. No rank waits for it to arrive.
void Heartbeat::tell() {
    const double now = now_seconds();
    if (size_ == 1 || now - last_told_ < interval_) return;
    last_told_ = now;
    for (int to = rank_ == 0 ? 1 : 0; to < (rank_ == 0 ? size_ : 1); ++to) {
        MPI_Request request = MPI_REQUEST_NULL;
        check_mpi(MPI_Isend(nullptr, 0, MPI_BYTE, to, kTag, comm_, &request), "MPI_Isend", rank_);
        check_mpi(MPI_Request_free(&request), "MPI_Request_free", rank_);
    }
}

void Heartbeat::send() {
    alive_();
    hear();
    tell();
}

void Heartbeat::receive() {
    if (!hear()) return;
    alive_();
    if (rank_ == 0) tell();
}

}  // namespace longlora::parallel
