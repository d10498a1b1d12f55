// The plan communicator against closed forms: bytes and messages of every call, and memory within its limit. It
// touches no tensor, since any touch on a plan device ends the process.
#include <boost/test/unit_test.hpp>
#include <functional>

#include "parallel/communicator.h"

using namespace longlora;
using namespace longlora::parallel;

namespace {

constexpr Stream kStream{0};

/// What each of `size` ranks sends in `call`.
std::vector<Traffic> traffic_of(int size, const std::function<void(Communicator&, Device&)>& call,
                                const CommunicatorOptions& options = {}) {
    std::vector<Traffic> out;
    for (int rank = 0; rank < size; ++rank) {
        const auto device = make_plan_device({.memory_bytes = std::int64_t{32} << 30});
        const auto communicator = make_plan_communicator(*device, rank, size, options);
        call(*communicator, *device);
        out.push_back(communicator->traffic());
        BOOST_CHECK_EQUAL(device->memory().in_use_bytes(), 0);
        BOOST_CHECK_LE(device->memory().at_peak()[static_cast<std::size_t>(Use::exchange)],
                       options.max_workspace + 256);
    }
    return out;
}

std::int64_t total_bytes(const std::vector<Traffic>& ranks) {
    std::int64_t sum = 0;
    for (const Traffic& rank : ranks) sum += rank.bytes;
    return sum;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_communicator)

BOOST_AUTO_TEST_CASE(all_gather_sends_the_own_part_to_every_other) {
    const auto ranks = traffic_of(4, [](Communicator& c, Device& d) {
        const ArenaTensor x = d.memory().tensor(DType::bfloat16, {10}, Use::weights);
        c.all_gather(x, kStream).finish();
    });
    const std::int64_t counts[] = {3, 3, 3, 1};
    for (std::size_t r = 0; r < 4; ++r) {
        BOOST_CHECK_EQUAL(ranks[r].bytes, counts[r] * 2 * 3);
        BOOST_CHECK_EQUAL(ranks[r].messages, 3);
    }
}

BOOST_AUTO_TEST_CASE(empty_parts_send_no_messages) {
    const auto ranks = traffic_of(4, [](Communicator& c, Device& d) {
        const ArenaTensor x = d.memory().tensor(DType::float32, {2}, Use::weights);
        c.all_gather(x, kStream).finish();
    });
    const std::int64_t messages[] = {3, 3, 0, 0};
    for (std::size_t r = 0; r < 4; ++r) BOOST_CHECK_EQUAL(ranks[r].messages, messages[r]);
}

BOOST_AUTO_TEST_CASE(reduce_scatter_sends_what_is_not_its_own) {
    for (const std::int64_t n : {1, 7, 1000}) {
        const auto ranks = traffic_of(3, [n](Communicator& c, Device& d) {
            const ArenaTensor x = d.memory().tensor(DType::float32, {n}, Use::gradients);
            const Shard own = shard_of(n, c.rank(), c.size());
            c.reduce_scatter(x->slice(own.begin, own.count), x, kStream).finish();
        });
        for (int r = 0; r < 3; ++r)
            BOOST_CHECK_EQUAL(ranks[static_cast<std::size_t>(r)].bytes, 4 * (n - shard_of(n, r, 3).count));
    }
}

BOOST_AUTO_TEST_CASE(all_reduce_small_sends_all_and_large_twice_the_rest) {
    for (const std::int64_t n : {1, 7, 16384, 16385, 1000003}) {
        const auto ranks = traffic_of(5, [n](Communicator& c, Device& d) {
            const ArenaTensor x = d.memory().tensor(DType::float32, {n}, Use::gradients);
            c.all_reduce(x, kStream).finish();
        });
        for (int r = 0; r < 5; ++r) {
            const std::int64_t own = shard_of(n, r, 5).count,
                               expected = n <= 16384 ? 4 * n * 4 : 4 * (n - own) + 4 * own * 4;
            BOOST_CHECK_EQUAL(ranks[static_cast<std::size_t>(r)].bytes, expected);
        }
    }
}

BOOST_AUTO_TEST_CASE(broadcast_moves_one_tensor_to_each_other_rank) {
    for (const std::int64_t n : {1, 7, 16384, 16385, 1000003})
        for (int root = 0; root < 3; ++root) {
            const auto ranks = traffic_of(3, [n, root](Communicator& c, Device& d) {
                const ArenaTensor x = d.memory().tensor(DType::float32, {n}, Use::weights);
                c.broadcast(x, root, kStream).finish();
            });
            BOOST_CHECK_EQUAL(total_bytes(ranks), 2 * 4 * n);
        }
}

BOOST_AUTO_TEST_CASE(long_messages_are_split) {
    const auto ranks = traffic_of(2,
                                  [](Communicator& c, Device& d) {
                                      const ArenaTensor x = d.memory().tensor(DType::float32, {1000}, Use::weights);
                                      if (c.rank() == 0) c.exchange({{1, x}}, {}, kStream).finish();
                                      else c.exchange({}, {{0, x}}, kStream).finish();
                                  },
                                  {.max_message = 999});
    BOOST_CHECK_EQUAL(ranks[0].messages, 5);  // 4000 = 4 * 999 + 4
    BOOST_CHECK_EQUAL(ranks[0].bytes, 4000);
    BOOST_CHECK_EQUAL(ranks[1].messages, 0);
}

BOOST_AUTO_TEST_CASE(workspace_of_a_long_reduction_is_bounded) {  // the bound itself is checked in traffic_of
    const std::int64_t n = 1'000'000'007;
    const auto ranks = traffic_of(8, [n](Communicator& c, Device& d) {
        const ArenaTensor x = d.memory().tensor(DType::float32, {n}, Use::gradients);
        c.all_reduce(x, kStream).finish();
    });
    BOOST_CHECK_EQUAL(total_bytes(ranks), 2 * 7 * 4 * n);
}

BOOST_AUTO_TEST_CASE(one_rank_has_nothing_to_do) {
    const auto ranks = traffic_of(1, [](Communicator& c, Device& d) {
        const ArenaTensor x = d.memory().tensor(DType::float32, {100}, Use::weights),
                          y = d.memory().tensor(DType::float32, {100}, Use::weights);
        c.all_gather(x, kStream).finish();
        c.all_reduce(x, kStream).finish();
        c.broadcast(x, 0, kStream).finish();
        c.reduce_scatter(x, x, kStream).finish();
        BOOST_CHECK_EQUAL(d.recorder().by_operation.count("copy"), 0);
        c.reduce_scatter(y, x, kStream).finish();
        BOOST_CHECK_EQUAL(d.recorder().by_operation.count("copy"), 1);
    });
    BOOST_CHECK_EQUAL(ranks[0].messages, 0);
}

BOOST_AUTO_TEST_CASE(wrong_arguments_are_refused) {
    const auto device = make_plan_device({.memory_bytes = 1 << 20});
    const auto c = make_plan_communicator(*device, 1, 3);
    const ArenaTensor x = device->memory().tensor(DType::float32, {9}, Use::weights),
                      half = device->memory().tensor(DType::bfloat16, {9}, Use::weights);
    BOOST_CHECK_THROW(c->reduce_scatter(x->slice(0, 3), x, kStream), std::logic_error);  // another rank's part
    BOOST_CHECK_THROW(c->reduce_scatter(x->slice(3, 2), x, kStream), std::logic_error);
    BOOST_CHECK_THROW(c->reduce_scatter(half->slice(3, 3), half, kStream), std::logic_error);
    BOOST_CHECK_THROW(c->all_reduce(half, kStream), std::logic_error);
    BOOST_CHECK_THROW(c->broadcast(x, 3, kStream), std::logic_error);
    BOOST_CHECK_THROW(c->exchange({{1, x}}, {}, kStream), std::logic_error);  // to itself
    BOOST_CHECK_THROW(c->exchange({}, {{-1, x}}, kStream), std::logic_error);
    BOOST_CHECK_THROW(c->all_gather(x->reshaped({3, 3}).columns(0, 2), kStream), std::logic_error);
    BOOST_CHECK_THROW(make_plan_communicator(*device, 3, 3), std::logic_error);
}

BOOST_AUTO_TEST_CASE(a_request_is_finished_once_and_may_move) {
    int finished = 0;
    Request a([&](Stream) { ++finished; }), b;
    BOOST_CHECK(a.pending() && !b.pending());
    b = std::move(a);
    BOOST_CHECK(!a.pending() && b.pending());
    b.finish();
    b.finish();
    BOOST_CHECK_EQUAL(finished, 1);
}

BOOST_AUTO_TEST_SUITE_END()
