// No pattern lets a token see a later one: the gradient of the loss at token t with respect to inputs after t is
// exactly 0, and later tokens change no bit of earlier logits. The same tests show that documents and windows hide
// exactly the keys that they should, and that every other input has an influence.
#include <boost/test/unit_test.hpp>
#include <numeric>

#include "tests/support/plain_model.h"
#include "tests/support/tiny_model.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

struct Windowing {
    AttentionPattern pattern;
    std::int64_t context;
    std::vector<std::int64_t> starts{};
};

/// All patterns, with odd and even groups, contexts that are multiples of the group and others, groups of one token
/// and groups longer than the context, and documents.
std::vector<Windowing> shapes() {
    std::vector<Windowing> all;
    const std::vector<std::int64_t> documents = {0, 3, 4, 17};
    for (const AttentionKind kind : {AttentionKind::dense, AttentionKind::shifted, AttentionKind::plain,
                                     AttentionKind::shifted_only, AttentionKind::layers, AttentionKind::sliding})
        for (const auto& [context, group] :
             {std::pair<std::int64_t, std::int64_t>{24, 6}, {23, 5}, {21, 8}, {9, 1}, {11, 40}, {1, 4}, {2, 2}}) {
            all.push_back({{kind, group}, context});
            if (context > 20) all.push_back({{kind, group}, context, documents});
        }
    return all;
}

/// All tokens differ, so row `tokens[j]` of the gradient of the embedding is the gradient with respect to input j.
std::vector<std::int32_t> distinct_tokens(std::int64_t count) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
    for (std::size_t t = 0; t < tokens.size(); ++t)
        tokens[t] = static_cast<std::int32_t>((t * 37 + 5) % kTinyVocabulary);
    return tokens;
}

/// [t][j]: whether the output at t can depend on input j through all layers and heads; derived from plain_windows.
std::vector<std::vector<bool>> reach(const Windowing& shape, std::int64_t num_layers, std::int64_t num_heads) {
    const auto n = static_cast<std::size_t>(shape.context);
    std::vector<std::vector<bool>> reached(n, std::vector<bool>(n));
    for (std::size_t t = 0; t < n; ++t) reached[t][t] = true;
    for (std::int64_t layer = 0; layer < num_layers; ++layer) {
        const auto windows = plain_windows(shape.pattern, layer, num_heads, shape.context, shape.starts);
        auto next = reached;
        for (std::size_t t = 0; t < n; ++t)
            for (const auto& first_key : windows.first_key)
                for (auto key = static_cast<std::size_t>(first_key[t]); key <= t; ++key)
                    for (std::size_t j = 0; j < n; ++j) next[t][j] = next[t][j] || reached[key][j];
        reached = next;
    }
    return reached;
}

void for_shapes(const std::function<void(const Windowing&)>& test) {
    for (const Windowing& shape : shapes())
        BOOST_TEST_CONTEXT(name_of(shape.pattern.kind)
                           << ", context " << shape.context << ", group " << shape.pattern.group
                           << (shape.starts.empty() ? "" : ", documents"))
    test(shape);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(causality)

BOOST_AUTO_TEST_CASE(gradients_with_respect_to_later_inputs_are_exactly_zero) {
    for_shapes([](const Windowing& shape) {
        TinyFixture f(all_weights(), shape.pattern, shape.context);
        const auto tokens = distinct_tokens(shape.context);
        const auto reached = reach(shape, f.model->config().num_layers, f.model->config().num_heads);
        const std::int64_t hidden = f.model->config().hidden;
        for (std::int64_t t = 0; t < shape.context; ++t) {
            Sequences s = one_sequence(tokens, shape.starts);
            std::fill(s.labels.begin(), s.labels.end(), -1);
            s.labels[static_cast<std::size_t>(t)] = 7;
            loss_and_gradients(*f.model, s, 1, keep_nothing(f.model->config()));
            const std::vector<float> d_table =
                read(*f.device, f.weights->gradient(f.weights->list().find("model.embed_tokens.weight")));
            for (std::int64_t j = 0; j < shape.context; ++j) {
                const auto row = d_table.begin() + tokens[static_cast<std::size_t>(j)] * hidden;
                const double size = norm(std::vector<float>(row, row + hidden));
                const bool dependent = reached[static_cast<std::size_t>(t)][static_cast<std::size_t>(j)];
                BOOST_CHECK_MESSAGE(dependent ? size > 0 : size == 0,
                                    "loss at " << t << ", input " << j << ": gradient " << size);
            }
        }
    });
}

BOOST_AUTO_TEST_CASE(later_tokens_change_no_bit_of_earlier_logits) {
    for_shapes([](const Windowing& shape) {
        for (const DType real : {DType::float32, DType::bfloat16}) {
            TinyFixture f(all_adapters(), shape.pattern, shape.context, {.real = real});
            auto tokens = random_tokens(shape.context, 2);
            const std::vector<float> before = logits_of(*f.model, one_sequence(tokens, shape.starts));
            for (std::int64_t cut = 0; cut < shape.context; cut += 1 + shape.context / 7) {
                auto other = random_tokens(shape.context, 3);
                std::copy(tokens.begin(), tokens.begin() + cut, other.begin());
                other[static_cast<std::size_t>(cut)] = (tokens[static_cast<std::size_t>(cut)] + 1) % kTinyVocabulary;
                const std::vector<float> after = logits_of(*f.model, one_sequence(other, shape.starts));
                const auto until = static_cast<std::ptrdiff_t>(cut * kTinyVocabulary);
                BOOST_CHECK_MESSAGE(std::equal(before.begin(), before.begin() + until, after.begin()),
                                    "tokens changed from " << cut << " on");
                // The first changed token must change its own logits.
                BOOST_CHECK(!std::equal(before.begin() + until, before.begin() + until + kTinyVocabulary,
                                        after.begin() + until));
            }
        }
    });
}

/// With a document mask, the logits of a document are those of the document alone. Its rotary positions do not begin
/// at 0, but only differences of positions matter.
BOOST_AUTO_TEST_CASE(a_document_gives_the_logits_that_it_gives_alone) {
    const std::int64_t context = 24, start = 9;
    const auto tokens = random_tokens(context, 4);
    TinyFixture together(all_adapters(), {AttentionKind::dense, 0}, context),
        alone(all_adapters(), {AttentionKind::dense, 0}, context - start);
    const std::vector<float> masked = logits_of(*together.model, one_sequence(tokens, {0, start}));
    const std::vector<float> expected = logits_of(*alone.model, one_sequence({tokens.begin() + start, tokens.end()}));
    BOOST_CHECK_LE(relative_l2(std::vector<float>(masked.begin() + start * kTinyVocabulary, masked.end()), expected),
                   1e-5);
    const std::vector<float> unmasked = logits_of(*together.model, one_sequence(tokens));
    BOOST_CHECK_GT(
        relative_l2(std::vector<float>(unmasked.begin() + start * kTinyVocabulary, unmasked.end()), expected), 1e-2);
}

BOOST_AUTO_TEST_SUITE_END()
