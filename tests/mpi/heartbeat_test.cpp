// A waiting rank hears the heartbeats of a computing rank, whichever ranks the two are, and hears nothing when no rank
// sends heartbeats.
#include "parallel/heartbeat.h"

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <thread>

#include "parallel/communicator.h"

using namespace longlora;

BOOST_AUTO_TEST_SUITE(heartbeat)

BOOST_AUTO_TEST_CASE(a_waiting_rank_hears_a_computing_rank) {
    const parallel::HostGroup group;
    int heard = 0;
    parallel::Heartbeat heartbeat(group, 0.01, [&] { ++heard; });
    const auto device = make_cpu_device({.memory_bytes = 1 << 20, .num_threads = 1, .instruction_set = ""});
    parallel::CommunicatorOptions options;
    options.while_waiting = [&] { heartbeat.receive(); };
    const auto communicator = parallel::make_mpi_communicator(*device, group.handle(), options);
    const ArenaTensor x = device->memory().tensor(DType::float32, {1}, Use::exchange);
    device->ops().fill(x, 1);
    // One rank works for a while, with or without heartbeats, before it joins the all_reduce; the others wait for it.
    const auto work = [&](int worker, bool beats) {
        heard = 0;
        if (group.rank() == worker)
            for (int part = 0; part < 30; ++part) {
                std::this_thread::sleep_for(std::chrono::milliseconds(10));
                if (beats) heartbeat.send();
            }
        communicator->all_reduce(x, Device::compute_stream()).finish();
        return heard;
    };
    for (int worker = 0; worker < group.size(); ++worker)
        BOOST_TEST_CONTEXT("rank " << worker << " computes") BOOST_CHECK_GT(work(worker, true), 0);
    // Lets the last heartbeats be passed on and heard, so that none are under way below.
    for (int round = 0; round < 3; ++round) {
        group.barrier();
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        heartbeat.receive();
    }
    group.barrier();
    for (int worker = 0; worker < group.size(); ++worker)
        BOOST_TEST_CONTEXT("rank " << worker << " is silent") BOOST_CHECK_EQUAL(work(worker, false), 0);
}

BOOST_AUTO_TEST_SUITE_END()
