// Plans leave out what repeats: rounds of attention, micro-batches, and ranks that are alike. Each plan here is
// compared with the plan of the same step in which nothing is left out (PlanRequest::whole), for random shapes. How
// much a plan costs is counted in tensors that are made, not in seconds.
#include <boost/test/unit_test.hpp>
#include <set>

#include "model/micro_batch.h"
#include "tests/support/tiny_model.h"
#include "train/distinct_ranks.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

/// Whether sums of the same numbers in another order may differ so much.
void check_close(double a, double b, const std::string& what) {
    BOOST_CHECK_MESSAGE(std::abs(a - b) <= 1e-11 * std::abs(b), what << ": " << a << " against " << b);
}

void check_same(const StepPlan& a, const StepPlan& b) {
    BOOST_CHECK_EQUAL(a.arena_bytes, b.arena_bytes);
    BOOST_CHECK_EQUAL(a.pinned_bytes, b.pinned_bytes);
    BOOST_TEST(a.by_use == b.by_use, boost::test_tools::per_element());
    BOOST_CHECK(a.traffic == b.traffic);
    BOOST_CHECK(a.traffic_by_unit == b.traffic_by_unit);
    BOOST_REQUIRE_EQUAL(a.recorder.by_operation.size(), b.recorder.by_operation.size());
    for (const auto& [name, record] : b.recorder.by_operation) {
        const OpRecord& mine = a.recorder.by_operation.at(name);
        BOOST_CHECK_EQUAL(mine.calls, record.calls);
        check_close(mine.flops, record.flops, text("FLOPs of ", name));
        check_close(mine.bytes, record.bytes, text("bytes of ", name));
        check_close(mine.seconds, record.seconds, text("seconds of ", name));
    }
    for (const auto& [unit, flops] : b.recorder.flops_by_unit)
        check_close(a.recorder.flops_by_unit.at(unit), flops, text("FLOPs of unit ", unit));
}

std::int64_t below(std::uint64_t n, std::uint64_t seed, std::uint64_t what) {
    return static_cast<std::int64_t>(random_below(n, seed, 41, what));
}

PlanRequest random_request(std::uint64_t seed) {
    constexpr AttentionKind kKinds[] = {AttentionKind::dense,        AttentionKind::dense, AttentionKind::shifted,
                                        AttentionKind::shifted,      AttentionKind::plain, AttentionKind::sliding,
                                        AttentionKind::shifted_only, AttentionKind::layers};
    constexpr std::int64_t kHeads[][2] = {{3, 1}, {4, 4}, {6, 2}};
    PlanRequest request;
    request.config = tiny_config(below(4, seed, 0) == 0);
    request.config.num_layers = 2 + below(2, seed, 1);
    const auto& heads = kHeads[below(3, seed, 2)];
    request.config.num_heads = heads[0], request.config.num_kv_heads = heads[1];
    request.trainables = all_adapters();
    request.weights.real = request.weights.frozen = below(2, seed, 3) ? DType::bfloat16 : DType::float32;
    request.weights.zero = static_cast<int>(below(4, seed, 4));
    const auto sequence = static_cast<int>(1 + below(17, seed, 5));
    request.mesh = {static_cast<int>(1 + below(2, seed, 6)), static_cast<int>(1 + below(2, seed, 7)), sequence};
    const bool even = below(3, seed, 8) > 0;
    request.context = even ? sequence * (32 + below(300, seed, 9)) : 700 + below(3000, seed, 9);
    request.pattern = {kKinds[below(std::size(kKinds), seed, 10)],
                       1 + below(static_cast<std::uint64_t>(request.context), seed, 11)};
    if (below(2, seed, 12))
        request.pattern.group = std::max<std::int64_t>(1, request.context / (1 + below(9, seed, 13)));
    request.step.micro_batch = 1 + below(2, seed, 14);
    request.step.global_batch = 1 + below(25, seed, 15);
    request.step.global_batch = std::max<std::int64_t>(request.step.global_batch, request.mesh.data);
    request.step.document_mask = below(4, seed, 16) == 0;
    request.offload_activations = below(4, seed, 17) == 0;
    request.rank = static_cast<int>(below(static_cast<std::uint64_t>(request.mesh.num_ranks()), seed, 18));
    request.seconds_of = [](std::string_view, double flops, double bytes) { return 1e-6 + flops / 7e9 + bytes / 3e9; };
    return request;
}

std::string text_of(const PlanRequest& r) {
    return text(name_of(r.pattern.kind), " G ", r.pattern.group, " N ", r.context, " mesh ", r.mesh.pipeline, " x ",
                r.mesh.data, " x ", r.mesh.sequence, " rank ", r.rank, " ZeRO ", r.weights.zero, ", ",
                r.step.global_batch, " by ", r.step.micro_batch, r.step.document_mask ? ", documents" : "",
                r.offload_activations ? ", offload" : "", ", H ", r.config.num_heads, "/", r.config.num_kv_heads);
}

ActivationPlan random_activations(const PlanRequest& request, std::uint64_t seed) {
    ActivationPlan activations(request.config.num_layers);
    std::uint64_t what = 100;
    for (KeptActivations& layer : activations)
        for (auto item : {&KeptActivations::halo, &KeptActivations::attention, &KeptActivations::mid,
                          &KeptActivations::qkv, &KeptActivations::gate_up})
            layer.*item = below(2, seed, what++);
    return activations;
}

std::vector<int> distinct(const PlanRequest& r) {
    return distinct_sequence_ranks(r, exchange_rules_of(r.pattern, r.context, r.mesh.sequence, r.config));
}

