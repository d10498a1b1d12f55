// Attention of a sequence that ranks share, against one operation over the whole sequence computed on every rank: all
// patterns, odd lengths and head counts, documents, both types. Also the traffic, the same bits when repeated, and the
// memory. Checks do not throw: a rank that left early would hang the others.
#include "tests/mpi/sequence_testing.h"

#include "parallel/host_group.h"
#include "tests/support/test_device.h"

using namespace longlora;
using namespace longlora::sequence_testing;

namespace {

struct Ranks {
    parallel::HostGroup group;
    std::unique_ptr<Device> device = make_test_device(256 << 20);
    std::unique_ptr<parallel::Communicator> communicator = parallel::make_communicator(*device, MPI_COMM_WORLD);
    Ranks() {
        device->set_progress([this] { communicator->progress(); });
    }
    parallel::Shard local(std::int64_t tokens) const { return parallel::tokens_of(tokens, group.rank(), group.size()); }
};

void compare(Ranks& ranks, const Case& c, std::int64_t layer = 0) {
    Device& device = *ranks.device;
    const parallel::Shard own = ranks.local(c.tokens);
    Problem shared(device, c, ranks.communicator.get()), whole(device, c, nullptr);
    const Results ours = results(device, c, shared, own, layer), one = results(device, c, whole, own, layer);
    for (std::size_t i = 0; i < one.all.size(); ++i) {
        const auto& [name, ref] = one.all[i];
        const double found = norm(difference(ours.all[i].second, ref)), budget = 1e-5 * norm(ref);
        BOOST_CHECK_MESSAGE(found <= budget, c.name() << " rank " << ranks.group.rank() << " " << name << ": " << found
                                                      << " beyond " << budget);
    }
    for (const Halo& halo : shared.halos) BOOST_CHECK(halo.empty());
}

/// bfloat16: the shared attention may be at most twice as far from float32 as the one operation over the whole sequence
/// is, plus a few roundings. All three computations get the same inputs, which bfloat16 represents exactly.
void compare_bfloat16(Ranks& ranks, Case c, std::int64_t layer = 0) {
    Device& device = *ranks.device;
    const parallel::Shard own = ranks.local(c.tokens);
    c.real = DType::bfloat16;
    Problem shared(device, c, ranks.communicator.get()), whole(device, c, nullptr);
    const Results ours = results(device, c, shared, own, layer), one = results(device, c, whole, own, layer);
    Case wide = c;
    wide.real = DType::float32;
    Problem exact(device, wide, nullptr);
    for (const auto& [to, from] : {std::pair<Tensor, Tensor>{exact.q, whole.q},
                                   {exact.k, whole.k},
                                   {exact.v, whole.v},
                                   {exact.d_out, whole.d_out}})
        device.ops().copy(to, from);
    const Results ref = results(device, wide, exact, own, layer);
    for (std::size_t i = 0; i < ref.all.size(); ++i) {
        const auto& [name, values] = ref.all[i];
        const double found = largest(difference(ours.all[i].second, values));
        const double budget = 2 * largest(difference(one.all[i].second, values)) +
                              4 * (name == "out" ? 0x1p-8 : 0x1p-20) * largest(values);
        BOOST_CHECK_MESSAGE(found <= budget, c.name() << " rank " << ranks.group.rank() << " " << name << ": " << found
                                                      << " beyond " << budget);
    }
}

constexpr AttentionKind kKinds[] = {AttentionKind::dense,        AttentionKind::shifted, AttentionKind::plain,
                                    AttentionKind::shifted_only, AttentionKind::layers,  AttentionKind::sliding};
constexpr std::int64_t kHeads[][2] = {{9, 3}, {4, 4}, {3, 1}};

/// Every pattern, also with groups of odd size, longer than a shard, and of one token. On a GPU only one group size and
/// one pair of head counts, since kernels have tests of their own.
template <class Each> void for_patterns(Each&& each) {
    for (const AttentionKind kind : kKinds)
        for (const std::int64_t group : sizes<std::int64_t>({1, 2, 7, 24, 61}, {7}))
            for (const auto& [heads, kv_heads] : kHeads) {
                if ((kind == AttentionKind::dense && group > 1 && !kOnGpu) || (kOnGpu && heads != 9)) continue;
                for (std::int64_t layer = 0; layer < (kind == AttentionKind::layers ? 2 : 1); ++layer)
                    each(Case{{kind, group}, heads, kv_heads}, layer);
            }
}

std::int64_t bytes_sent(const Ranks& ranks) { return ranks.communicator->traffic().bytes; }

}  // namespace

