// Tests of the collectives of the simulated NCCL, on any number of ranks: every call, in place and out of place, the
// types, sums in rank order. nccl_messages_test.cpp tests sends and receives, nccl_errors_test.cpp deadlocks.
#include "nccl_testing.h"

#include <cmath>
#include <numeric>

using namespace sim::testing;

namespace {

/// Values of very different sizes, so that another order of addition gives another sum.
float value_of(int rank, int i) {
    return std::ldexp(1.0f + 0.37f * float(rank + 1) + 0.011f * float(i), (7 * rank + 3 * i) % 23);
}

std::vector<float> values_of(int rank, int count) {
    std::vector<float> values;
    for (int i = 0; i < count; ++i) values.push_back(value_of(rank, i));
    return values;
}

float sum_in_rank_order(int size, int i) {
    float sum = value_of(0, i);
    for (int rank = 1; rank < size; ++rank) sum += value_of(rank, i);
    return sum;
}

constexpr int kCount = 37;

}  // namespace

BOOST_AUTO_TEST_SUITE(nccl_collectives)

BOOST_AUTO_TEST_CASE(all_gather) {
    const TestCommunicator comm;
    const TestStream stream;
    for (const bool in_place : {false, true}) {
        const DeviceBuffer<float> part(values_of(comm.rank, kCount)), whole(std::size_t(kCount * comm.size));
        float* own = whole.get() + kCount * comm.rank;
        if (in_place) ok(cudaMemcpyAsync(own, part.get(), part.bytes(), cudaMemcpyDeviceToDevice, stream));
        ok(ncclAllGather(in_place ? own : part.get(), whole.get(), kCount, ncclFloat32, comm, stream));
        stream.synchronize();
        const auto values = whole.values();
        for (int rank = 0; rank < comm.size; ++rank)
            for (int i = 0; i < kCount; ++i) BOOST_TEST(values[std::size_t(rank * kCount + i)] == value_of(rank, i));
    }
}

BOOST_AUTO_TEST_CASE(reduce_scatter) {
    const TestCommunicator comm;
    const TestStream stream;
    for (const bool in_place : {false, true}) {
        const DeviceBuffer<float> whole(values_of(comm.rank, kCount * comm.size)), part(kCount);
        float* to = in_place ? whole.get() + kCount * comm.rank : part.get();
        ok(ncclReduceScatter(whole.get(), to, kCount, ncclFloat32, ncclSum, comm, stream));
        stream.synchronize();
        std::vector<float> sums(kCount);
        ok(cudaMemcpy(sums.data(), to, sizeof(float) * kCount, cudaMemcpyDeviceToHost));
        for (int i = 0; i < kCount; ++i)
            BOOST_TEST(sums[std::size_t(i)] == sum_in_rank_order(comm.size, comm.rank * kCount + i));
    }
}

BOOST_AUTO_TEST_CASE(all_reduce) {
    const TestCommunicator comm;
    const TestStream stream;
    const DeviceBuffer<float> from(values_of(comm.rank, kCount)), to(kCount);
    ok(ncclAllReduce(from.get(), to.get(), kCount, ncclFloat32, ncclSum, comm, stream));
    ok(ncclAllReduce(from.get(), from.get(), kCount, ncclFloat32, ncclMax, comm, stream));
    stream.synchronize();
    for (int i = 0; i < kCount; ++i) {
        float most = value_of(0, i);
        for (int rank = 1; rank < comm.size; ++rank) most = std::max(most, value_of(rank, i));
        BOOST_TEST(to.values()[std::size_t(i)] == sum_in_rank_order(comm.size, i));
        BOOST_TEST(from.values()[std::size_t(i)] == most);
    }
}

BOOST_AUTO_TEST_CASE(sums_of_other_types) {
    const TestCommunicator comm;
    const TestStream stream;
    const DeviceBuffer<double> wide(std::vector<double>{0.1 * (comm.rank + 1)});
    const DeviceBuffer<std::int64_t> whole(std::vector<std::int64_t>{std::int64_t{1} << (40 + comm.rank)});
    // Rank 0 has 1, every other rank 2^-8. A sum in fp32 rounds once; in bf16 each 2^-8 would be lost.
    const DeviceBuffer<std::uint16_t> narrow(std::vector<std::uint16_t>{std::uint16_t(comm.rank ? 0x3B80 : 0x3F80)});
    grouped([&] {
        ok(ncclAllReduce(wide.get(), wide.get(), 1, ncclFloat64, ncclSum, comm, stream));
        ok(ncclAllReduce(whole.get(), whole.get(), 1, ncclInt64, ncclSum, comm, stream));
        ok(ncclAllReduce(narrow.get(), narrow.get(), 1, ncclBfloat16, ncclSum, comm, stream));
    });
    stream.synchronize();
    double sum = 0.1;
    for (int rank = 1; rank < comm.size; ++rank) sum += 0.1 * (rank + 1);
    BOOST_TEST(wide.values()[0] == sum);
    BOOST_TEST(whole.values()[0] == ((std::int64_t{1} << comm.size) - 1) << 40);
    const std::vector sums{0x3F80, 0x3F80, 0x3F81, 0x3F82};  // 1 + 2^-8 and 1 + 3 * 2^-8 are ties and round to even
    if (comm.size <= 4) BOOST_TEST(narrow.values()[0] == sums[std::size_t(comm.size - 1)]);
    sim::testing::throws<sim::probe::Misuse>(
        [&] { return ncclAllReduce(narrow.get(), narrow.get(), 1, ncclFloat16, ncclSum, comm, stream); },
        "not simulated");
}

