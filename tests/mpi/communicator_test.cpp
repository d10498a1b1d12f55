// The communicator of the test device (MPI; on a GPU NCCL) on as many ranks as mpirun started: every call, odd sizes,
// split messages, small workspaces. Sums have the bits of an ordered sum computed locally; traffic, memory and
// operations equal those of the plan communicator. Checks do not throw: a rank that left early would hang the others.
#include "parallel/communicator.h"

#include <boost/test/unit_test.hpp>
#include <cstring>

#include "core/random.h"
#include "parallel/host_group.h"
#include "tests/support/device_values.h"
#include "tests/support/preconditions.h"

using namespace longlora;
using namespace longlora::parallel;

namespace {

constexpr Stream kStream{0};

/// Numbers whose magnitudes differ so much that another order of addition gives other bits.
template <class T> T value_of(int rank, std::int64_t i) {
    const auto stream = static_cast<std::uint64_t>(rank), index = static_cast<std::uint64_t>(i);
    if constexpr (std::is_floating_point_v<T>)
        return static_cast<T>(
            std::ldexp(random_normal(5, stream, index), static_cast<int>(random_below(12, 6, stream, index))));
    else return static_cast<T>(random_bits(5, stream, index));
}

template <class T> std::vector<T> values_of(int rank, std::int64_t n) {
    std::vector<T> out;
    for (std::int64_t i = 0; i < n; ++i) out.push_back(value_of<T>(rank, i));
    return out;
}

template <class T> std::vector<T> ordered_sum(int size, std::int64_t n, bool backwards = false) {
    std::vector<T> out = values_of<T>(backwards ? size - 1 : 0, n);
    for (int r = 1; r < size; ++r)
        for (std::int64_t i = 0; i < n; ++i)
            out[static_cast<std::size_t>(i)] += value_of<T>(backwards ? size - 1 - r : r, i);
    return out;
}

template <class T> bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// A communicator and a plan communicator; each test makes the same calls on both.
struct Ranks {
    HostGroup group;
    std::unique_ptr<Device> device = make_test_device(256 << 20), plan_device = make_test_plan(256 << 20);
    std::vector<ArenaTensor> uploads;  // pinned memory that the device may still read
    std::unique_ptr<Communicator> communicator, plan;
    explicit Ranks(const CommunicatorOptions& options = {})
        : communicator(make_communicator(*device, MPI_COMM_WORLD, options)),
          plan(make_plan_communicator(*plan_device, group.rank(), group.size(), options)) {}
    int rank() const { return group.rank(); }
    int size() const { return group.size(); }

    /// A tensor of the device with these values.
    template <class T> ArenaTensor tensor(std::vector<T> values) {
        const auto n = static_cast<std::int64_t>(values.size());
        ArenaTensor out = device->memory().tensor(dtype_of<T>(), {n}, Use::weights);
        put(out, values);
        return out;
    }
    template <class T> void put(Tensor x, const std::vector<T>& values) {
        uploads.push_back(send_to_device(*device, x, values));
    }
    template <class T> std::vector<T> read(Tensor x) {
        std::vector<T> values = read_device<T>(*device, x);
        uploads.clear();  // read_device has waited for the device
        return values;
    }
    /// A tensor of the same shape on the plan device.
    ArenaTensor twin(const ArenaTensor& x) { return plan_device->memory().tensor(x->dtype, x->shape, Use::weights); }

    /// Traffic, memory and operations equal the plan's, and no memory is in use but the tensors of the test.
    void check_plan() {
        BOOST_CHECK_EQUAL(communicator->traffic().bytes, plan->traffic().bytes);
        BOOST_CHECK_EQUAL(communicator->traffic().messages, plan->traffic().messages);
        BOOST_CHECK_EQUAL(device->memory().high_water_bytes(), plan_device->memory().high_water_bytes());
        BOOST_CHECK_EQUAL(device->memory().in_use_bytes(), plan_device->memory().in_use_bytes());
        for (const char* name : {"add", "copy", "fill"}) {
            const auto& mine = device->recorder().by_operation[name];
            const auto& planned = plan_device->recorder().by_operation[name];
            BOOST_CHECK_EQUAL(mine.calls, planned.calls);
            BOOST_CHECK_EQUAL(mine.bytes, planned.bytes);
        }
    }
    /// Whether every rank has the same bits.
    template <class T> bool same_everywhere(const std::vector<T>& values) {
        const auto all =
            group.all_gather(std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)));
        return group.all(std::count(all.begin(), all.end(), all[0]) == static_cast<std::ptrdiff_t>(all.size()));
    }
};

