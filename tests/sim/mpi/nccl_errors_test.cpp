// Tests of errors in NCCL calls that end the process: deadlocks, ranks that make different calls, ranks that use two
// communicators in different orders. A test of the suite nccl_errors starts this program again for each scenario, as
// `mpirun -n 2 PROGRAM --run_test=nccl_scenario/NAME` with SIM_NCCL_SCENARIO set, and checks its exit code and output.
// Without SIM_NCCL_SCENARIO the cases of the suite nccl_scenario do nothing.
#include "nccl_testing.h"

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

using namespace sim::testing;

namespace {

/// Whether this process was started to run a scenario.
bool is_scenario() { return std::getenv("SIM_NCCL_SCENARIO") != nullptr; }

struct Ended {
    int code = 0;
    std::string said;
};

/// Runs a scenario with a clean environment: an mpirun inside of mpirun must not see the variables of the outer one.
Ended run_scenario(const std::string& name, int timeout = 30) {
    const std::string program = std::filesystem::read_symlink("/proc/self/exe");
    const std::string command =
        "env -i PATH=\"$PATH\" HOME=\"$HOME\" LD_LIBRARY_PATH=\"$LD_LIBRARY_PATH\" SIM_NCCL_SCENARIO=1 "
        "OMP_NUM_THREADS=1 SIM_NCCL_TIMEOUT=" +
        std::to_string(timeout) + " timeout 60 mpirun --allow-run-as-root --oversubscribe --bind-to none -n 2 " +
        program + " --run_test=nccl_scenario/" + name + " 2>&1";
    Ended ended;
    std::FILE* output = popen(command.c_str(), "r");
    BOOST_REQUIRE(output);
    std::array<char, 4096> part{};
    while (const std::size_t bytes = std::fread(part.data(), 1, part.size(), output))
        ended.said.append(part.data(), bytes);
    const int status = pclose(output);
    ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return ended;
}

void check_scenario(const char* name, const char* sentence, int timeout = 30) {
    if (world_rank() || world_size() != 2 || is_scenario()) return;  // rank 0 of two ranks starts the scenario
    const Ended ended = run_scenario(name, timeout);
    BOOST_TEST(ended.code == 70);
    const bool found = ended.said.find(sentence) != std::string::npos;
    BOOST_TEST(found);
    if (!found) BOOST_TEST_MESSAGE(ended.said);
}

/// Two communicators, with a stream and a buffer for each.
struct Pair {
    explicit Pair(bool connected = true) {
        if (connected) first.connect(), second.connect();
    }
    TestCommunicator first, second;
    TestStream a, b;
    DeviceBuffer<float> x{std::vector<float>{1}}, y{std::vector<float>{1}};
    void reduce_first() const { ok(ncclAllReduce(x.get(), x.get(), 1, ncclFloat32, ncclSum, first, a)); }
    void reduce_second() const { ok(ncclAllReduce(y.get(), y.get(), 1, ncclFloat32, ncclSum, second, b)); }
    void swap(ncclComm_t comm, cudaStream_t stream, const DeviceBuffer<float>& data,
              const DeviceBuffer<float>& to) const {
        grouped([&] {
            ok(ncclSend(data.get(), 1, ncclFloat32, 1 - first.rank, comm, stream));
            ok(ncclRecv(to.get(), 1, ncclFloat32, 1 - first.rank, comm, stream));
        });
    }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(nccl_scenario)

BOOST_AUTO_TEST_CASE(nobody_sends) {
    if (!is_scenario()) return;
    const TestCommunicator comm;
    comm.connect();
    const TestStream stream;
    const DeviceBuffer<float> x(1);
    if (comm.rank == 0) ok(ncclRecv(x.get(), 1, ncclFloat32, 1, comm, stream));
    stream.synchronize();
}

// NCCL buffers no message, so neither send ends.
BOOST_AUTO_TEST_CASE(both_send_first) {
    if (!is_scenario()) return;
    const TestCommunicator comm;
    comm.connect();
    const TestStream stream;
    const DeviceBuffer<float> x(std::vector<float>{1}), y(1);
    ok(ncclSend(x.get(), 1, ncclFloat32, 1 - comm.rank, comm, stream));
    ok(ncclRecv(y.get(), 1, ncclFloat32, 1 - comm.rank, comm, stream));
    stream.synchronize();
}

BOOST_AUTO_TEST_CASE(different_counts) {
    if (!is_scenario()) return;
    const TestCommunicator comm;
    const TestStream stream;
    const DeviceBuffer<float> x(std::vector<float>(4, 1.0f));
    ok(ncclAllReduce(x.get(), x.get(), comm.rank ? 3 : 4, ncclFloat32, ncclSum, comm, stream));
    stream.synchronize();
}

BOOST_AUTO_TEST_CASE(different_calls) {
    if (!is_scenario()) return;
    const TestCommunicator comm;
    const TestStream stream;
    const DeviceBuffer<float> x(std::vector<float>(4, 1.0f));
    if (comm.rank) ok(ncclAllReduce(x.get(), x.get(), 4, ncclFloat32, ncclSum, comm, stream));
    else ok(ncclBroadcast(x.get(), x.get(), 4, ncclFloat32, 0, comm, stream));
    stream.synchronize();
}

BOOST_AUTO_TEST_CASE(collectives_in_different_orders) {
    if (!is_scenario()) return;
    const Pair pair;
    pair.first.rank ? pair.reduce_first() : pair.reduce_second();
    pair.first.rank ? pair.reduce_second() : pair.reduce_first();
    ok(cudaDeviceSynchronize());  // the collectives match; only their order is wrong
}

BOOST_AUTO_TEST_CASE(exchanges_in_different_orders) {
    if (!is_scenario()) return;
    const Pair pair;
    const DeviceBuffer<float> to_x(1), to_y(1);
    if (pair.first.rank) pair.swap(pair.first, pair.a, pair.x, to_x);
    pair.swap(pair.second, pair.b, pair.y, to_y);
    if (!pair.first.rank) pair.swap(pair.first, pair.a, pair.x, to_x);
    ok(cudaDeviceSynchronize());
}

// The messages go in opposite directions and need no order. But the first message between two ranks makes the hosts
// wait for each other.
BOOST_AUTO_TEST_CASE(hosts_connect_in_different_orders) {
    if (!is_scenario()) return;
    const Pair pair(false);
    const auto one_way = [&](bool away, ncclComm_t comm, cudaStream_t stream, const DeviceBuffer<float>& data) {
        if (away) ok(ncclSend(data.get(), 1, ncclFloat32, 1 - pair.first.rank, comm, stream));
        else ok(ncclRecv(data.get(), 1, ncclFloat32, 1 - pair.first.rank, comm, stream));
    };
    if (pair.first.rank) one_way(false, pair.first, pair.a, pair.x), one_way(true, pair.second, pair.b, pair.y);
    else one_way(false, pair.second, pair.b, pair.y), one_way(true, pair.first, pair.a, pair.x);
    ok(cudaDeviceSynchronize());
}

// The forward and backward messages of a pipeline, after the ranks have connected: no error.
BOOST_AUTO_TEST_CASE(one_way_messages_of_two_communicators_in_any_order) {
    if (!is_scenario()) return;
    const Pair pair;
    const auto forward = [&] {
        if (pair.first.rank) ok(ncclRecv(pair.x.get(), 1, ncclFloat32, 0, pair.first, pair.a));
        else ok(ncclSend(pair.x.get(), 1, ncclFloat32, 1, pair.first, pair.a));
    };
    const auto backward = [&] {
        if (pair.first.rank) ok(ncclSend(pair.y.get(), 1, ncclFloat32, 0, pair.second, pair.b));
        else ok(ncclRecv(pair.y.get(), 1, ncclFloat32, 1, pair.second, pair.b));
    };
    pair.first.rank ? forward() : backward();
    pair.first.rank ? backward() : forward();
    ok(cudaDeviceSynchronize());
}

BOOST_AUTO_TEST_CASE(an_abort_lets_the_program_end) {
    if (!is_scenario()) return;
    use_own_device();
    ncclUniqueId id{};
    ncclComm_t comm = nullptr;
    if (!world_rank()) ok(ncclGetUniqueId(&id));
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    ok(ncclCommInitRank(&comm, 2, id, world_rank()));
    connect_all(comm, world_rank(), 2);
    const TestStream stream;
    const DeviceBuffer<float> x(1);
    ok(ncclRecv(x.get(), 1, ncclFloat32, 1 - world_rank(), comm, stream));  // no rank sends this message
    BOOST_TEST(cudaStreamQuery(stream) == cudaErrorNotReady);
    ok(ncclCommAbort(comm));
    stream.synchronize();
}

BOOST_AUTO_TEST_CASE(a_message_nobody_waits_for_is_sent_before_the_end) {
    if (!is_scenario()) return;
    use_own_device();
    ncclUniqueId id{};
    ncclComm_t comm = nullptr;
    if (!world_rank()) ok(ncclGetUniqueId(&id));
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    ok(ncclCommInitRank(&comm, 2, id, world_rank()));
    cudaStream_t stream = nullptr;
    ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    float* x = nullptr;
    ok(cudaMalloc(reinterpret_cast<void**>(&x), sizeof(float)));
    ok(cudaMemset(x, 0, sizeof(float)));
    ok(cudaDeviceSynchronize());
    if (world_rank()) {
        ok(ncclRecv(x, 1, ncclFloat32, 0, comm, stream));
        ok(cudaStreamSynchronize(stream));
    } else ok(ncclSend(x, 1, ncclFloat32, 1, comm, stream));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(nccl_errors)

BOOST_AUTO_TEST_CASE(a_receive_that_nobody_sends_is_a_deadlock) {
    check_scenario("nobody_sends",
                   "simulated device: NCCL: deadlock? communicator 0.0 (rank 0 of 2) has waited 2 s (SIM_NCCL_TIMEOUT) "
                   "in its operation 1, ncclRecv: nothing has come from rank 1",
                   2);
}

BOOST_AUTO_TEST_CASE(two_sends_before_two_receives_are_a_deadlock) {
    check_scenario("both_send_first", "in its operation 1, ncclSend: rank ", 2);
}

BOOST_AUTO_TEST_CASE(first_messages_wait_on_the_host) {
    check_scenario("hosts_connect_in_different_orders", "(SIM_NCCL_TIMEOUT) on the host to connect with rank ", 2);
}

BOOST_AUTO_TEST_CASE(ranks_with_different_calls_are_reported) {
    check_scenario("different_counts", "NCCL: ranks of a communicator do different things: rank ");
    check_scenario("different_calls", "broadcast of 4 float32 from root 0");
}

BOOST_AUTO_TEST_CASE(orders_of_communicators_are_compared) {
    check_scenario("collectives_in_different_orders", "issue their operations in different orders");
    check_scenario("exchanges_in_different_orders", "issue their operations in different orders");
}

BOOST_AUTO_TEST_CASE(correct_programs_end_well) {
    for (const char* name : {"one_way_messages_of_two_communicators_in_any_order", "an_abort_lets_the_program_end",
                             "a_message_nobody_waits_for_is_sent_before_the_end"}) {
        if (world_rank() || world_size() != 2 || is_scenario()) break;
        const Ended ended = run_scenario(name);
        BOOST_TEST(ended.code == 0);
        if (ended.code) BOOST_TEST_MESSAGE(name << ": " << ended.said);
    }
}

BOOST_AUTO_TEST_SUITE_END()
