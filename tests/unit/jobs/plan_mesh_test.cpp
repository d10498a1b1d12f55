// Plans of whole meshes: many micro-batches are planned at the cost of a few, a few ranks represent all, and plans are
// compared with the memory of a machine. The plan command is tested by tests/unit/jobs/plan_command_test.cpp.
#include <boost/test/unit_test.hpp>
#include <limits>
#include <numeric>
#include <set>

#include "jobs/plan/find.h"
#include "tests/support/tiny_model.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

PlanRequest tiny_request(parallel::MeshShape mesh, int zero, std::int64_t global_batch, std::int64_t micro_batch = 1) {
    PlanRequest request;
    request.config = tiny_config();
    request.config.num_layers = 5;
    request.trainables = all_adapters();
    request.weights.zero = zero;
    request.pattern = {AttentionKind::shifted, 6};
    request.context = 50;
    request.step.global_batch = global_batch;
    request.step.micro_batch = micro_batch;
    request.mesh = mesh;
    return request;
}

PlanGoal a100() {
    PlanGoal goal;
    goal.machine = read_machine("a100-80g");
    return goal;
}

const parallel::MeshShape kMeshes[] = {{1, 1, 1}, {1, 3, 1}, {1, 1, 3}, {1, 2, 2},
                                       {2, 1, 1}, {2, 2, 2}, {3, 2, 1}, {5, 1, 2}};

void check_traffic(const parallel::Traffic& a, const parallel::Traffic& b, const std::string& axis) {
    BOOST_TEST(a.bytes == b.bytes, axis << ": " << a.bytes << " bytes against " << b.bytes);
    BOOST_TEST(a.messages == b.messages, axis << ": " << a.messages << " messages against " << b.messages);
}

void check_same(const StepPlan& a, const StepPlan& b) {
    // Gaps between blocks are large compared with so small a model.
    BOOST_CHECK_CLOSE(static_cast<double>(a.arena_bytes), static_cast<double>(b.arena_bytes), 5);
    BOOST_TEST(a.pinned_bytes == b.pinned_bytes);
    BOOST_TEST(a.by_use == b.by_use, boost::test_tools::per_element());
    BOOST_CHECK_CLOSE(a.recorder.flops(), b.recorder.flops(), 1e-9);
    for (const auto& [name, record] : b.recorder.by_operation) {
        const OpRecord& mine = a.recorder.by_operation.at(name);
        BOOST_TEST(mine.calls == record.calls, name << ": " << mine.calls << " calls against " << record.calls);
        BOOST_CHECK_CLOSE(mine.bytes + 1, record.bytes + 1, 1e-9);
        BOOST_CHECK_CLOSE(mine.seconds + 1, record.seconds + 1, 1e-9);
    }
    for (const auto& [axis, sent] : b.traffic) check_traffic(a.traffic.at(axis), sent, axis);
    for (const auto& [axis, units] : b.traffic_by_unit)
        for (const auto& [unit, sent] : units) check_traffic(a.traffic_by_unit.at(axis).at(unit), sent, axis);
    for (const auto& [unit, flops] : b.recorder.flops_by_unit)
        BOOST_CHECK_CLOSE(a.recorder.flops_by_unit.at(unit) + 1, flops + 1, 1e-9);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_mesh_suite)

BOOST_AUTO_TEST_CASE(many_micro_batches_at_the_cost_of_a_few) {
    for (const auto& mesh : kMeshes)
        for (int zero : {0, 1, 2, 3})
            for (const auto& [global_batch, micro_batch] : {std::pair{1, 1}, {41, 1}, {40, 3}}) {
                PlanRequest request = tiny_request(mesh, zero, global_batch, micro_batch);
                request.seconds_of = operation_seconds(a100().machine, DType::float32, 1);
                for (int rank : {0, mesh.num_ranks() / 2, mesh.num_ranks() - 1})
                    BOOST_TEST_CONTEXT(mesh.pipeline << " x " << mesh.data << " x " << mesh.sequence << ", rank "
                                                     << rank << ", ZeRO " << zero << ", " << global_batch
                                                     << " sequences by " << micro_batch) {
                        request.rank = rank;
                        ActivationPlan activations = keep_nothing(request.config);
                        activations[1] = {true, false, true, false};
                        check_same(plan_many(request, activations), plan_step(request, activations));
                    }
            }
}