const CommunicatorOptions kOptions[] = {
    {}, {.max_message = 1000, .max_workspace = 3000}, {.max_message = 4000, .max_workspace = 64}};
constexpr std::int64_t kSizes[] = {1, 2, 3, 7, 1000, 16384, 16385, 50021};

template <class T> void check_all_gather(const CommunicatorOptions& options, std::int64_t n) {
    Ranks ranks(options);
    std::vector<T> mine(static_cast<std::size_t>(n)), expected(static_cast<std::size_t>(n));
    for (int r = 0; r < ranks.size(); ++r) {
        const Shard part = shard_of(n, r, ranks.size());
        for (std::int64_t i = part.begin; i < part.begin + part.count; ++i) {
            expected[static_cast<std::size_t>(i)] = value_of<T>(r, i);
            if (r == ranks.rank()) mine[static_cast<std::size_t>(i)] = value_of<T>(r, i);
        }
    }
    const ArenaTensor x = ranks.tensor(mine), twin = ranks.twin(x);
    ranks.communicator->all_gather(x, kStream).finish();
    ranks.plan->all_gather(twin, kStream).finish();
    BOOST_CHECK_MESSAGE(same_bits(ranks.read<T>(x), expected), "all_gather of " << n);
    ranks.check_plan();
}

template <class T> void check_all_reduce(const CommunicatorOptions& options, std::int64_t n) {
    Ranks ranks(options);
    const ArenaTensor x = ranks.tensor(values_of<T>(ranks.rank(), n)), twin = ranks.twin(x);
    ranks.communicator->all_reduce(x, kStream).finish();
    ranks.plan->all_reduce(twin, kStream).finish();
    const auto result = ranks.read<T>(x);
    BOOST_CHECK_MESSAGE(same_bits(result, ordered_sum<T>(ranks.size(), n)), "all_reduce of " << n);
    BOOST_CHECK(ranks.same_everywhere(result));
    ranks.check_plan();
}