BOOST_AUTO_TEST_SUITE(sequence_attention)

BOOST_AUTO_TEST_CASE(equals_the_whole_in_float32) {
    Ranks ranks;
    for_patterns([&](Case c, std::int64_t layer) {
        compare(ranks, c, layer);
        c.documents = {0, 13, 40, 41, 77};
        c.num_sequences = 2;
        compare(ranks, c, layer);
    });
    for (const std::int64_t tokens : {4, 5, 96})
        for (const AttentionKind kind : {AttentionKind::dense, AttentionKind::shifted})
            compare(ranks, {.pattern = {kind, 6}, .tokens = tokens});
    // Long documents: few queries see keys of far ranks.
    for (const std::vector<std::int64_t>& documents : {std::vector<std::int64_t>{7, 95}, {2, 80, 99}, {30}})
        compare(ranks, {.pattern = {AttentionKind::dense, 0}, .documents = documents, .num_sequences = 2});
    BOOST_CHECK_EQUAL(ranks.device->memory().in_use_bytes(), kOnGpu ? cuda_own_bytes() : 0);
}

BOOST_AUTO_TEST_CASE(equals_the_whole_in_bfloat16) {
    Ranks ranks;
    for_patterns([&](Case c, std::int64_t layer) {
        c.head_dim = 16;
        compare_bfloat16(ranks, c, layer);
    });
    Case documents{.pattern = {AttentionKind::shifted, 24}, .documents = {30, 52, 90}, .num_sequences = 2};
    compare_bfloat16(ranks, documents);
}

/// Windows that no pattern has: heads of both kinds reach far, but not equally far. Some of the attention over far keys
/// is computed on the keys' rank and some is not.
BOOST_AUTO_TEST_CASE(equals_the_whole_for_any_windows) {
    Ranks ranks;
    for (std::uint64_t walk = 1; walk <= (kOnGpu ? 2 : 40); ++walk)
        for (const auto& [heads, kv_heads] : kHeads) {
            if (kOnGpu && heads != 9) continue;
            Case c{.pattern = {AttentionKind::shifted, 24},
                   .num_heads = heads,
                   .num_kv_heads = kv_heads,
                   .num_sequences = 2,
                   .walk = walk};
            compare(ranks, c);
            c.documents = {3, 90 - static_cast<std::int64_t>(walk)};
            compare(ranks, c);
            if (walk % 4 == 0) compare_bfloat16(ranks, c);
        }
}

BOOST_AUTO_TEST_CASE(s2_sends_half_a_group_of_shifted_heads_to_one_neighbour) {
    Ranks ranks;
    for (const std::int64_t group : {8, 9})
        for (const std::int64_t groups_per_rank : {1, 3})
            for (const DType real : {DType::float32, DType::bfloat16})
                for (const auto& [heads, kv_heads, shifted_kv_heads] :
                     {std::tuple<std::int64_t, std::int64_t, std::int64_t>{9, 3, 2}, {4, 4, 2}, {3, 1, 1}}) {
                    const Case c{.pattern = {AttentionKind::shifted, group},
                                 .num_heads = heads,
                                 .num_kv_heads = kv_heads,
                                 .tokens = group * groups_per_rank * ranks.group.size(),
                                 .real = real};
                    Problem p(*ranks.device, c, ranks.communicator.get());
                    const std::int64_t elements = 2 * (group - group / 2) * c.head_dim * shifted_kv_heads,
                                       start = bytes_sent(ranks);
                    p.forward();
                    const std::int64_t forward = bytes_sent(ranks);
                    BOOST_CHECK_EQUAL(forward - start,
                                      ranks.group.rank() + 1 < ranks.group.size() ? elements * size_of(real) : 0);
                    p.forward();  // recomputation: the halo is kept
                    BOOST_CHECK_EQUAL(bytes_sent(ranks), forward);
                    p.backward();
                    BOOST_CHECK_EQUAL(bytes_sent(ranks) - forward, ranks.group.rank() > 0 ? elements * 4 : 0);
                }
}