/// No rank of the mesh needs more memory or more time than the representative ranks.
BOOST_AUTO_TEST_CASE(few_ranks_represent_all) {
    std::vector<parallel::MeshShape> meshes(std::begin(kMeshes), std::end(kMeshes));
    meshes.push_back({1, 1, 5});  // with more than four ranks to a sequence, not all are planned
    for (const auto& mesh : meshes)
        for (const AttentionKind kind : {AttentionKind::shifted, AttentionKind::dense})
            for (int zero : {0, 3})
                for (std::int64_t global_batch : {7, 1}) {
                    PlanRequest request = tiny_request(mesh, zero, global_batch);
                    request.pattern.kind = kind;
                    std::vector<int> all(static_cast<std::size_t>(mesh.num_ranks()));
                    std::iota(all.begin(), all.end(), 0);
                    const std::vector<int> few = representative_ranks(request);
                    BOOST_TEST(std::is_sorted(few.begin(), few.end()));
                    const MeshPlan plan = plan_mesh(request, a100(), few), whole = plan_mesh(request, a100(), all);
                    BOOST_TEST_CONTEXT(mesh.pipeline << " x " << mesh.data << " x " << mesh.sequence << ", ZeRO "
                                                     << zero << ", " << name_of(kind) << ", " << global_batch
                                                     << " sequences") {
                        BOOST_TEST(plan.fits);
                        // Not exact: shards differ by a token or an element of a buffer.
                        BOOST_CHECK_CLOSE(static_cast<double>(plan.rank_with_most_memory().step.arena_bytes),
                                          static_cast<double>(whole.rank_with_most_memory().step.arena_bytes), 2);
                        BOOST_CHECK_CLOSE(plan.step_seconds, whole.step_seconds, 2);
                    }
                }
}

BOOST_AUTO_TEST_CASE(what_fits) {
    const PlanRequest request = tiny_request({1, 2, 2}, 1, 8);
    PlanGoal goal = a100();
    const auto ranks = representative_ranks(request);
    BOOST_TEST(arena_limit(goal) == 80000000000 - goal.machine.outside_device_bytes());
    const MeshPlan roomy = plan_mesh(request, goal, ranks);
    BOOST_TEST(roomy.fits);
    BOOST_TEST(roomy.misfit.empty());
    BOOST_TEST(roomy.rank_with_most_memory().device.used ==
               roomy.rank_with_most_memory().step.arena_bytes + goal.machine.outside_device_bytes());
    BOOST_TEST(roomy.host.limit == 2000000000000);
    std::int64_t host = 0;
    for (const auto& rank : roomy.ranks)
        host = std::max(host, rank.step.pinned_bytes + rank.snapshot_bytes + goal.machine.outside_host_bytes());
    BOOST_TEST(roomy.host.used == 4 * host);  // eight devices, four ranks

    goal.memory_bytes = 1000;  // an arena of 1000 bytes
    const MeshPlan tight = plan_mesh(request, goal, ranks);
    BOOST_TEST(!tight.fits);
    BOOST_TEST(tight.misfit.find("--context") != std::string::npos, tight.misfit);
    BOOST_TEST(!tight.rank_with_most_memory().device.fits());
    BOOST_TEST(tight.rank_with_most_memory().step.recorder.flops() > 0);  // planned nevertheless

    goal.memory_bytes = 0;
    goal.machine.node_memory.value = 1e9;  // less than the libraries of four ranks
    const MeshPlan poor_host = plan_mesh(request, goal, ranks);
    BOOST_TEST(!poor_host.fits);
    BOOST_TEST(poor_host.misfit.find("host memory") != std::string::npos, poor_host.misfit);

    goal = a100();
    // Exactly the memory that is needed to keep all activations.
    goal.machine.device_memory.value = static_cast<double>(roomy.rank_with_most_memory().device.used);
    BOOST_TEST(plan_mesh(request, goal, ranks).fits);
    goal.machine.device_memory.value = 1e9;  // less than the memory used outside of the arena
    BOOST_TEST(!plan_mesh(request, goal, ranks).fits);
}

/// A snapshot has masters and two moments, in float32, of the trainables of the rank's stage, divided among the ranks
/// of the stage.
BOOST_AUTO_TEST_CASE(snapshots) {
    for (const auto& mesh : kMeshes) {
        PlanRequest request = tiny_request(mesh, 1, 8);
        const ParameterList list = list_parameters(request.config, request.trainables);
        std::int64_t whole = 0, trainable = 0;
        for (const auto& unit : list.units) trainable += unit.trainable_count;
        for (int rank = 0; rank < mesh.num_ranks(); ++rank) {
            request.rank = rank;
            whole += snapshot_bytes(request);
        }
        BOOST_CHECK_GE(whole, 12 * trainable);
        BOOST_CHECK_LE(whole, 12 * (trainable + 5 * mesh.num_ranks()));
    }
}