void check_reduce_scatter(const CommunicatorOptions& options, std::int64_t n, bool in_place) {
    Ranks ranks(options);
    const Shard own = shard_of(n, ranks.rank(), ranks.size());
    const auto begin = static_cast<std::ptrdiff_t>(own.begin), end = static_cast<std::ptrdiff_t>(own.begin + own.count);
    const auto values = values_of<float>(ranks.rank(), n), sum = ordered_sum<float>(ranks.size(), n);
    const ArenaTensor x = ranks.tensor(values), twin = ranks.twin(x);
    const ArenaTensor elsewhere = ranks.tensor(std::vector<float>(static_cast<std::size_t>(own.count))),
                      elsewhere_twin = ranks.twin(elsewhere);
    const Tensor shard = in_place ? x->slice(own.begin, own.count) : *elsewhere;
    ranks.communicator->reduce_scatter(shard, x, kStream).finish();
    ranks.plan->reduce_scatter(in_place ? twin->slice(own.begin, own.count) : *elsewhere_twin, twin, kStream).finish();
    BOOST_CHECK_MESSAGE(same_bits(ranks.read<float>(shard), std::vector<float>(sum.begin() + begin, sum.begin() + end)),
                        "reduce_scatter of " << n);
    auto rest = ranks.read<float>(x);  // the input is unchanged, except for the own part when in place
    std::copy(values.begin() + begin, values.begin() + end, rest.begin() + begin);
    BOOST_CHECK(same_bits(rest, values));
    if (!in_place) BOOST_CHECK(same_bits(ranks.read<float>(x), values));
    ranks.check_plan();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(communicator)

/// Otherwise the tests of sums below could not fail.
BOOST_AUTO_TEST_CASE(order_of_addition_is_visible) {
    HostGroup group;
    if (group.size() > 2)
        BOOST_CHECK(!same_bits(ordered_sum<float>(group.size(), 1000), ordered_sum<float>(group.size(), 1000, true)));
}

BOOST_AUTO_TEST_CASE(all_gather) {
    for (const auto& options : kOptions)
        for (const std::int64_t n : kSizes) {
            check_all_gather<float>(options, n);
            check_all_gather<std::uint8_t>(options, n);
            check_all_gather<std::uint16_t>(options, n);
            check_all_gather<std::int64_t>(options, n);
        }
}

BOOST_AUTO_TEST_CASE(reduce_scatter) {
    for (const auto& options : kOptions)
        for (const std::int64_t n : {1, 2, 3, 7, 1000, 16385})
            for (const bool in_place : {false, true}) check_reduce_scatter(options, n, in_place);
}

BOOST_AUTO_TEST_CASE(all_reduce) {
    for (const auto& options : kOptions)
        for (const std::int64_t n : {1, 2, 3, 7, 1000, 16384, 16385}) check_all_reduce<float>(options, n);
    for (const std::int64_t n : {1, 3, 8193}) check_all_reduce<double>({}, n);
    check_all_reduce<float>({}, 3'000'017);
}

BOOST_AUTO_TEST_CASE(broadcast) {
    for (const auto& options : kOptions)
        for (const std::int64_t n : kSizes) {
            Ranks ranks(options);
            for (int root = 0; root < ranks.size(); ++root) {
                const ArenaTensor x = ranks.tensor(values_of<float>(ranks.rank(), n)), twin = ranks.twin(x);
                ranks.communicator->broadcast(x, root, kStream).finish();
                ranks.plan->broadcast(twin, root, kStream).finish();
                BOOST_CHECK_MESSAGE(same_bits(ranks.read<float>(x), values_of<float>(root, n)),
                                    "broadcast of " << n << " from " << root);
                ranks.check_plan();
            }
        }
}

/// Every rank sends three tensors to its right neighbour, one of them empty. In a second exchange, which overlaps the
/// first, only the last rank sends and only rank 0 receives.
BOOST_AUTO_TEST_CASE(exchange) {
    for (const auto& options : kOptions) {
        Ranks ranks(options);
        if (ranks.size() == 1) continue;
        const int right = (ranks.rank() + 1) % ranks.size(), left = (ranks.rank() + ranks.size() - 1) % ranks.size();
        const ArenaTensor first = ranks.tensor(values_of<float>(ranks.rank(), 1234)),
                          second = ranks.tensor(values_of<std::uint8_t>(ranks.rank(), 77));
        const ArenaTensor got_first = ranks.tensor(std::vector<float>(1234)),
                          got_second = ranks.tensor(std::vector<std::uint8_t>(77));
        const ArenaTensor alone = ranks.tensor(std::vector<float>(5, static_cast<float>(ranks.rank())));
        const Tensor none = first->slice(0, 0);
        Request ring = ranks.communicator->exchange({{right, first}, {right, none}, {right, second}},
                                                    {{left, got_first}, {left, none}, {left, got_second}}, kStream);
        Request other;  // only two ranks take part
        if (ranks.rank() == ranks.size() - 1) other = ranks.communicator->exchange({{0, alone}}, {}, kStream);
        if (ranks.rank() == 0) other = ranks.communicator->exchange({}, {{ranks.size() - 1, alone}}, kStream);
        other.finish();  // in another order than the exchanges were started
        ring.finish();
        BOOST_CHECK(same_bits(ranks.read<float>(got_first), values_of<float>(left, 1234)));
        BOOST_CHECK(same_bits(ranks.read<std::uint8_t>(got_second), values_of<std::uint8_t>(left, 77)));
        if (ranks.rank() == 0)
            BOOST_CHECK(
                same_bits(ranks.read<float>(alone), std::vector<float>(5, static_cast<float>(ranks.size() - 1))));
        BOOST_CHECK_EQUAL(ranks.communicator->traffic().bytes,
                          1234 * 4 + 77 + (ranks.rank() == ranks.size() - 1 ? 20 : 0));
    }
}

BOOST_AUTO_TEST_CASE(requests_overlap) {
    for (const auto& options : kOptions) {
        Ranks ranks(options);
        const std::int64_t n = 20011;
        const Shard own = shard_of(n, ranks.rank(), ranks.size());
        const ArenaTensor a = ranks.tensor(values_of<float>(ranks.rank(), n)),
                          b = ranks.tensor(values_of<float>(ranks.rank(), n)),
                          c = ranks.tensor(values_of<float>(ranks.rank(), n)),
                          d = ranks.tensor(values_of<float>(ranks.rank(), 9)),
                          e = ranks.tensor(
                              std::vector<std::int32_t>(static_cast<std::size_t>(ranks.size()), ranks.rank())),
                          shard = ranks.tensor(std::vector<float>(static_cast<std::size_t>(own.count)));
        std::vector<Request> requests;
        requests.push_back(ranks.communicator->all_reduce(a, kStream));
        requests.push_back(ranks.communicator->reduce_scatter(shard, b, kStream));
        requests.push_back(ranks.communicator->broadcast(c, ranks.size() - 1, kStream));
        requests.push_back(ranks.communicator->all_reduce(d, kStream));
        requests.push_back(ranks.communicator->all_gather(e, kStream));
        for (int i = 0; i < 100; ++i) ranks.communicator->progress();
        for (Request& request : requests) request.finish();
        const auto sum = ordered_sum<float>(ranks.size(), n);
        const auto begin = static_cast<std::ptrdiff_t>(own.begin),
                   end = static_cast<std::ptrdiff_t>(own.begin + own.count);
        BOOST_CHECK(same_bits(ranks.read<float>(a), sum));
        BOOST_CHECK(same_bits(ranks.read<float>(shard), std::vector<float>(sum.begin() + begin, sum.begin() + end)));
        BOOST_CHECK(same_bits(ranks.read<float>(c), values_of<float>(ranks.size() - 1, n)));
        BOOST_CHECK(same_bits(ranks.read<float>(d), ordered_sum<float>(ranks.size(), 9)));
        for (int r = 0; r < ranks.size(); ++r)
            BOOST_CHECK_EQUAL(ranks.read<std::int32_t>(e)[static_cast<std::size_t>(r)], r);
    }
}

/// More calls than there are tags, so that tags are used again.
BOOST_AUTO_TEST_CASE(many_collectives_in_a_row) {
    Ranks ranks;
    const ArenaTensor x = ranks.tensor(std::vector<float>(1));
    bool right = true;
    const int times = kOnGpu ? 400 : 40000, turn = times / 40;  // NCCL has no tags
    for (int i = 0; i < times; ++i) {
        if (i % turn == 0) ranks.put(x, std::vector<float>(1, static_cast<float>(ranks.rank() + i)));
        Request request = ranks.communicator->broadcast(x, i / turn % ranks.size(), kStream);
        request.finish();
        right = right && ranks.read<float>(x)[0] == static_cast<float>(i / turn % ranks.size() + i / turn * turn);
    }
    BOOST_CHECK(right);
}

BOOST_AUTO_TEST_CASE(lengths_that_differ_are_noticed, *only_on_cpus("NCCL does not promise to notice a wrong length")) {
    Ranks ranks;
    if (ranks.size() == 1) return;
    const ArenaTensor x = ranks.tensor(std::vector<float>(10));
    if (ranks.rank() == 1) {
        ranks.communicator->exchange({{0, x->slice(0, 9)}}, {}, kStream).finish();
        ranks.communicator->exchange({{0, x}}, {}, kStream).finish();
    }
    if (ranks.rank() == 0) {
        BOOST_CHECK_THROW(ranks.communicator->exchange({}, {{1, x}}, kStream).finish(), std::logic_error);  // too short
        BOOST_CHECK_EXCEPTION(ranks.communicator->exchange({}, {{1, x->slice(0, 9)}}, kStream).finish(), Error,
                              [](const Error& error) {  // too long: MPI's own error
                                  const std::string sentence = error.what();
                                  return error.code == ExitCode::communication &&
                                         sentence.find("rank 0") != std::string::npos &&
                                         sentence.find("MPI_Test") != std::string::npos;
                              });
    }
}

BOOST_AUTO_TEST_SUITE_END()