/// Rank r of S sends its keys and values to the next min(S/2, S-1-r) ranks, and its queries to the max(0, r - S/2)
/// ranks that are more than S/2 to its left. It returns results to the max(0, S-1-r - S/2) ranks that send it queries.
/// Backward sends the same with gradients. With two ranks, no rank is far.
BOOST_AUTO_TEST_CASE(dense_pieces_are_sent_again) {
    Ranks ranks;
    const std::int64_t size = ranks.group.size(), rank = ranks.group.rank(), half = size / 2, n = 24;
    for (const DType real : {DType::float32, DType::bfloat16}) {
        const Case c{.pattern = {AttentionKind::dense, 0}, .tokens = n * size, .real = real};
        Problem p(*ranks.device, c, ranks.communicator.get());
        const std::int64_t right = std::min(half, size - 1 - rank), left = std::min(half, rank),
                           given = std::max<std::int64_t>(0, rank - half),
                           taken = std::max<std::int64_t>(0, size - 1 - rank - half);
        const std::int64_t keys = 2 * n * c.num_kv_heads * c.head_dim, queries = n * c.num_heads * c.head_dim,
                           sums = 4 * n * c.num_heads;
        const std::int64_t forward =
            right * keys * size_of(real) + given * queries * size_of(real) + taken * (4 * queries + sums);
        const std::int64_t backward = right * keys * size_of(real) + left * 4 * keys +
                                      given * (3 * queries * size_of(real) + sums) + taken * 4 * queries;
        const std::int64_t start = bytes_sent(ranks), start_messages = ranks.communicator->traffic().messages;
        const bool stays = size == 1;
        p.forward();
        BOOST_CHECK_EQUAL(bytes_sent(ranks) - start, forward);
        p.forward();
        BOOST_CHECK_EQUAL(bytes_sent(ranks) - start, forward * (stays ? 1 : 2));
        p.backward();
        BOOST_CHECK_EQUAL(bytes_sent(ranks) - start, forward * (stays ? 1 : 2) + backward);
        BOOST_CHECK_EQUAL(ranks.communicator->traffic().messages - start_messages,
                          2 * (right + given + 2 * taken) + right + left + 2 * given + taken);
        for (const Halo& halo : p.halos) BOOST_CHECK(halo.empty());
    }
}

BOOST_AUTO_TEST_CASE(twice_gives_the_same_bits_recomputed_or_not) {
    Ranks ranks;
    for (const AttentionKind kind : {AttentionKind::dense, AttentionKind::shifted, AttentionKind::sliding})
        for (const DType real : {DType::float32, DType::bfloat16}) {
            const Case c{.pattern = {kind, 45}, .real = real, .num_sequences = 2};
            const auto run = [&](bool again) {
                Problem p(*ranks.device, c, ranks.communicator.get());
                if (again) p.forward();
                return results(*ranks.device, c, p, ranks.local(c.tokens), 0);
            };
            const Results first = run(false);
            BOOST_CHECK(first.same_bits(run(false)));
            BOOST_CHECK(first.same_bits(run(true)));
        }
}

BOOST_AUTO_TEST_CASE(the_plan_has_the_same_traffic_memory_and_work) {
    Ranks ranks;
    for_patterns([&](Case c, std::int64_t layer) {
        c.real = c.pattern.group == 7 ? DType::bfloat16 : DType::float32;
        const auto device = make_test_plan(256 << 20), real_device = make_test_device(256 << 20);
        const auto plan = parallel::make_plan_communicator(*device, ranks.group.rank(), ranks.group.size()),
                   real = parallel::make_communicator(*real_device, MPI_COMM_WORLD);
        for (const auto& [on, over] :
             {std::pair<Device*, parallel::Communicator*>{device.get(), plan.get()}, {real_device.get(), real.get()}}) {
            Problem p(*on, c, over);
            on->memory().reset_marks();
            p.forward(layer), p.forward(layer), p.backward(layer);
        }
        BOOST_CHECK_EQUAL(plan->traffic().bytes, real->traffic().bytes);
        BOOST_CHECK_EQUAL(plan->traffic().messages, real->traffic().messages);
        BOOST_CHECK_EQUAL(device->memory().high_water_bytes(), real_device->memory().high_water_bytes());
        BOOST_CHECK_EQUAL(device->recorder().flops(), real_device->recorder().flops());
    });
}

