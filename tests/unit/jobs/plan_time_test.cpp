// The planner's time model against times computed by hand: operations, links, and the computing that hides messages;
// and the fill and drain of a pipeline against an execution of its schedule.
#include <boost/test/unit_test.hpp>
#include <map>
#include <tuple>

#include "core/random.h"
#include "jobs/plan/time.h"
#include "parallel/pipeline_schedule.h"

using namespace longlora;

namespace {

/// A machine with round figures: 1 TFLOP/s, 1 GB/s, fractions of a half or a quarter; two devices on a node; 100 MB/s
/// and 1 ms inside a node, 10 MB/s and 10 ms between nodes.
MachineModel round_machine() {
    MachineModel m;
    m.name = "round";
    m.device_memory.value = 1e9;
    m.bfloat16_flops.value = 1e12, m.float32_flops.value = 1e11, m.memory_bandwidth.value = 1e9,
    m.host_bandwidth.value = 5e8;
    m.matmul_fraction.value = 0.5, m.bfloat16_attention_fraction.value = 0.25, m.float32_attention_fraction.value = 0.5,
    m.bandwidth_fraction.value = 0.5;
    m.devices_per_node.value = 2;
    m.node_memory.value = 1e9;
    m.inside_node = {{1e8, ""}, {1e-3, ""}};
    m.between_nodes = {{1e7, ""}, {1e-2, ""}};
    return m;
}

PlanRequest request_on(parallel::MeshShape mesh, int rank, int zero, std::int64_t global_batch) {
    PlanRequest request;
    request.mesh = mesh;
    request.rank = rank;
    request.weights.real = DType::bfloat16;
    request.weights.zero = zero;
    request.step.global_batch = global_batch;
    return request;
}

/// A step whose operations take 3 seconds, 1 of them attention, and whose messages of `axis` are `sent`.
StepPlan three_seconds(const std::string& axis, parallel::Traffic sent) {
    StepPlan step;
    step.recorder.by_operation["matmul"].seconds = 1.5;
    step.recorder.by_operation["add"].seconds = 0.5;
    step.recorder.by_operation["attention_backward"].seconds = 1;
    for (const char* each : {"data", "pipeline", "sequence"}) step.traffic[each] = {};
    step.traffic[axis] = sent;
    return step;
}

void check_exposed(const PlanRequest& request, const StepPlan& step, double exposed) {
    const RankTime time = rank_time(round_machine(), request, step);
    BOOST_CHECK_CLOSE(time.compute, 3, 1e-9);
    BOOST_CHECK_SMALL(time.exposed - exposed, 1e-9);
}

/// When the last backward of the first stage ends. f and b: seconds of each stage's forward and backward. Messages take
/// no time.
double executed(const std::vector<double>& f, const std::vector<double>& b, std::int64_t micro_batches) {
    const int stages = static_cast<int>(f.size());
    std::vector<std::vector<parallel::PipelineTask>> tasks;
    for (int s = 0; s < stages; ++s) tasks.push_back(parallel::one_forward_one_backward(stages, s, micro_batches));
    std::map<std::tuple<int, int, std::int64_t>, double> ended;  // stage, pass, micro-batch
    std::vector<std::size_t> next(f.size(), 0);
    std::vector<double> free_at(f.size(), 0);
    for (bool moved = true; moved;) {
        moved = false;
        for (int s = 0; s < stages; ++s) {
            if (next[s] == tasks[s].size()) continue;
            const auto [pass, m] = tasks[s][next[s]];
            const bool forward = pass == parallel::Pass::forward;
            const auto before = forward          ? ended.find({s - 1, 0, m})
                                : s + 1 < stages ? ended.find({s + 1, 1, m})
                                                 : ended.find({s, 0, m});
            if (!(forward && s == 0) && before == ended.end()) continue;
            const double ready = forward && s == 0 ? 0 : before->second;
            free_at[s] = std::max(free_at[s], ready) + (forward ? f[s] : b[s]);
            ended[{s, forward ? 0 : 1, m}] = free_at[s];
            ++next[s];
            moved = true;
        }
    }
    for (int s = 0; s < stages; ++s) BOOST_REQUIRE_EQUAL(next[s], tasks[s].size());
    return *std::max_element(free_at.begin(), free_at.end());
}

/// The planner's estimate of the same.
double estimated(const std::vector<double>& f, const std::vector<double>& b, std::int64_t micro_batches) {
    std::vector<RankTime> stages;
    for (std::size_t s = 0; s < f.size(); ++s)
        stages.push_back({static_cast<double>(micro_batches) * (f[s] + b[s]), 0, f[s] + b[s]});
    return step_seconds(stages);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_time)

/// The longer of computing and moving bytes.
BOOST_AUTO_TEST_CASE(operations_take_the_time_of_flops_or_bytes) {
    const auto bfloat16 = operation_seconds(round_machine(), DType::bfloat16, 1),
               float32 = operation_seconds(round_machine(), DType::float32, 1),
               four = operation_seconds(round_machine(), DType::bfloat16, 4);
    BOOST_CHECK_CLOSE(bfloat16("matmul", 1e12, 1), 2, 1e-9);
    BOOST_CHECK_CLOSE(bfloat16("matmul", 1, 1e9), 2, 1e-9);
    BOOST_CHECK_CLOSE(float32("matmul", 1e12, 1), 20, 1e-9);
    BOOST_CHECK_CLOSE(four("matmul", 1e12, 1), 0.5, 1e-9);
    BOOST_CHECK_CLOSE(bfloat16("attention_forward", 1e12, 1), 4, 1e-9);
    BOOST_CHECK_CLOSE(float32("attention_forward", 1e12, 1), 20, 1e-9);
    BOOST_CHECK_CLOSE(bfloat16("attention_backward", 1, 1e9), 2, 1e-9);
    BOOST_CHECK_CLOSE(bfloat16("adamw", 1e30, 1e9), 2, 1e-9);  // only the bytes of other operations count
}

BOOST_AUTO_TEST_CASE(messages_hide_behind_operations) {
    const StepPlan quiet = three_seconds("data", {});
    check_exposed(request_on({1, 2, 1}, 0, 3, 4), quiet, 0);
    // Inside a node, 10 messages of 1e8 bytes in total take 1.01 s, and of 1e9 bytes 10.01 s.
    // Hidden by attention, 1 s:
    check_exposed(request_on({1, 1, 2}, 0, 0, 4), three_seconds("sequence", {100000000, 10}), 0.01);
    // ZeRO 3: by all operations, 3 s:
    check_exposed(request_on({1, 2, 1}, 0, 3, 4), three_seconds("data", {1000000000, 10}), 7.01);
    // ZeRO 2: by all backward passes, 2 s:
    check_exposed(request_on({1, 2, 1}, 0, 2, 4), three_seconds("data", {1000000000, 10}), 8.01);
    // ZeRO 0: by the backward of the last of two micro-batches, 1 s:
    check_exposed(request_on({1, 2, 1}, 0, 0, 4), three_seconds("data", {1000000000, 10}), 9.01);
    check_exposed(request_on({2, 1, 1}, 0, 0, 4), three_seconds("pipeline", {1000000000, 10}), 7.01);
    // ZeRO 1 and 2 gather the updated weights after all operations, so nothing hides them. 8 MB of moments are 1e6
    // elements, 2e6 bytes to one peer.
    StepPlan updated = three_seconds("data", {102000000, 0});
    updated.by_use[static_cast<std::size_t>(Use::moments)] = 8000000;
    check_exposed(request_on({1, 2, 1}, 0, 2, 4), updated, 0.02);
    check_exposed(request_on({1, 2, 1}, 0, 3, 4), updated, 0);
}

BOOST_AUTO_TEST_CASE(links_by_where_the_peers_are) {
    const parallel::Traffic sent{1000000000, 0};
    // Four data ranks on two nodes: one of three peers is on the same node, 10/3 s, and two are not, 200/3 s; 3 s are
    // hidden.
    check_exposed(request_on({1, 4, 1}, 0, 3, 4), three_seconds("data", sent), 70 - 3);
    // Ranks 3 4 5 are the second stage; the nodes have ranks 0 1, 2 3 and 4 5. Rank 3 has both peers on another node.
    // Rank 4 has rank 5 on its own node and rank 3 on another.
    check_exposed(request_on({2, 3, 1}, 3, 3, 6), three_seconds("data", sent), 100 - 3);
    check_exposed(request_on({2, 3, 1}, 4, 3, 6), three_seconds("data", sent), 5 + 50 - 3);
    // A sequence over two nodes: some halos go from node to node, and all ranks wait for these. The same when only
    // another sequence of the mesh lies on two nodes.
    check_exposed(request_on({1, 1, 4}, 1, 0, 4), three_seconds("sequence", sent), 100 - 1);
    check_exposed(request_on({1, 2, 3}, 0, 0, 4), three_seconds("sequence", sent), 100 - 1);
    check_exposed(request_on({1, 2, 2}, 1, 0, 4), three_seconds("sequence", sent), 10 - 1);
    check_exposed(request_on({2, 2, 1}, 0, 0, 4), three_seconds("pipeline", sent), 100 - 3);
    check_exposed(request_on({4, 1, 1}, 0, 0, 4), three_seconds("pipeline", sent), 100 - 3);
    check_exposed(request_on({2, 1, 1}, 0, 0, 4), three_seconds("pipeline", sent), 10 - 3);
}

BOOST_AUTO_TEST_CASE(micro_batches_are_those_of_the_rank_with_the_most) {
    StepOptions step;
    for (const auto& [global, data, size, expected] :
         {std::tuple{7, 2, 1, 4}, {7, 2, 3, 2}, {8, 8, 1, 1}, {3, 4, 2, 1}, {64, 8, 3, 3}}) {
        step.global_batch = global, step.micro_batch = size;
        BOOST_TEST(micro_batches_of(step, {1, data, 1}) == expected);
    }
}

/// Exact for equal stages. With unequal stages, fill and drain overlap with work in ways that the formula ignores.
BOOST_AUTO_TEST_CASE(pipelines_against_their_schedule_executed) {
    for (int stages : {1, 2, 3, 4, 8})
        for (std::int64_t micro_batches : {1, 2, 3, 7, 8, 64}) {
            const std::vector<double> f(stages, 1), b(stages, 2);
            BOOST_CHECK_CLOSE(estimated(f, b, micro_batches), executed(f, b, micro_batches), 1e-9);
            std::vector<double> uneven_f, uneven_b;
            for (int s = 0; s < stages; ++s)
                uneven_f.push_back(1 + 0.5 * random_uniform(3, micro_batches, s)),
                    uneven_b.push_back(2 * uneven_f.back());
            const double executed_seconds = executed(uneven_f, uneven_b, micro_batches),
                         estimate = estimated(uneven_f, uneven_b, micro_batches);
            BOOST_TEST(executed_seconds >= 0.85 * estimate, stages << " stages, " << micro_batches << " micro-batches: "
                                                                   << executed_seconds << " against " << estimate);
            BOOST_TEST(executed_seconds <= 1.15 * estimate, stages << " stages, " << micro_batches << " micro-batches: "
                                                                   << executed_seconds << " against " << estimate);
        }
}

BOOST_AUTO_TEST_SUITE_END()
