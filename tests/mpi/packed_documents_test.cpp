// Training with a document mask on every mesh and at every ZeRO stage: loss and gradients are those of the documents,
// each alone in a sequence of its own, over the number of their predictions. Documents begin at the first token of a
// rank's part and one token beside it, have one token, or fill a sequence with one token each. The patterns here see
// the same in a packed sequence as in a document alone; groups of S2-Attn would begin elsewhere.
#include <boost/test/unit_test.hpp>
#include <numeric>

#include "tests/support/mesh_training.h"

using namespace longlora;
using namespace longlora::mesh_testing;

namespace {

constexpr std::int64_t kContext = 24;
constexpr int kMostStages = 4;
constexpr double kLossBudget = 1e-5, kGradientBudget = 5e-5;  // of float32 at other rotary positions

std::vector<std::int64_t> one_token_each() {
    std::vector<std::int64_t> starts(kContext);
    std::iota(starts.begin(), starts.end(), 0);
    return starts;
}

/// Parts of 2, 3 and 4 ranks begin at multiples of 6 and 8. The fourth sequence has no prediction at all.
Training packed(const AttentionPattern& pattern, std::int64_t micro_batch) {
    Training t{.pattern = pattern, .context = kContext, .global_batch = 6, .micro_batch = micro_batch};
    t.config.num_layers = kMostStages;
    t.documents = true;
    t.other_starts = {{0, 6, 7, 12, 18}, {0}, {0, 8, 16, 23}, one_token_each(), {0, 5, 11, 12, 13, 17}, {0, 1, 22}};
    return t;
}

struct Alone {
    double loss_sum = 0;
    std::int64_t predictions = 0;
    Values gradients;  ///< of the sum
};

void add_document(Alone& sum, const Training& t, const std::vector<std::int32_t>& tokens) {
    if (tokens.size() < 2) return;  // nothing to predict
    const auto length = static_cast<std::int64_t>(tokens.size());
    Fixture f(t.config, t.trainables, t.pattern, length);
    fill_lively(*f.weights);
    sum.loss_sum += loss_and_gradients(*f.model, one_sequence(tokens), 1, keep_nothing(t.config));
    sum.predictions += length - 1;
    for (const auto& [name, gradient] : gradients_of(*f.weights)) {
        std::vector<float>& whole = sum.gradients[name];
        whole.resize(gradient.size());
        std::transform(gradient.begin(), gradient.end(), whole.begin(), whole.begin(), std::plus<>());
    }
}

/// All documents of the first step.
Alone documents_alone(const Training& t) {
    Alone sum;
    const auto all = t.tokens(1);
    auto starts = t.document_starts();
    for (std::size_t i = 0; i < starts.size(); ++i) {
        starts[i].push_back(t.context);
        const auto sequence = all.begin() + static_cast<std::ptrdiff_t>(i) * t.context;
        for (std::size_t d = 0; d + 1 < starts[i].size(); ++d)
            add_document(sum, t, {sequence + starts[i][d], sequence + starts[i][d + 1]});
    }
    return sum;
}

template <class Each> void on_every_mesh(const Each& each) {
    for (const parallel::MeshShape shape : meshes_of_world(kMostStages))
        for (const int zero : sizes<int>({0, 1, 2, 3}, {2})) BOOST_TEST_CONTEXT(text_of(shape, zero)) each(shape, zero);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(packed_documents)

BOOST_AUTO_TEST_CASE(train_as_documents_alone) {
    for (const AttentionPattern pattern : {AttentionPattern{AttentionKind::dense, 0}, {AttentionKind::sliding, 5}})
        for (const std::int64_t micro_batch : {1, 2}) {
            const Training t = packed(pattern, micro_batch);
            const Alone alone = documents_alone(t);
            const auto predictions = static_cast<double>(alone.predictions);
            const double loss = alone.loss_sum / predictions;
            on_every_mesh([&](parallel::MeshShape shape, int zero) {
                const Outcome mesh = train(t, MPI_COMM_WORLD, shape, zero, 1);
                BOOST_CHECK_LE(std::abs(mesh.losses[0] - loss), kLossBudget * loss);
                double squares = 0;
                for (auto [name, gradient] : alone.gradients) {
                    for (float& g : gradient) g = static_cast<float>(static_cast<double>(g) / predictions);
                    squares += norm(gradient) * norm(gradient);
                    BOOST_TEST_CONTEXT(name)
                    BOOST_CHECK_LE(relative_l2(mesh.first_gradients.at(name), gradient), kGradientBudget);
                }
                BOOST_CHECK_LE(std::abs(mesh.norms[0] - std::sqrt(squares)), kGradientBudget * std::sqrt(squares));
            });
        }
}

/// The mean over no prediction is defined as 0, and so is its gradient. AdamW then changes nothing from zero moments.
BOOST_AUTO_TEST_CASE(a_step_without_a_prediction_changes_nothing) {
    Training t = packed({AttentionKind::dense, 0}, 2);
    t.other_starts.assign(static_cast<std::size_t>(t.global_batch), one_token_each());
    on_every_mesh([&](parallel::MeshShape shape, int zero) {
        const Outcome mesh = train(t, MPI_COMM_WORLD, shape, zero, 2);
        BOOST_CHECK((mesh.losses == std::vector<double>{0, 0} && mesh.norms == std::vector<double>{0, 0}));
        for (const auto& [name, gradient] : mesh.first_gradients)
            BOOST_CHECK_MESSAGE(std::all_of(gradient.begin(), gradient.end(), [](float g) { return g == 0; }), name);
        BOOST_CHECK(mesh.trained == mesh.initial);
    });
}

BOOST_AUTO_TEST_SUITE_END()
