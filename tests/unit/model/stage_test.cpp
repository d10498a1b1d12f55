// Pipeline stages against brute force over every way to cut the layers; costs against windows counted key by key; and
// the stages of models of real sizes.
#include "model/stage.h"

#include <boost/test/unit_test.hpp>
#include <limits>
#include <numeric>

#include "core/clock.h"
#include "core/random.h"
#include "tests/unit/model/config_testing.h"

using namespace longlora;
using namespace config_testing;

namespace {

const AttentionPattern kDense{AttentionKind::dense, 0};

ModelConfig shape(std::int64_t hidden, std::int64_t intermediate, std::int64_t layers, std::int64_t heads,
                  std::int64_t kv_heads, std::int64_t vocabulary) {
    return parse({{"model_type", "llama"},
                  {"hidden_size", hidden},
                  {"intermediate_size", intermediate},
                  {"num_hidden_layers", layers},
                  {"num_attention_heads", heads},
                  {"num_key_value_heads", kv_heads},
                  {"vocab_size", vocabulary},
                  {"max_position_embeddings", 8192}});
}

std::vector<std::int64_t> counts_of(const std::vector<Stage>& stages) {
    std::vector<std::int64_t> out;
    for (const Stage& stage : stages) out.push_back(stage.num_layers);
    return out;
}

double highest_cost_of(const ModelConfig& config, const AttentionPattern& pattern, std::int64_t context,
                       const std::vector<std::int64_t>& counts) {
    double highest_cost = 0;
    std::int64_t layer = 0;
    for (std::size_t s = 0; s < counts.size(); ++s) {
        double cost = s + 1 == counts.size() ? head_cost(config) : 0;
        for (std::int64_t i = 0; i < counts[s]; ++i) cost += layer_cost(config, pattern, layer++, context);
        highest_cost = std::max(highest_cost, cost);
    }
    return highest_cost;
}

/// Calls each(counts) for every way to write `layers` as a sum of `stages` positive numbers, in ascending order.
template <class Each> void for_cuts(std::int64_t layers, int stages, std::vector<std::int64_t>& counts, Each&& each) {
    if (stages == 1) {
        counts.push_back(layers);
        each(counts);
        counts.pop_back();
        return;
    }
    for (std::int64_t count = 1; count + stages - 1 <= layers; ++count) {
        counts.push_back(count);
        for_cuts(layers - count, stages - 1, counts, each);
        counts.pop_back();
    }
}

/// The cut whose most expensive stage costs least; among such cuts (within rounding) the most even one; among those
/// the first.
std::vector<std::int64_t> brute_force(const ModelConfig& config, const AttentionPattern& pattern, std::int64_t context,
                                      int stages) {
    double limit = std::numeric_limits<double>::infinity();
    std::vector<std::int64_t> counts, best;
    for_cuts(config.num_layers, stages, counts,
             [&](const auto& c) { limit = std::min(limit, highest_cost_of(config, pattern, context, c)); });
    std::int64_t squares = std::numeric_limits<std::int64_t>::max();
    for_cuts(config.num_layers, stages, counts, [&](const auto& c) {
        const std::int64_t sum = std::inner_product(c.begin(), c.end(), c.begin(), std::int64_t{0});
        if (highest_cost_of(config, pattern, context, c) > limit * (1 + 1e-9) || sum >= squares) return;
        squares = sum;
        best = c;
    });
    return best;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stages)

BOOST_AUTO_TEST_CASE(mean_visible_keys_are_those_of_the_windows) {
    for (const char* name : {"dense", "shifted", "plain", "shifted-only", "layers", "sliding"})
        for (const std::int64_t n : {1, 2, 3, 7, 16, 37, 100})
            for (const std::int64_t group : {1, 2, 3, 5, 8, 16, 37, 150})
                for (const std::int64_t heads : {1, 2, 9})
                    for (const std::int64_t layer : {0, 1, 4}) {
                        const AttentionPattern pattern{attention_kind(name), group};
                        const HostWindows windows = make_windows(pattern, window_variant(pattern, layer), n, heads);
                        double pairs = 0;
                        for (std::int64_t head = 0; head < heads; ++head)
                            for (std::int64_t t = 0; t < n; ++t)
                                pairs += t - windows.first_key[head < windows.num_plain_heads ? 0 : 1][t] + 1;
                        BOOST_TEST_CONTEXT(name << " N " << n << " G " << group << " heads " << heads << " layer "
                                                << layer)
                        BOOST_CHECK_SMALL(mean_visible_keys(pattern, layer, n, heads) - pairs / (heads * n), 1e-9);
                    }
}

BOOST_AUTO_TEST_CASE(costs_of_llama_2_7b) {
    const ModelConfig config = shape(4096, 11008, 32, 32, 32, 32000);
    const double matrices = 2.0 * (4 * 4096.0 * 4096 + 3 * 4096.0 * 11008);
    BOOST_CHECK_CLOSE(layer_cost(config, kDense, 0, 1), 4 * (matrices + 4 * 4096), 1e-9);  // one token sees one key
    BOOST_CHECK_CLOSE(layer_cost(config, kDense, 5, 32767), 4 * (matrices + 4.0 * 4096 * 16384), 1e-9);
    BOOST_CHECK_CLOSE(head_cost(config), 6.0 * 4096 * 32000, 1e-9);
}

BOOST_AUTO_TEST_CASE(stages_are_those_of_brute_force) {
    std::uint64_t drawn = 0;
    const auto below = [&](std::uint64_t end) { return static_cast<std::int64_t>(random_below(end, 5, 1, drawn++)); };
    const char* kinds[] = {"dense", "shifted", "plain", "shifted-only", "layers", "sliding"};
    for (int trial = 0; trial < 300; ++trial) {
        const std::int64_t heads = 1 + below(4), layers = 1 + below(11), context = 1 + below(400);
        const ModelConfig config =
            shape(heads * 8, 1 + below(64), layers, heads, 1, 1 + below(trial % 3 == 0 ? 20000 : 500));
        const AttentionPattern pattern{attention_kind(kinds[below(6)]), 1 + below(static_cast<std::uint64_t>(context))};
        for (int stages = 1; stages <= layers; ++stages) {
            const auto got = counts_of(stages_of(config, stages, pattern, context)),
                       want = brute_force(config, pattern, context, stages);
            BOOST_CHECK_EQUAL_COLLECTIONS(got.begin(), got.end(), want.begin(), want.end());
        }
    }
}

BOOST_AUTO_TEST_CASE(stages_are_consecutive_and_know_their_ends) {
    const ModelConfig config = shape(64, 160, 7, 4, 4, 256);
    BOOST_CHECK((stages_of(config, 1, kDense, 64) == std::vector{whole_model(config)}));
    for (int count = 2; count <= 7; ++count) {
        const auto stages = stages_of(config, count, kDense, 64);
        BOOST_REQUIRE_EQUAL(stages.size(), count);
        std::int64_t layer = 0;
        for (int s = 0; s < count; ++s) {
            BOOST_CHECK_EQUAL(stages[s].first_layer, layer);
            BOOST_CHECK_GE(stages[s].num_layers, 1);
            BOOST_CHECK_EQUAL(stages[s].has_embedding, s == 0);
            BOOST_CHECK_EQUAL(stages[s].has_head, s == count - 1);
            layer += stages[s].num_layers;
        }
        BOOST_CHECK_EQUAL(layer, 7);
    }
}

BOOST_AUTO_TEST_CASE(a_large_vocabulary_takes_layers_from_the_last_stage) {
    const ModelConfig llama3 = shape(4096, 14336, 32, 32, 8, 128256);  // 8B: the head costs as much as 1.8 layers
    BOOST_CHECK((counts_of(stages_of(llama3, 2, kDense, 8192)) == std::vector<std::int64_t>{17, 15}));
    for (const int stages : {2, 4, 8}) {
        const auto counts = counts_of(stages_of(llama3, stages, {AttentionKind::shifted, 2048}, 8192));
        for (std::size_t s = 0; s + 1 < counts.size(); ++s) BOOST_CHECK_LT(counts.back(), counts[s]);
    }
    const ModelConfig small = shape(4096, 14336, 32, 32, 8, 256);  // a head that costs almost nothing: even stages
    BOOST_CHECK((counts_of(stages_of(small, 4, kDense, 8192)) == std::vector<std::int64_t>(4, 8)));
    const auto long_context = counts_of(stages_of(llama3, 4, kDense, 1 << 20));  // attention outweighs the head
    BOOST_CHECK((long_context == std::vector<std::int64_t>(4, 8)));
}

BOOST_AUTO_TEST_CASE(stages_of_millions_of_tokens_take_no_time) {
    const ModelConfig llama3 = shape(8192, 28672, 80, 64, 8, 128256);
    const double begin = now_seconds();
    for (const char* name : {"dense", "shifted", "layers", "sliding"})
        stages_of(llama3, 16, {attention_kind(name), 1 << 20}, 4000000);
    BOOST_TEST_MESSAGE(now_seconds() - begin << " s");
    BOOST_CHECK_CLOSE(mean_visible_keys(kDense, 0, 4000000, 64), 2000000.5, 1e-9);
    BOOST_CHECK_CLOSE(mean_visible_keys({AttentionKind::plain, 1000}, 0, 4000000, 64), 500.5, 1e-9);
}

BOOST_AUTO_TEST_CASE(more_stages_than_layers_are_refused) {
    refuses([] { stages_of(shape(64, 160, 3, 4, 4, 256), 4, kDense, 64); },
            {"--pipeline 4", "3 layer(s)", "take at most --pipeline 3"});
}

BOOST_AUTO_TEST_SUITE_END()
