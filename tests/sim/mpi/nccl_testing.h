// Helpers of the tests of the simulated NCCL: a communicator over ranks of the world, groups of calls, checked results.
// This file has no tests.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include <functional>
#include <vector>

#include "sim/unit/runtime_testing.h"

namespace sim::testing {

inline int world_rank() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}
inline int world_size() {
    int size = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

inline void ok(ncclResult_t result) {
    BOOST_REQUIRE_EQUAL(ncclGetErrorString(result), ncclGetErrorString(ncclSuccess));
}

/// Selects the rank's own device: NCCL refuses two ranks of a communicator on one device.
inline void use_own_device() { ok(cudaSetDevice(world_rank())); }

/// Makes the calls between ncclGroupStart and ncclGroupEnd.
inline void grouped(const std::function<void()>& calls) {
    ok(ncclGroupStart());
    calls();
    ok(ncclGroupEnd());
}

/// Sends a message from every rank to every other one, so that later messages do not wait on the host. Collective.
inline void connect_all(ncclComm_t comm, int rank, int size) {
    const TestStream stream;
    const std::vector<int> any(static_cast<std::size_t>(size), 1);
    const DeviceBuffer<int> from(any), to(any);
    grouped([&] {
        for (int peer = 0; peer < size; ++peer) {
            if (peer == rank) continue;
            ok(ncclSend(from.get() + peer, 1, ncclInt32, peer, comm, stream));
            ok(ncclRecv(to.get() + peer, 1, ncclInt32, peer, comm, stream));
        }
    });
    stream.synchronize();
}

/// A communicator of the ranks of `comm`. All of these ranks must construct it and destroy it.
class TestCommunicator {
public:
    explicit TestCommunicator(MPI_Comm comm = MPI_COMM_WORLD) {
        use_own_device();
        ncclUniqueId id{};
        MPI_Comm_rank(comm, &rank);
        MPI_Comm_size(comm, &size);
        if (!rank) ok(ncclGetUniqueId(&id));
        MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, comm);
        ok(ncclCommInitRank(&nccl_, size, id, rank));
    }
    ~TestCommunicator() { ncclCommDestroy(nccl_); }
    TestCommunicator(const TestCommunicator&) = delete;
    TestCommunicator& operator=(const TestCommunicator&) = delete;
    operator ncclComm_t() const { return nccl_; }
    /// Calls connect_all. Collective.
    void connect() const { connect_all(nccl_, rank, size); }

    int rank = 0, size = 1;

private:
    ncclComm_t nccl_ = nullptr;
};

}  // namespace sim::testing
