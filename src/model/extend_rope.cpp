// Which rotary scaling a longer context needs: the kind, the factor, and what the scaled model covers. config_rope.cpp
// reads and writes the scaling; rotary.cpp computes the frequencies.
#include <algorithm>
#include <limits>

#include "model/config_values.h"
#include "model/rotary.h"

namespace longlora {

std::int64_t covered_by(std::int64_t original, double factor) {
    return static_cast<std::int64_t>(static_cast<double>(original) * factor * (1 + 1e-12));
}

std::int64_t ModelConfig::covered_positions() const {
    if (rope.kind == RopeKind::llama3) return max_positions;
    return std::max(max_positions, covered_by(original_positions(), rope.factor));
}

namespace {

/// The kind that a request means for this model. `keep` is the model's own; so is `auto`, but if the model has none
/// and scale_if_none is set, `auto` is linear.
RopeKind requested_kind(const ModelConfig& config, const RopeRequest& request, bool scale_if_none) {
    const RopeKind own = config.rope.kind;
    if (request.kind == "keep") {
        require(request.factor == 0,
                "--rope keep leaves the model's rotary scaling as it is, so --rope-factor cannot be given with it");
        return own;
    }
    if (request.kind == "auto") return own == RopeKind::none && scale_if_none ? RopeKind::linear : own;
    for (const RopeKind kind : {RopeKind::linear, RopeKind::dynamic, RopeKind::yarn, RopeKind::llama3}) {
        if (request.kind != name_of(kind)) continue;
        require(own == RopeKind::none || own == kind, "the model's rotary scaling is already ", name_of(own), ", and ",
                request.kind, " on top of it is not defined; use --rope auto, or a model that is not extended");
        return kind;
    }
    fail(text("--rope ", request.kind, " is not known; take auto, keep, linear, ntk, yarn or llama3"));
}

/// Sets the parameters of single kinds. One that the kind does not have is refused, since it would silently have no
/// effect.
void apply_parameters(RopeScaling& rope, const RopeRequest& request) {
    const auto set = [&](double asked, double& value, const char* name, RopeKind kind) {
        if (asked == 0) return;
        require(rope.kind == kind, "the rotary parameter ", name, " belongs to ", name_of(kind),
                ", but the scaling is ", name_of(rope.kind));
        require(std::isfinite(asked) && asked > 0, "the rotary parameter ", name, " is ", asked,
                "; it must be above 0");
        value = asked;
    };
    set(request.low_freq_factor, rope.low_freq_factor, "low_freq_factor", RopeKind::llama3);
    set(request.high_freq_factor, rope.high_freq_factor, "high_freq_factor", RopeKind::llama3);
    set(request.beta_fast, rope.beta_fast, "beta_fast", RopeKind::yarn);
    set(request.beta_slow, rope.beta_slow, "beta_slow", RopeKind::yarn);
    require(rope.kind != RopeKind::llama3 || rope.high_freq_factor > rope.low_freq_factor, "high_freq_factor ",
            rope.high_freq_factor, " is not above low_freq_factor ", rope.low_freq_factor);
    require(rope.beta_fast >= rope.beta_slow, "beta_fast ", rope.beta_fast, " is below beta_slow ", rope.beta_slow);
}

/// If max_position_embeddings is the length after linear scaling: the shortest length before it.
std::int64_t shorter_original(const ModelConfig& config) {
    const double quotient = static_cast<double>(config.max_positions) / config.rope.factor;
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(quotient * (1 - 1e-12))));
}

/// --rope-original: says which of its two readings a linear config has. For other configs it can only repeat what
/// they say.
void set_original(ModelConfig& config, std::int64_t original) {
    if (original == 0) return;
    if (!config.has_two_readings()) {
        require(original == config.original_positions(), "--rope-original is ", original,
                ", but the model's config.json says ", config.original_positions(), "; leave the option out");
        return;
    }
    require(original >= shorter_original(config) && original <= config.max_positions, "--rope-original is ", original,
            "; with linear scaling by ", config.rope.factor, " and max_position_embeddings ", config.max_positions,
            " it must be between ", shorter_original(config), " and ", config.max_positions);
    config.rope.original = original;
}

void require_one_reading(const ModelConfig& config) {
    const std::int64_t longer = config.max_positions, shorter = shorter_original(config);
    const auto covers = [&](std::int64_t original) { return covered_by(original, config.rope.factor); };
    require(!config.has_two_readings(), "the model has linear scaling by ", config.rope.factor,
            ", and its max_position_embeddings of ", longer, " can be the length before or after it; add ",
            "--rope-original ", longer, " (the model covers ", covers(longer), " tokens) or --rope-original ", shorter,
            " (it covers ", covers(shorter), ")");
}

/// An attention_factor in the config belongs to the factor in the config. If it is what YaRN's formula gives, it is
/// dropped, and the formula gives that of the new factor.
void renew_attention_factor(RopeScaling& rope, double factor) {
    if (rope.attention_factor == 0 || factor == rope.factor) return;
    RopeScaling without = rope;
    without.attention_factor = 0;
    const double formula = rotary_attention_factor(without);
    require(std::abs(rope.attention_factor - formula) <= 1e-4 * formula, "the model's attention_factor is ",
            rope.attention_factor, ", but YaRN's formula gives ", formula, " for its factor of ", rope.factor,
            ", so the value for a factor of ", factor,
            " is not known; remove attention_factor from config.json, or take --rope keep");
    rope.attention_factor = 0;
}

