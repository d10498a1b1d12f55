// Computes the cost of layers in closed form, since a context may have millions of tokens, and finds the best
// distribution to stages by dynamic programming, since layers need not cost the same.
#include "model/stage.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace longlora {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
/// Sums of the same layers in another order round differently, so costs that differ by less than this factor are
/// equal.
constexpr double kSame = 1 + 1e-9;

/// Pairs of a query and a key if each of `count` tokens sees itself and all tokens before it.
double triangle(std::int64_t count) { return 0.5 * static_cast<double>(count) * static_cast<double>(count + 1); }

/// The pairs of `count` tokens in groups, the last of which may be shorter (plain heads, attention_pattern.h).
double group_pairs(std::int64_t count, std::int64_t group) {
    return static_cast<double>(count / group) * triangle(group) + triangle(count % group);
}

/// The pairs if the first half group stands alone and groups follow (shifted heads).
double shifted_pairs(std::int64_t count, std::int64_t group) {
    const std::int64_t first = std::min(count, group / 2);
    return triangle(first) + group_pairs(count - first, group);
}

double sliding_pairs(std::int64_t count, std::int64_t group) {
    const std::int64_t growing = std::min(count, group);
    return triangle(growing) + static_cast<double>(count - growing) * static_cast<double>(group);
}

/// The best way to divide layers l .. L among stages s .. P: its value, and the number of layers of stage s.
struct Cut {
    double value = kNever;
    std::int64_t count = 0;
};

/// Returns table[s][l]. The value of one stage is value(stage, first layer, number of layers). The value of several
/// stages is combine(value of the first, value of the others). Among equal cuts it takes the one whose first stage is
/// the shortest.
template <class Value, class Combine>
std::vector<std::vector<Cut>> best_cuts(std::int64_t num_layers, std::int64_t num_stages, Value&& value,
                                        Combine&& combine) {
    std::vector<std::vector<Cut>> table(num_stages, std::vector<Cut>(num_layers));
    for (std::int64_t stage = num_stages - 1; stage >= 0; --stage) {
        const std::int64_t behind = num_stages - 1 - stage;
        for (std::int64_t first = stage; first + behind < num_layers;
             ++first) {  // each stage before and after it has at least one layer
            Cut& best = table[stage][first];
            if (behind == 0) {
                best = {value(stage, first, num_layers - first), num_layers - first};
                continue;
            }
            for (std::int64_t count = 1; first + count + behind <= num_layers; ++count) {
                const double total = combine(value(stage, first, count), table[stage + 1][first + count].value);
                if (total < best.value) best = {total, count};
            }
        }
    }
    return table;
}

}  // namespace

double mean_visible_keys(const AttentionPattern& pattern, std::int64_t layer, std::int64_t context_length,
                         std::int64_t num_heads) {
    const std::int64_t n = context_length, group = pattern.group;
    ensure(n >= 1 && num_heads >= 1 && (pattern.kind == AttentionKind::dense || group >= 1),
           "mean_visible_keys needs a context, heads and a group");
    const auto mean = [&](double pairs) { return pairs / static_cast<double>(n); };
    switch (pattern.kind) {
        case AttentionKind::dense:
            return mean(triangle(n));
        case AttentionKind::plain:
            return mean(group_pairs(n, group));
        case AttentionKind::shifted_only:
            return mean(shifted_pairs(n, group));
        case AttentionKind::layers:
            return mean(window_variant(pattern, layer) == 0 ? group_pairs(n, group) : shifted_pairs(n, group));
        case AttentionKind::sliding:
            return mean(sliding_pairs(n, group));
        case AttentionKind::shifted:
            break;
    }
    const auto heads = static_cast<double>(num_heads),
               plain_heads = static_cast<double>(num_heads / 2);  // as make_windows distributes them
    return mean((plain_heads * group_pairs(n, group) + (heads - plain_heads) * shifted_pairs(n, group)) / heads);
}

// A product with a matrix takes 2 FLOPs per element and token. An attention head takes 4 E FLOPs per key (q k and p
// v). Backward counts as two forwards. If matrices are frozen, it takes about one forward, in layers and head alike.
// This changes the ratio of layers to head too little to move a layer to another stage.
double layer_cost(const ModelConfig& config, const AttentionPattern& pattern, std::int64_t layer,
                  std::int64_t context_length) {
    const std::int64_t queries = config.num_heads * config.head_dim, keys = config.num_kv_heads * config.head_dim;
    const auto elements = static_cast<double>(config.hidden * (2 * queries + 2 * keys + 3 * config.intermediate));
    const double attention =
        4.0 * static_cast<double>(queries) * mean_visible_keys(pattern, layer, context_length, config.num_heads);
    return 4 * (2 * elements + attention);
}

double head_cost(const ModelConfig& config) {
    return 3 * 2.0 * static_cast<double>(config.hidden) * static_cast<double>(config.vocabulary);
}

std::vector<Stage> stages_of(const ModelConfig& config, int num_stages, const AttentionPattern& pattern,
                             std::int64_t context_length) {
    const std::int64_t num_layers = config.num_layers;
    ensure(num_stages >= 1, "a pipeline has at least one stage");
    require(num_stages <= num_layers, "--pipeline ", num_stages, " is more stages than the model's ", num_layers,
            " layer(s), and a stage holds at least one; take at most --pipeline ", num_layers,
            " and give the other ranks to --sequence or to data");
    std::vector<double> before(1, 0.0);  // before[l]: cost of the layers before l
    for (std::int64_t layer = 0; layer < num_layers; ++layer)
        before.push_back(before.back() + layer_cost(config, pattern, layer, context_length));
    const auto cost = [&](std::int64_t stage, std::int64_t first, std::int64_t count) {
        const double layers = before[first + count] - before[first];
        return stage + 1 == num_stages ? layers + head_cost(config) : layers;
    };
    const double highest_cost =
        best_cuts(num_layers, num_stages, cost, [](double a, double b) { return std::max(a, b); })[0][0].value;
    const auto squares = [&](std::int64_t stage, std::int64_t first,
                             std::int64_t count) {  // their sum is lowest if counts are even
        return cost(stage, first, count) <= highest_cost * kSame ? static_cast<double>(count * count) : kNever;
    };
    const auto cuts = best_cuts(num_layers, num_stages, squares, [](double a, double b) { return a + b; });
    std::vector<Stage> stages;
    std::int64_t first = 0;
    for (int stage = 0; stage < num_stages; ++stage) {
        const std::int64_t count = cuts[stage][first].count;
        stages.push_back({first, count, stage == 0, stage + 1 == num_stages});
        first += count;
    }
    ensure(first == num_layers, "every layer is on a stage");
    return stages;
}

}  // namespace longlora