/// What is kept, or the sentence of the error.
std::pair<ActivationPlan, std::string> choice(const PlanRequest& request, std::int64_t memory) {
    try {
        return {choose_activations(request, "auto", memory), ""};
    } catch (const Error& e) {
        return {{}, e.what()};
    }
}

/// 32 layers with the sizes of Llama-2 7B, a million tokens.
PlanRequest large_request(AttentionKind kind, std::int64_t group, int ranks) {
    PlanRequest request;
    request.config = tiny_config();
    request.config.hidden = 4096, request.config.intermediate = 11008, request.config.num_layers = 32,
    request.config.num_heads = request.config.num_kv_heads = 32, request.config.head_dim = 128,
    request.config.vocabulary = 32000;
    request.trainables.lora_rank = 8;
    request.weights.real = request.weights.frozen = DType::bfloat16;
    request.weights.zero = 3;
    request.pattern = {kind, group};
    request.context = std::int64_t{1} << 20;
    request.mesh = {1, 1, ranks};
    request.step.global_batch = 64;
    return request;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_repetition)

BOOST_AUTO_TEST_CASE(plans_are_those_of_whole_steps) {
    std::int64_t made = 0, made_whole = 0;
    for (std::uint64_t seed = 0; seed < 150; ++seed) {
        PlanRequest request = random_request(seed);
        BOOST_TEST_CONTEXT("seed " << seed << ": " << text_of(request)) {
            const ActivationPlan activations = random_activations(request, seed);
            const StepPlan plan = plan_step(request, activations);
            request.whole = true;
            const StepPlan whole = plan_step(request, activations);
            check_same(plan, whole);
            made += plan.num_tensors, made_whole += whole.num_tensors;
        }
    }
    BOOST_TEST(made < made_whole);
}

BOOST_AUTO_TEST_CASE(choices_are_those_of_all_ranks) {
    std::int64_t num_distinct = 0, all = 0;
    for (std::uint64_t seed = 1000; seed < 1024; ++seed) {
        PlanRequest request = random_request(seed);
        request.step.global_batch = std::min<std::int64_t>(request.step.global_batch, 6);
        BOOST_TEST_CONTEXT("seed " << seed << ": " << text_of(request)) {
            const std::int64_t least = plan_step(request, ActivationPlan(request.config.num_layers, {.halo = false}))
                                           .arena_bytes,
                               most = plan_step(request, keep_everything(request.config)).arena_bytes;
            num_distinct += static_cast<std::int64_t>(distinct(request).size()), all += request.mesh.sequence;
            for (const std::int64_t percent : {-5, 30, 95}) {
                const std::int64_t memory = least + (most - least) * percent / 100;
                request.whole = false;
                const auto mine = choice(request, memory);
                request.whole = true;
                const auto theirs = choice(request, memory);
                BOOST_CHECK_EQUAL(mine.second, theirs.second);
                BOOST_CHECK_MESSAGE(mine.first == theirs.first, percent << " %: other activations are kept");
            }
        }
    }
    BOOST_TEST(num_distinct < all);
}

/// Ranks of one kind take the same memory.
BOOST_AUTO_TEST_CASE(every_rank_is_like_a_distinct_one) {
    for (std::uint64_t seed = 2000; seed < 2040; ++seed) {
        PlanRequest request = random_request(seed);
        request.mesh.sequence = 3 + static_cast<int>(below(30, seed, 30));
        request.rank = 0;
        request.step.global_batch = request.mesh.data;
        BOOST_TEST_CONTEXT("seed " << seed << ": " << text_of(request)) {
            const ActivationPlan activations = random_activations(request, seed);
            const auto bytes = [&](int sequence) {
                PlanRequest here = request;
                here.rank = parallel::rank_of(request.mesh, {0, 0, sequence});
                return plan_step(here, activations).arena_bytes;
            };
            std::set<std::int64_t> known;
            for (const int sequence : distinct(request)) known.insert(bytes(sequence));
            for (int sequence = 0; sequence < request.mesh.sequence; ++sequence)
                BOOST_CHECK_MESSAGE(known.contains(bytes(sequence)),
                                    "sequence rank " << sequence << " is like no other");
        }
    }
}

/// The cost of a plan, in tensors made, hardly grows with the number of ranks and micro-batches; few ranks are planned.
BOOST_AUTO_TEST_CASE(a_million_tokens_on_512_ranks) {
    for (const auto& [kind, group] : {std::pair<AttentionKind, std::int64_t>{AttentionKind::dense, 0},
                                      {AttentionKind::shifted, std::int64_t{1} << 18},
                                      {AttentionKind::shifted, 8192},
                                      {AttentionKind::sliding, 4096}})
        BOOST_TEST_CONTEXT(name_of(kind) << " " << group) {
            PlanRequest request = large_request(kind, group, 512), few = large_request(kind, group, 32);
            std::int64_t calls = 0;
            request.progress = [&calls] { ++calls; };
            const ActivationPlan nothing = keep_nothing(request.config);
            few.step.global_batch = 4, request.rank = 300, few.rank = 20;
            const std::int64_t cost = plan_step(request, nothing).num_tensors,
                               cost_of_few = plan_step(few, nothing).num_tensors;
            BOOST_TEST(cost < 3 * cost_of_few);
            BOOST_TEST(distinct(request).size() <= 200u);
            if (group == std::int64_t{1} << 18) continue;  // many kinds of ranks
            const ActivationPlan kept = choose_activations(request, "auto", std::int64_t{60} << 30);
            BOOST_TEST(plan_step(request, kept).arena_bytes <= std::int64_t{60} << 30);
            BOOST_TEST(calls > 1000);  // a sign of life for every layer
        }
}

BOOST_AUTO_TEST_SUITE_END()
