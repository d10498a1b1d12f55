// MPI hooks: on a real device, queued NCCL operations continue while the host waits in MPI. Here the host must run
// them, so the MPI calls in which the program waits are wrapped (through MPI's profiling interface) and let the
// operations advance. In MPI_Finalize, where all ranks are together, the orders of operations are compared.
#include "sim/runtime/mpi_world.h"
#include "sim/runtime/nccl_order.h"
#include "sim/runtime/process.h"
#include "sim/runtime/queue.h"

namespace sim::runtime {
namespace {

struct World {
    MPI_Comm messages = MPI_COMM_NULL;
    bool aborted = false;
};
World& world() {
    static World* const state = new World;
    return *state;
}

int initialised(int code) {
    if (code == MPI_SUCCESS) PMPI_Comm_dup(MPI_COMM_WORLD, &world().messages);
    return code;
}

/// Called repeatedly while the program waits in MPI, or tests whether a message has come.
void advance_while_waiting() {
    const std::lock_guard hold(api_lock());
    if (!mpi_is_usable()) return;
    try {
        if (advance_communication_if_idle()) idle_moment();
    } catch (const std::exception& error) {
        end_with(error);
    }
}

int wait_for(MPI_Request* request, MPI_Status* status) {
    for (;;) {
        int done = 0;
        if (const int code = PMPI_Test(request, &done, status); code != MPI_SUCCESS || done) return code;
        advance_while_waiting();
    }
}

int wait_after(int started, MPI_Request* request, MPI_Status* status = MPI_STATUS_IGNORE) {
    return started == MPI_SUCCESS ? wait_for(request, status) : started;
}

/// Other ranks may still need the operations that are queued here, so these run now; after that no rank waits for this
/// one.
void finish_communication() {
    const std::lock_guard hold(api_lock());
    try {
        std::vector<Point> communications;
        for (const auto& stream : all_streams()) communications.push_back({stream, stream->last_communication});
        force(communications);
        compare_orders(world().messages, world().aborted);
    } catch (const std::exception& error) {
        end_with(error);
    }
}

}  // namespace

MPI_Comm messages_of_world(std::string_view who) {
    if (world().messages == MPI_COMM_NULL)
        misuse(who, ": the simulated NCCL talks over MPI, which the program has not initialised");
    return world().messages;
}

bool mpi_is_usable() {
    int finalised = 0, main_thread = 0;
    PMPI_Finalized(&finalised);
    if (world().messages == MPI_COMM_NULL || finalised) return false;
    PMPI_Is_thread_main(&main_thread);
    return main_thread;
}

void note_abort() { world().aborted = true; }

}  // namespace sim::runtime

using namespace sim::runtime;

extern "C" {

int MPI_Init(int* argc, char*** argv) { return initialised(PMPI_Init(argc, argv)); }
int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
    return initialised(PMPI_Init_thread(argc, argv, required, provided));
}

int MPI_Finalize() {
    finish_communication();
    if (world().messages != MPI_COMM_NULL) PMPI_Comm_free(&world().messages);
    return PMPI_Finalize();
}

int MPI_Test(MPI_Request* request, int* done, MPI_Status* status) {
    const int code = PMPI_Test(request, done, status);
    if (code == MPI_SUCCESS && !*done) advance_while_waiting();
    return code;
}

int MPI_Iprobe(int from, int tag, MPI_Comm comm, int* there, MPI_Status* status) {
    const int code = PMPI_Iprobe(from, tag, comm, there, status);
    if (code == MPI_SUCCESS && !*there) advance_while_waiting();
    return code;
}

int MPI_Wait(MPI_Request* request, MPI_Status* status) { return wait_for(request, status); }

int MPI_Waitall(int count, MPI_Request requests[], MPI_Status statuses[]) {
    for (;;) {
        int done = 0;
        if (const int code = PMPI_Testall(count, requests, &done, statuses); code != MPI_SUCCESS || done) return code;
        advance_while_waiting();
    }
}

int MPI_Send(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm) {
    MPI_Request request = MPI_REQUEST_NULL;
    return wait_after(PMPI_Isend(data, count, type, to, tag, comm, &request), &request);
}

int MPI_Recv(void* data, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Status* status) {
    MPI_Request request = MPI_REQUEST_NULL;
    return wait_after(PMPI_Irecv(data, count, type, from, tag, comm, &request), &request, status);
}

int MPI_Barrier(MPI_Comm comm) {
    MPI_Request request = MPI_REQUEST_NULL;
    return wait_after(PMPI_Ibarrier(comm, &request), &request);
}

int MPI_Allreduce(const void* from, void* to, int count, MPI_Datatype type, MPI_Op operation, MPI_Comm comm) {
    MPI_Request request = MPI_REQUEST_NULL;
    return wait_after(PMPI_Iallreduce(from, to, count, type, operation, comm, &request), &request);
}

int MPI_Bcast(void* data, int count, MPI_Datatype type, int root, MPI_Comm comm) {
    MPI_Request request = MPI_REQUEST_NULL;
    return wait_after(PMPI_Ibcast(data, count, type, root, comm, &request), &request);
}

int MPI_Allgather(const void* from, int from_count, MPI_Datatype from_type, void* to, int to_count,
                  MPI_Datatype to_type, MPI_Comm comm) {
    MPI_Request request = MPI_REQUEST_NULL;
    return wait_after(PMPI_Iallgather(from, from_count, from_type, to, to_count, to_type, comm, &request), &request);
}

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm* copy) {
    MPI_Request request = MPI_REQUEST_NULL;
    return wait_after(PMPI_Comm_idup(comm, copy, &request), &request);
}

}  // extern "C"
