// Tests of sends and receives of the simulated NCCL, and of the streams that they run on: an operation blocks only its
// own stream. nccl_errors_test.cpp tests deadlocks.
#include "nccl_testing.h"

#include <numeric>

using namespace sim::testing;
using sim::probe::Misuse;

namespace {

std::vector<int> numbers(int first, std::size_t count) {
    std::vector<int> values(count);
    std::iota(values.begin(), values.end(), first);
    return values;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(nccl_messages)

BOOST_AUTO_TEST_CASE(a_group_goes_round) {
    const TestCommunicator comm;
    const TestStream stream;
    const int next = (comm.rank + 1) % comm.size, previous = (comm.rank + comm.size - 1) % comm.size;
    // A single rank sends to itself.
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{1} << 20}) {
        const DeviceBuffer<int> from(numbers(comm.rank, count + 1)), to(count + 1);
        grouped([&] {
            ok(ncclSend(from.get(), count, ncclInt32, next, comm, stream));
            ok(ncclRecv(to.get(), count, ncclInt32, previous, comm, stream));
        });
        stream.synchronize();
        std::vector<int> arrived(count);
        ok(cudaMemcpy(arrived.data(), to.get(), sizeof(int) * count, cudaMemcpyDefault));
        BOOST_TEST(arrived == numbers(previous, count));
    }
}

BOOST_AUTO_TEST_CASE(long_messages_are_split) {
    const sim::probe::ChangedSettings small([](auto& settings) { settings.nccl_piece_bytes = 1000; });
    const TestCommunicator comm;
    const TestStream stream;
    const int next = (comm.rank + 1) % comm.size, previous = (comm.rank + comm.size - 1) % comm.size;
    for (const std::size_t count : {std::size_t{249}, std::size_t{250}, std::size_t{251}, std::size_t{12345}}) {
        const DeviceBuffer<int> from(numbers(comm.rank, count)), to(count);
        grouped([&] {
            ok(ncclSend(from.get(), count, ncclInt32, next, comm, stream));
            ok(ncclRecv(to.get(), count, ncclInt32, previous, comm, stream));
        });
        stream.synchronize();
        BOOST_TEST(to.values() == numbers(previous, count));
    }
}

BOOST_AUTO_TEST_CASE(every_rank_with_every_rank_in_one_group_in_order) {
    const TestCommunicator comm;
    const TestStream stream;
    const auto size = std::size_t(comm.size);
    const DeviceBuffer<int> from(numbers(100 * comm.rank, 2 * size)), to(2 * size);
    grouped([&] {
        for (int peer = 0; peer < comm.size; ++peer)
            for (int i = 0; i < 2; ++i) {  // two messages between any two ranks, in order
                ok(ncclRecv(to.get() + 2 * peer + i, 1, ncclInt32, peer, comm, stream));
                ok(ncclSend(from.get() + 2 * peer + i, 1, ncclInt32, peer, comm, stream));
            }
    });
    stream.synchronize();
    for (int peer = 0; peer < comm.size; ++peer)
        for (int i = 0; i < 2; ++i)
            BOOST_TEST(to.values()[std::size_t(2 * peer + i)] == 100 * peer + 2 * comm.rank + i);
}

BOOST_AUTO_TEST_CASE(messages_are_taken_when_they_are_needed) {
    if (world_size() < 2) return;
    const TestCommunicator comm;
    const TestStream stream, compute;
    const TestEvent arrived;
    const DeviceBuffer<int> data(std::vector<int>{comm.rank ? -1 : 7});
    const PinnedBuffer<int> early(1), late(1);
    if (comm.rank == 0) ok(ncclSend(data.get(), 1, ncclInt32, 1, comm, stream));
    if (comm.rank == 1) {
        ok(ncclRecv(data.get(), 1, ncclInt32, 0, comm, stream));
        ok(cudaEventRecord(arrived, stream));
        ok(cudaMemcpyAsync(early.get(), data.get(), sizeof(int), cudaMemcpyDeviceToHost, compute));
        compute.synchronize();  // this copy did not wait for the event
        ok(cudaStreamWaitEvent(compute, arrived, 0));
        ok(cudaMemcpyAsync(late.get(), data.get(), sizeof(int), cudaMemcpyDeviceToHost, compute));
        compute.synchronize();
        BOOST_TEST(early[0] == -1);
        BOOST_TEST(late[0] == 7);
    }
    stream.synchronize();
}