BOOST_AUTO_TEST_CASE(spreads_are_all_possible_meshes) {
    const PlanRequest request = tiny_request({}, 0, 6);
    const auto choices = mesh_choices(request, 12);
    std::set<std::tuple<int, int, int>> meshes;
    for (const auto& s : choices) {
        BOOST_TEST(s.mesh.num_ranks() == 12);
        BOOST_TEST(s.mesh.data <= 6);
        meshes.insert({s.mesh.pipeline, s.mesh.data, s.mesh.sequence});
    }
    // Pipelines of 1, 2, 3, 4 stages (five layers); data degrees 1, 2, 3, 4, 6; the sequence degree is the rest.
    BOOST_TEST(meshes.size() == 5u + 4u + 3u + 2u);
    BOOST_TEST(std::count(choices.begin(), choices.end(), MeshChoice{{4, 3, 1}, 2, 2}) == 1);
    // A data rank has only two sequences, so a micro-batch of four is not tried.
    BOOST_TEST(std::count(choices.begin(), choices.end(), MeshChoice{{4, 3, 1}, 2, 4}) == 0);
    BOOST_TEST(mesh_choices(tiny_request({}, 0, 6), 1).size() ==
               3u);  // micro-batches of 1, 2, 4; no ZeRO with one rank
    BOOST_TEST(mesh_choices(tiny_request({}, 0, 1), 7).size() == 4u);  // only 1 x 1 x 7
}

BOOST_AUTO_TEST_CASE(meshes_found_fit_and_are_sorted) {
    PlanRequest request = tiny_request({}, 0, 8);
    request.context = 400;
    PlanGoal goal = a100();
    goal.machine.outside_device.clear();
    const auto all = find_meshes(request, goal, 8, 30);
    BOOST_REQUIRE_GT(all.size(), 5u);
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (i > 0) BOOST_CHECK_LE(all[i - 1].plan.step_seconds, all[i].plan.step_seconds);
        const PlanRequest again = spread_request(request, all[i].choice);
        const MeshPlan plan = plan_mesh(again, goal, representative_ranks(again));
        BOOST_TEST(plan.fits);
        BOOST_TEST(plan.step_seconds == all[i].plan.step_seconds);
    }
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for (const auto& choice : mesh_choices(request, 8)) {
        PlanRequest here = spread_request(request, choice);
        std::int64_t bytes = 0;
        for (const int rank : representative_ranks(here)) {
            here.rank = rank;
            bytes = std::max(bytes, plan_many(here, keep_least(here.config)).arena_bytes);
        }
        least = std::min(least, bytes);
    }
    goal.memory_bytes = least;
    BOOST_TEST(find_meshes(request, goal, 8, 10).size() >= 1u);
    goal.memory_bytes = least - 1;
    BOOST_TEST(find_meshes(request, goal, 8, 10).empty());
}

BOOST_AUTO_TEST_CASE(the_longest_context_fits_and_one_unit_more_does_not) {
    const auto request_at = [](std::int64_t context) {
        PlanRequest request = tiny_request({}, 0, 2);
        request.context = context;
        request.pattern.group = std::max<std::int64_t>(1, context / 4);
        return request;
    };
    PlanGoal goal = a100();
    goal.recompute = "all";
    goal.memory_bytes = 3000000;
    const auto fits = [&](std::int64_t context, const MeshChoice& choice) {
        const PlanRequest there = spread_request(request_at(context), choice);
        return plan_mesh(there, goal, representative_ranks(there)).fits;
    };
    const MeshChoice alone{{1, 1, 1}, 0, 1}, shared{{1, 1, 4}, 3, 1};
    const LongestContext one = longest_context(request_at, {alone}, goal, 16),
                         four = longest_context(request_at, {shared}, goal, 16),
                         best = longest_context(request_at, {alone, shared}, goal, 16);
    BOOST_REQUIRE_GT(one.context, 0);
    BOOST_TEST(one.context % 16 == 0);
    BOOST_TEST(fits(one.context, alone));
    // Not just one unit more, since gaps in the arena do not grow evenly.
    BOOST_TEST(!fits(one.context + std::max<std::int64_t>(16, one.context / 50), alone));
    BOOST_TEST(fits(four.context, shared));
    BOOST_TEST(!fits(four.context + std::max<std::int64_t>(16, four.context / 50), shared));
    BOOST_TEST((four.plan.fits && four.plan.ranks.front().request.context == four.context));
    BOOST_TEST(four.context > 2 * one.context);
    BOOST_TEST(best.context == four.context);
    BOOST_TEST((best.choice == shared));
    goal.memory_bytes = 100;
    BOOST_TEST(longest_context(request_at, {alone, shared}, goal, 16).context == 0);
}

BOOST_AUTO_TEST_SUITE_END()