BOOST_AUTO_TEST_CASE(broadcast) {
    const TestCommunicator comm;
    const TestStream stream;
    for (int root = 0; root < comm.size; ++root) {
        const DeviceBuffer<float> from(values_of(root, kCount)), to(kCount);
        ok(ncclBroadcast(comm.rank == root ? from.get() : nullptr, to.get(), kCount, ncclFloat32, root, comm, stream));
        stream.synchronize();
        BOOST_TEST(to.values() == values_of(root, kCount));
    }
}

BOOST_AUTO_TEST_CASE(communicators_of_some_ranks) {
    MPI_Comm half = MPI_COMM_NULL;
    MPI_Comm_split(MPI_COMM_WORLD, world_rank() % 2, -world_rank(), &half);  // ranks in reverse order
    {
        const TestCommunicator all, own(half);
        const TestStream stream;
        const DeviceBuffer<int> ranks(std::size_t(own.size)), mine(std::vector<int>{world_rank()});
        int count = 0, rank = -1, device = -1;
        ok(ncclAllGather(mine.get(), ranks.get(), 1, ncclInt32, own, stream));
        stream.synchronize();
        for (int i = 0; i < own.size; ++i) BOOST_TEST(ranks.values()[std::size_t(i)] % 2 == world_rank() % 2);
        BOOST_TEST(ranks.values()[std::size_t(own.rank)] == world_rank());
        ok(ncclCommCount(own, &count));
        ok(ncclCommUserRank(own, &rank));
        ok(ncclCommCuDevice(own, &device));
        BOOST_TEST(count == own.size);
        BOOST_TEST(rank == own.rank);
        BOOST_TEST(device == world_rank());
    }
    MPI_Comm_free(&half);
}

BOOST_AUTO_TEST_CASE(two_ranks_on_one_device_are_refused) {
    ok(cudaSetDevice(0));
    ncclUniqueId id{};
    ncclComm_t comm = nullptr;
    if (!world_rank()) ok(ncclGetUniqueId(&id));
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    if (world_size() > 1) {
        BOOST_TEST(ncclCommInitRank(&comm, world_size(), id, world_rank()) == ncclInvalidUsage);
        BOOST_TEST(std::string(ncclGetLastError(nullptr)).starts_with("Duplicate GPU detected : rank 0 and rank 1"));
    }
    use_own_device();
}

BOOST_AUTO_TEST_CASE(a_communicator_that_does_not_block_is_asked_until_it_is_ready) {
    use_own_device();
    ncclUniqueId id{};
    ncclComm_t comm = nullptr;
    if (!world_rank()) ok(ncclGetUniqueId(&id));
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    BOOST_TEST(ncclCommInitRankConfig(&comm, world_size(), id, world_rank(), &config) == ncclInProgress);
    const TestStream stream;
    const DeviceBuffer<float> x(std::vector<float>{1});
    throws<sim::probe::Misuse>([&] { return ncclAllReduce(x.get(), x.get(), 1, ncclFloat32, ncclSum, comm, stream); },
                               "may be in progress");
    ncclResult_t state = ncclInProgress;
    while (state == ncclInProgress) ok(ncclCommGetAsyncError(comm, &state));
    BOOST_TEST(ncclAllReduce(x.get(), x.get(), 1, ncclFloat32, ncclSum, comm, stream) == ncclInProgress);
    state = ncclInProgress;
    while (state == ncclInProgress) ok(ncclCommGetAsyncError(comm, &state));
    stream.synchronize();
    BOOST_TEST(x.values()[0] == world_size());
    BOOST_TEST(ncclCommFinalize(comm) == ncclInProgress);
    ok(ncclCommDestroy(comm));
}

BOOST_AUTO_TEST_SUITE_END()
