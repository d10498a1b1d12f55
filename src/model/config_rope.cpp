// Rotary scaling in config.json: reads and writes both spellings. extend_rope.cpp decides which factor a longer context
// needs; rotary.cpp computes the frequencies.
#include <algorithm>
#include <optional>
#include <utility>

#include "model/config_values.h"

namespace longlora {

namespace {

// The name of a kind in transformers' files and on our command line. "default" is transformers' name for no scaling.
struct Spelling {
    RopeKind kind;
    const char* file;
    const char* option;
};
constexpr Spelling kSpellings[] = {{RopeKind::none, "default", "keep"},
                                   {RopeKind::linear, "linear", "linear"},
                                   {RopeKind::dynamic, "dynamic", "ntk"},
                                   {RopeKind::yarn, "yarn", "yarn"},
                                   {RopeKind::llama3, "llama3", "llama3"}};

const Spelling& spelling(RopeKind kind) {
    return *std::find_if(std::begin(kSpellings), std::end(kSpellings),
                         [&](const Spelling& one) { return one.kind == kind; });
}

double positive(const OrderedJson& value, const char* key, const std::string& where) {
    const double number = real_number(value, key, where);
    require(number > 0, where, ": ", key, " is ", shown(value), "; it must be above 0");
    return number;
}

double theta_value(const OrderedJson& value, const std::string& where) {
    const double theta = real_number(value, "rope_theta", where);
    require(theta > 1 && theta < 1e30, where, ": rope_theta is ", shown(value), "; it must be above 1 and below 1e30");
    return theta;
}

double factor_value(const OrderedJson& value, const std::string& where) {
    const double factor = real_number(value, "factor", where);
    require(factor >= 1 && factor <= kLargestFactor, where, ": factor is ", shown(value),
            "; it must be between 1 and 2^31");
    return factor;
}

RopeKind kind_of_block(const OrderedJson& block, const std::string& where) {
    const OrderedJson* type = find_value(block, "rope_type");
    if (!type) type = find_value(block, "type");
    if (!type) {
        require(!find_value(block, "factor"), where, " has a factor but no rope_type");
        return RopeKind::none;
    }
    const std::string name = word(*type, "rope_type", where);
    for (const Spelling& one : kSpellings)
        if (name == one.file) return one.kind;
    fail(text(where, ": rope_type is ", shown(*type),
              "; only \"default\", \"linear\", \"dynamic\", \"yarn\" and \"llama3\" are supported"));
}

void parse_yarn(const OrderedJson& block, RopeScaling& rope, const std::string& where) {
    // As in transformers, betas and mscales that are 0 count as not given.
    const auto given = [&](const char* key) -> std::optional<double> {
        const OrderedJson* value = find_value(block, key);
        if (!value) return std::nullopt;
        const double number = real_number(*value, key, where);
        require(number >= 0, where, ": ", key, " is ", shown(*value), "; it must not be negative");
        return number != 0 ? std::optional(number) : std::nullopt;
    };
    rope.beta_fast = given("beta_fast").value_or(32);
    rope.beta_slow = given("beta_slow").value_or(1);
    rope.mscale = given("mscale").value_or(0);
    rope.mscale_all_dim = given("mscale_all_dim").value_or(0);
    if (const OrderedJson* value = find_value(block, "attention_factor"))
        rope.attention_factor = positive(*value, "attention_factor", where);
    if (const OrderedJson* value = find_value(block, "truncate")) rope.truncate = truth(*value, "truncate", where);
    require(rope.beta_fast >= rope.beta_slow, where, ": beta_fast is ", rope.beta_fast, ", below beta_slow ",
            rope.beta_slow);
}

void parse_llama3(const OrderedJson& block, RopeScaling& rope, const std::string& where) {
    const OrderedJson *low = find_value(block, "low_freq_factor"), *high = find_value(block, "high_freq_factor");
    require(low && high, where, ": ", low ? "high" : "low", "_freq_factor is missing");
    rope.low_freq_factor = positive(*low, "low_freq_factor", where);
    rope.high_freq_factor = positive(*high, "high_freq_factor", where);
    require(rope.high_freq_factor > rope.low_freq_factor, where, ": high_freq_factor is ", rope.high_freq_factor,
            ", not above low_freq_factor ", rope.low_freq_factor);
}

/// Reads rope_parameters or rope_scaling; the caller reads theta.
RopeScaling parse_block(const OrderedJson& json, const OrderedJson& block, std::int64_t max_positions,
                        const std::string& where) {
    for (const auto& [key, value] : block.items())
        require(!value.is_object(), where, ": ", shown(key),
                " is an object: rotary parameters by kind of layer are not supported");
    if (const OrderedJson* value = find_value(block, "partial_rotary_factor"))
        require(real_number(*value, "partial_rotary_factor", where) == 1, where, ": partial_rotary_factor is ",
                shown(*value), "; only 1 is supported");
    RopeScaling rope;
    rope.kind = kind_of_block(block, where);
    if (rope.kind == RopeKind::none) return rope;
    // transformers computes dynamic NTK from max_position_embeddings alone. For the other kinds an original length at
    // the top level (where we write it for linear) overrides the one in the block.
    if (rope.kind != RopeKind::dynamic)
        for (const OrderedJson* object : {&block, &json})
            if (const OrderedJson* value = find_value(*object, "original_max_position_embeddings"))
                rope.original = size_value(*value, "original_max_position_embeddings", where);
    const OrderedJson* factor = find_value(block, "factor");
    require(factor || rope.kind == RopeKind::yarn, where, ": factor is missing");
    if (factor) {
        rope.factor = factor_value(*factor, where);
    } else if (rope.original > 0) {
        rope.factor = static_cast<double>(max_positions) / static_cast<double>(rope.original);
        require(rope.factor >= 1, where, ": original_max_position_embeddings is ", rope.original,
                ", more than max_position_embeddings ", max_positions);
    }
    if (rope.kind == RopeKind::yarn) parse_yarn(block, rope, where);
    if (rope.kind == RopeKind::llama3) parse_llama3(block, rope, where);
    return rope;
}

const OrderedJson* find_block(const OrderedJson& json, const char* key, const std::string& where) {
    const OrderedJson* block = find_value(json, key);
    require(!block || block->is_object(), where, ": ", key, " is ", block ? shown(*block) : "", ", not an object");
    return block && !block->empty() ? block : nullptr;
}

/// rope_theta is at the top level (transformers 4), in rope_parameters (transformers 5), or in both with the same
/// value.
double parse_theta(const OrderedJson& json, std::initializer_list<const OrderedJson*> blocks,
                   const std::string& where) {
    std::optional<double> theta;
    const auto look = [&](const OrderedJson& object) {
        const OrderedJson* value = find_value(object, "rope_theta");
        if (!value) return;
        const double found = theta_value(*value, where);
        require(!theta || *theta == found, where, ": rope_theta is given twice, as ", *theta, " and as ", found);
        theta = found;
    };
    look(json);
    for (const OrderedJson* block : blocks)
        if (block) look(*block);
    return theta.value_or(10000);
}

}  // namespace

std::string rope_text(const RopeScaling& rope) {
    return rope.kind == RopeKind::none ? "no rotary scaling"
                                       : text("rotary scaling ", name_of(rope.kind), " by ", rope.factor);
}

std::string_view name_of(RopeKind kind) { return kind == RopeKind::none ? "none" : spelling(kind).option; }

RopeScaling parse_rope(const OrderedJson& json, std::int64_t max_positions, const std::string& where) {
    const OrderedJson* newer = find_block(json, "rope_parameters", where);
    const OrderedJson* older = find_block(json, "rope_scaling", where);
    RopeScaling rope;
    if (newer) rope = parse_block(json, *newer, max_positions, where + ": rope_parameters");
    if (older) {
        const RopeScaling from_older = parse_block(json, *older, max_positions, where + ": rope_scaling");
        require(!newer || rope == from_older, where,
                ": rope_parameters and rope_scaling disagree; remove the one that is wrong");
        rope = from_older;
    }
    rope.theta = parse_theta(json, {newer, older}, where);
    return rope;
}

void write_rope(ModelConfig& config) {
    RopeScaling& rope = config.rope;
    OrderedJson& raw = config.raw;
    // Programs that serve a model multiply: with linear scaling max_position_embeddings is the length before it
    // (the table in config.h).
    if (rope.kind == RopeKind::linear && rope.original != 0 &&
        covered_by(rope.original, rope.factor) >= config.max_positions)
        config.max_positions = rope.original;
    // yarn and llama3 have the original length among their parameters. linear does not: old versions of transformers
    // 4 refuse a third key there, and version 5 warns. So for linear it is at the top level, where only we look for
    // it.
    const bool among_parameters = rope.kind == RopeKind::yarn || rope.kind == RopeKind::llama3;
    if (among_parameters) rope.original = config.original_positions();
    raw["max_position_embeddings"] = config.max_positions;
    raw["rope_theta"] = rope.theta;
    raw.erase("rope_scaling");
    raw.erase("original_max_position_embeddings");
    OrderedJson both = OrderedJson::object();  // what both spellings say
    if (rope.kind != RopeKind::none) both["factor"] = rope.factor;
    if (rope.kind == RopeKind::llama3) {
        both["low_freq_factor"] = rope.low_freq_factor;
        both["high_freq_factor"] = rope.high_freq_factor;
    }
    if (rope.kind == RopeKind::yarn) {
        both["beta_fast"] = rope.beta_fast;
        both["beta_slow"] = rope.beta_slow;
        for (const auto& [key, value] :
             {std::pair("attention_factor", rope.attention_factor), std::pair("mscale", rope.mscale),
              std::pair("mscale_all_dim", rope.mscale_all_dim)})
            if (value != 0) both[key] = value;
        if (!rope.truncate) both["truncate"] = false;
    }
    if (among_parameters) both["original_max_position_embeddings"] = rope.original;
    if (rope.kind == RopeKind::linear && rope.original != 0) raw["original_max_position_embeddings"] = rope.original;

    OrderedJson newer = {{"rope_type", spelling(rope.kind).file}};
    newer.update(both);
    newer["rope_theta"] = rope.theta;
    raw["rope_parameters"] = newer;
    if (rope.kind == RopeKind::none) return;
    OrderedJson older = {{among_parameters ? "rope_type" : "type",
                          spelling(rope.kind).file}};  // every version that knows linear and dynamic reads "type"
    older.update(both);
    raw["rope_scaling"] = older;
}

}  // namespace longlora