/// Sets the factor. The length before any scaling becomes explicit, and max_positions becomes what the model covers
/// with the new factor (write_rope() writes the original length instead if the kind wants that).
void set_factor(ModelConfig& config, double factor, double covered) {
    RopeScaling& rope = config.rope;
    require(covered <= static_cast<double>(kLargestSize), "a rotary factor of ", factor, " on ",
            config.original_positions(), " positions makes a context of ", covered, ", more than ", kLargestSize);
    require(factor <= kLargestFactor, "the rotary factor becomes ", factor, ", more than 2^31");
    renew_attention_factor(rope, factor);
    rope.factor = factor;
    if (rope.kind == RopeKind::dynamic) return;  // computed from max_position_embeddings, which therefore stays
    rope.original = config.original_positions();
    config.max_positions = std::max<std::int64_t>(1, static_cast<std::int64_t>(covered));
}

/// The model is trained at `context`, which its scaling does not follow: it covers the context already, or the request
/// is `keep`. max_positions becomes what other programs compute the context from (the table in config.h). No frequency
/// changes; dynamic scaling computes them from max_positions, which therefore stays.
void cover_without_scaling(ModelConfig& config, std::int64_t context) {
    RopeScaling& rope = config.rope;
    const std::int64_t covered = config.covered_positions();
    if (rope.kind == RopeKind::dynamic || context <= config.max_positions) return;
    if (rope.kind == RopeKind::linear) {
        if (context <= covered) return;
        rope.original = static_cast<std::int64_t>(static_cast<double>(context) / rope.factor);
        while (covered_by(rope.original, rope.factor) < context) ++rope.original;
    } else if (rope.kind != RopeKind::none) {
        rope.original = config.original_positions();
    }
    config.max_positions = std::max(context, covered);
}

/// The factor that makes the model cover `context`: as much larger than its own as the context is larger than what it
/// covers. (For Llama 3.1 context / original would be another number: it covers 131072 with factor 8 on 8192.)
double raised_factor(const ModelConfig& config, std::int64_t context) {
    const double factor =
        config.rope.factor * (static_cast<double>(context) / static_cast<double>(config.covered_positions()));
    // Others compute original * factor and drop the fraction: a rounded quotient must not lose a token.
    const bool loses_a_token =
        static_cast<std::int64_t>(static_cast<double>(config.original_positions()) * factor) + 1 == context;
    return loses_a_token ? std::nextafter(factor, std::numeric_limits<double>::infinity()) : factor;
}

/// What the model covers after its factor has become `factor`.
double covered_with(const ModelConfig& config, double factor) {
    return static_cast<double>(config.covered_positions()) * (factor / config.rope.factor) * (1 + 1e-12);
}

void check_numbers(const RopeRequest& request) {
    require(request.factor == 0 || (request.factor >= 1 && request.factor <= kLargestFactor), "--rope-factor is ",
            request.factor, "; it must be between 1 and 2^31");
    require(request.theta == 0 || (request.theta > 1 && request.theta < 1e30), "--rope-theta is ", request.theta,
            "; it must be above 1 and below 1e30");
}

/// With context == 0 the request is applied literally, and no factor is raised.
ModelConfig apply(const ModelConfig& config, const RopeRequest& request, std::int64_t context) {
    check_numbers(request);
    ModelConfig changed = config;
    set_original(changed, request.original);
    const bool keep = request.kind == "keep";
    const bool other_factor = request.factor != 0 && request.factor != config.rope.factor;
    const bool beyond = context > changed.covered_positions();
    const RopeKind kind = requested_kind(changed, request, beyond || request.factor != 0);
    const bool changes_factor = request.factor != 0 ? other_factor : !keep && context > config.max_positions;
    if (context > 0 && changes_factor) require_one_reading(changed);
    // A new kind with factor 1 would compute the same as no scaling. So a model whose context needs no scaling stays
    // without.
    const bool takes_effect = kind == config.rope.kind || beyond || request.factor != 0;
    require(takes_effect || context > 0, "--rope ", request.kind,
            " on a model without rotary scaling needs --rope-factor");
    if (request.theta != 0) changed.rope.theta = request.theta;
    if (takes_effect) {
        changed.rope.kind = kind;
        apply_parameters(changed.rope, request);
    }
    if (request.factor != 0) {
        if (other_factor || kind != config.rope.kind)
            set_factor(changed, request.factor, covered_with(changed, request.factor));
    } else if (beyond && !keep) {
        set_factor(changed, raised_factor(changed, context), static_cast<double>(context));
    } else {
        cover_without_scaling(changed, context);
    }
    if (changed.rope != config.rope || changed.max_positions != config.max_positions) write_rope(changed);
    return changed;
}

}  // namespace

ModelConfig extend_rope(const ModelConfig& config, const RopeRequest& request, std::int64_t context) {
    require(context >= 1 && context <= kLargestSize, "a context of ", context,
            " tokens is not possible; it must be between 1 and ", kLargestSize);
    return apply(config, request, context);
}

ModelConfig override_rope(const ModelConfig& config, const RopeRequest& request) { return apply(config, request, 0); }

}  // namespace longlora