/// On plan devices, hence for any number of ranks. The keys and values of a shard are so large (256 KiB, as are its
/// queries) that rounding sizes up does not matter.
BOOST_AUTO_TEST_CASE(dense_memory_does_not_grow_with_ranks) {
    constexpr std::int64_t n = 256, kNumHeads = 4, kUnit = n * kNumHeads * 32 * 4,
                           kSums = n * kNumHeads * 4;  // bytes of q, and of lse
    const auto peaks = [&](int size, AttentionKind kind) {
        std::pair<std::int64_t, std::int64_t> most{0, 0};  // forward, backward
        for (int rank = 0; rank < size; ++rank) {
            const auto device = make_plan_device({.memory_bytes = std::int64_t{1} << 30});
            const auto communicator = parallel::make_plan_communicator(*device, rank, size);
            const Case c{.pattern = {kind, n},
                         .num_heads = kNumHeads,
                         .num_kv_heads = kNumHeads,
                         .head_dim = 32,
                         .tokens = n * size};
            Problem p(*device, c, communicator.get());
            const auto peak = [&](auto&& call) {
                device->memory().reset_marks();
                const std::int64_t before = device->memory().high_water_bytes();
                call();
                return device->memory().high_water_bytes() - before;
            };
            most.first = std::max(most.first, peak([&] { p.forward(); }));
            most.second = std::max(most.second, peak([&] { p.backward(); }));
        }
        return most;
    };
    for (const int size : {3, 4, 8, 16}) {
        const auto [forward, backward] = peaks(size, AttentionKind::dense);
        // At once: two pieces that arrive and one or two that leave, each of keys and values (2 units) or of queries
        // (1; backward 3, with d_out and out); a result being computed or received (1; backward 2), and one under way.
        BOOST_CHECK_LE(forward, 8 * kUnit + 2 * kSums);
        BOOST_CHECK_LE(backward, 16 * kUnit + 4 * kSums);
    }
    // With fewer than 10 ranks there are too few rounds to reach the peak.
    BOOST_CHECK(peaks(10, AttentionKind::dense) == peaks(20, AttentionKind::dense));
    BOOST_CHECK(peaks(4, AttentionKind::shifted) == peaks(16, AttentionKind::shifted));
}

/// For an odd number of ranks S each rank does the same work; for an even one the highest is (S + 1) / S of the mean.
/// The half tokens of the diagonals are a small difference.
BOOST_AUTO_TEST_CASE(dense_work_is_shared_evenly) {
    for (int size = 1; size <= 9; ++size) {
        double most = 0, sum = 0;
        for (int rank = 0; rank < size; ++rank) {
            const auto device = make_plan_device({.memory_bytes = std::int64_t{1} << 30});
            const auto communicator = parallel::make_plan_communicator(*device, rank, size);
            Problem p(*device,
                      {.pattern = {AttentionKind::dense, 0},
                       .num_heads = 3,
                       .num_kv_heads = 1,
                       .head_dim = 64,
                       .tokens = 512 * size},
                      communicator.get());
            device->recorder().clear();
            p.forward(), p.backward();
            const auto& by_operation = device->recorder().by_operation;
            const double flops =
                by_operation.at("attention_forward").flops + by_operation.at("attention_backward").flops;
            most = std::max(most, flops), sum += flops;
        }
        BOOST_CHECK_LE(most / (sum / size), (size % 2 ? 1 : (size + 1.0) / size) * 1.002);
    }
}

BOOST_AUTO_TEST_SUITE_END()
