// The ranks of a job choose together what they keep for backward, each planning only itself. The choice, or the
// sentence that refuses the step, is that of one process that plans every rank.
#include <boost/test/unit_test.hpp>

#include "parallel/agree.h"
#include "tests/support/tiny_model.h"
#include "train/plan.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

PlanRequest request_of(parallel::MeshShape mesh, int rank, AttentionKind kind) {
    PlanRequest request;
    request.config = tiny_config();
    request.config.num_layers = 5;
    request.trainables = all_adapters();
    request.weights.zero = 3;
    request.pattern = {kind, 100};
    request.context = 3001;  // shards differ by a token
    request.step.global_batch = 5 * mesh.data;
    request.mesh = mesh;
    request.rank = rank;
    return request;
}

/// What is kept, or the first words of the error.
struct Choice {
    ActivationPlan activations;
    std::string refused;
};

Choice chosen_together(const parallel::HostGroup& group, const PlanRequest& request, std::int64_t memory) {
    const auto gather = [&](const std::function<std::int64_t()>& work) {
        const std::int64_t mine = parallel::agreed(group, work);
        std::vector<std::int64_t> all;
        for (const std::string& number : group.all_gather(std::to_string(mine))) all.push_back(std::stoll(number));
        return all;
    };
    try {
        return {choose_together(request, "auto", memory, gather), ""};
    } catch (const parallel::AgreedError& e) {
        BOOST_TEST((e.code == ExitCode::does_not_fit));
        return {{}, e.what()};
    }
}

Choice chosen_alone(PlanRequest request, std::int64_t memory) {
    request.whole = true;
    try {
        return {choose_activations(request, "auto", memory), ""};
    } catch (const Error& e) {
        return {{}, e.what()};
    }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(choose_together_suite)

BOOST_AUTO_TEST_CASE(the_choice_is_that_of_one_process) {
    const parallel::HostGroup group;
    const int ranks = group.size();
    for (const parallel::MeshShape mesh : {parallel::MeshShape{1, 1, ranks}, {1, ranks, 1}, {ranks, 1, 1}})
        for (const AttentionKind kind : {AttentionKind::dense, AttentionKind::shifted}) {
            const PlanRequest request = request_of(mesh, group.rank(), kind);
            PlanRequest first = request;
            first.rank = 0;  // so that all ranks take the same memory
            const std::int64_t least = plan_step(first, keep_nothing(first.config)).arena_bytes,
                               most = plan_step(first, keep_everything(first.config)).arena_bytes;
            for (const std::int64_t percent : {-60, 0, 20, 50, 80, 100, 120}) {
                const std::int64_t memory = least + (most - least) * percent / 100;
                const Choice mine = chosen_together(group, request, memory), alone = chosen_alone(request, memory);
                const bool any_refused = group.any(!alone.refused.empty());
                BOOST_TEST_CONTEXT(mesh.pipeline << " x " << mesh.data << " x " << mesh.sequence << ", "
                                                 << name_of(kind) << ", " << percent << " %") {
                    BOOST_TEST(!mine.refused.empty() == any_refused);
                    if (mesh.pipeline == 1) BOOST_TEST(mine.refused == alone.refused);
                    if (!any_refused) BOOST_TEST((mine.activations == alone.activations));
                }
            }
        }
}

BOOST_AUTO_TEST_SUITE_END()