BOOST_AUTO_TEST_CASE(a_message_under_way_blocks_no_other_stream) {
    if (world_size() < 2) return;
    const TestCommunicator comm;
    comm.connect();
    const TestStream messages, compute;
    const DeviceBuffer<int> data(std::vector<int>{comm.rank}), other(std::vector<int>{1});
    if (comm.rank == 1) {  // rank 0 sends only after rank 1 has computed and has sent an MPI message
        ok(ncclRecv(data.get(), 1, ncclInt32, 0, comm, messages));
        BOOST_TEST(cudaStreamQuery(messages) == cudaErrorNotReady);
        ok(cudaMemsetAsync(other.get(), 0, sizeof(int), compute));
        compute.synchronize();
        BOOST_TEST(other.values()[0] == 0);
        const int go = 1;
        MPI_Send(&go, 1, MPI_INT, 0, 0, MPI_COMM_WORLD);
        messages.synchronize();
        BOOST_TEST(data.values()[0] == 0);
    } else if (comm.rank == 0) {
        int go = 0;
        MPI_Recv(&go, 1, MPI_INT, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        ok(ncclSend(data.get(), 1, ncclInt32, 1, comm, messages));
        messages.synchronize();
    }
}

BOOST_AUTO_TEST_CASE(queued_messages_go_on_while_the_host_waits_in_mpi) {
    if (world_size() < 2) return;
    const TestCommunicator comm;
    const TestStream stream;
    const DeviceBuffer<int> data(std::vector<int>(1 << 18, comm.rank));
    // Rank 0 does not wait for this send.
    if (comm.rank == 0) ok(ncclSend(data.get(), 1 << 18, ncclInt32, 1, comm, stream));
    if (comm.rank == 1) {
        ok(ncclRecv(data.get(), 1 << 18, ncclInt32, 0, comm, stream));
        stream.synchronize();
        BOOST_TEST(data.values().back() == 0);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Request request = MPI_REQUEST_NULL;
    int mine = comm.rank, sum = 0, done = 0;
    if (comm.rank == 1) ok(ncclSend(data.get(), 1 << 18, ncclInt32, 0, comm, stream));
    if (comm.rank == 0) {
        ok(ncclRecv(data.get(), 1 << 18, ncclInt32, 1, comm, stream));
        stream.synchronize();
    }
    MPI_Iallreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &request);
    while (!done) MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    BOOST_TEST(sum == comm.size * (comm.size - 1) / 2);
}

BOOST_AUTO_TEST_CASE(two_communicators_forced_in_different_orders) {
    const TestCommunicator first, second;
    const TestStream a, b;
    const DeviceBuffer<float> x(std::vector<float>{1}), y(std::vector<float>{2});
    ok(ncclAllReduce(x.get(), x.get(), 1, ncclFloat32, ncclSum, first, a));
    ok(ncclAllReduce(y.get(), y.get(), 1, ncclFloat32, ncclSum, second, b));
    if (first.rank % 2) b.synchronize();
    a.synchronize();
    b.synchronize();
    BOOST_TEST(x.values()[0] == first.size);
    BOOST_TEST(y.values()[0] == 2 * first.size);
}

BOOST_AUTO_TEST_CASE(operations_of_one_communicator_run_in_order_on_any_streams) {
    const TestCommunicator comm;
    const TestStream a, b;
    const DeviceBuffer<float> x(std::vector<float>{1}), y(std::vector<float>{2});
    ok(ncclAllReduce(x.get(), x.get(), 1, ncclFloat32, ncclSum, comm, a));
    ok(ncclAllReduce(y.get(), y.get(), 1, ncclFloat32, ncclSum, comm, b));
    b.synchronize();
    BOOST_TEST(x.values()[0] == comm.size);
    BOOST_TEST(y.values()[0] == 2 * comm.size);
}

BOOST_AUTO_TEST_CASE(refusals) {
    const TestCommunicator comm;
    const TestStream stream;
    const DeviceBuffer<float> x(std::vector<float>(8, 1.0f));
    std::vector<float> host(8);
    throws<Misuse>([&] { return ncclAllReduce(host.data(), x.get(), 8, ncclFloat32, ncclSum, comm, stream); },
                   "is not device memory");
    throws<Misuse>([&] { return ncclAllReduce(x.get(), x.get(), 9, ncclFloat32, ncclSum, comm, stream); },
                   "reach over the bounds");
    throws<Misuse>([&] { return ncclAllReduce(x.get(), x.get() + 1, 4, ncclFloat32, ncclSum, comm, stream); },
                   "overlap");
    throws<Misuse>([&] { return ncclAllReduce(x.get(), x.get(), 8, ncclFloat32, ncclSum, comm, nullptr); },
                   "NULL stream");
    throws<Misuse>(
        [&] {
            ok(ncclGroupStart());
            ok(ncclSend(x.get(), 4, ncclFloat32, comm.rank, comm, stream));
            ok(ncclRecv(x.get() + 3, 4, ncclFloat32, comm.rank, comm, stream));
            return ncclGroupEnd();
        },
        "another call of its group");
    BOOST_TEST(ncclSend(x.get(), 8, ncclFloat32, comm.size, comm, stream) == ncclInvalidArgument);
    // A send of a rank to itself outside of a group:
    BOOST_TEST(ncclSend(x.get(), 8, ncclFloat32, comm.rank, comm, stream) == ncclInvalidArgument);
    BOOST_TEST(ncclGroupEnd() == ncclInvalidUsage);
    const DeviceBuffer<float> never_written(8);
    const DeviceBuffer<float> to(8 * std::size_t(comm.size));
    if (comm.size > 1) return;  // the other ranks would wait for this one, whose call fails
    ok(ncclAllGather(never_written.get(), to.get(), 8, ncclFloat32, comm, stream));
    throws<sim::ptx::Fault>([&] { return cudaStreamSynchronize(stream); }, "ncclAllGather");
}

BOOST_AUTO_TEST_SUITE_END()
