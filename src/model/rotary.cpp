// Computes rotary frequencies and tables. The formulas are those of transformers 5 (modeling_rope_utils), which
// computes in float32; here in double. Sources: Su et al. 2021 (RoPE), Chen et al. 2023 (linear), Peng et al. 2023
// (YaRN, NTK-aware), the Llama 3.1 model card (llama3).
#include "model/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace longlora {

namespace {

double real(std::int64_t n) { return static_cast<double>(n); }

/// theta^(-2i/d), i = 0 .. d/2 - 1.
std::vector<double> plain_frequencies(double theta, std::int64_t head_dim) {
    std::vector<double> frequencies(head_dim / 2);
    for (std::size_t i = 0; i < frequencies.size(); ++i)
        frequencies[i] = std::pow(theta, -2.0 * static_cast<double>(i) / real(head_dim));
    return frequencies;
}

/// Dynamic NTK: up to max_positions nothing is scaled. Beyond, the base grows so that the slowest pair turns as far
/// over `context` as linear scaling would let it.
double dynamic_theta(const RopeScaling& rope, std::int64_t head_dim, std::int64_t max_positions, std::int64_t context) {
    if (context <= max_positions || head_dim <= 2) return rope.theta;  // with one pair the base does not matter
    const double stretch = rope.factor * real(context) / real(max_positions) - (rope.factor - 1);
    return rope.theta * std::pow(stretch, real(head_dim) / real(head_dim - 2));
}

/// The (fractional) index of the pair whose wave turns `turns` times over `original` tokens, in units of i as in
/// theta^(-2i/d).
double pair_turning(double turns, const RopeScaling& rope, std::int64_t head_dim, std::int64_t original) {
    return real(head_dim) * std::log(real(original) / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
}

/// YaRN: fast pairs stay, slow pairs are divided by factor, and a linear ramp is between them.
void scale_yarn(std::vector<double>& frequencies, const RopeScaling& rope, std::int64_t head_dim,
                std::int64_t original) {
    double low = pair_turning(rope.beta_fast, rope, head_dim, original),
           high = pair_turning(rope.beta_slow, rope, head_dim, original);
    if (rope.truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0), high = std::min(high, real(head_dim - 1));
    if (low == high) high += 0.001;
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const double interpolated = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        frequencies[i] *= interpolated / rope.factor + (1 - interpolated);
    }
}

/// Llama 3.1 scales by wavelength: frequencies of waves longer than original/low_freq_factor are divided by factor,
/// those of waves shorter than original/high_freq_factor stay, and the transition between them is smooth.
void scale_llama3(std::vector<double>& frequencies, const RopeScaling& rope, std::int64_t original) {
    for (double& frequency : frequencies) {
        const double turns = real(original) * frequency / (2 * std::numbers::pi);  // over the original context
        const double kept =
            std::clamp((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
        frequency *= (1 - kept) / rope.factor + kept;
    }
}

}  // namespace

std::vector<double> rotary_frequencies(const RopeScaling& rope, std::int64_t head_dim, std::int64_t max_positions,
                                       std::int64_t original_positions, std::int64_t context) {
    ensure(head_dim > 0 && head_dim % 2 == 0 && max_positions > 0 && original_positions > 0,
           "rotary frequencies need an even head_dim and positive lengths");
    const double theta =
        rope.kind == RopeKind::dynamic ? dynamic_theta(rope, head_dim, max_positions, context) : rope.theta;
    std::vector<double> frequencies = plain_frequencies(theta, head_dim);
    if (rope.kind == RopeKind::linear)
        for (double& frequency : frequencies) frequency /= rope.factor;
    if (rope.kind == RopeKind::yarn) scale_yarn(frequencies, rope, head_dim, original_positions);
    if (rope.kind == RopeKind::llama3) scale_llama3(frequencies, rope, original_positions);
    return frequencies;
}

double rotary_attention_factor(const RopeScaling& rope) {
    if (rope.kind != RopeKind::yarn) return 1;
    if (rope.attention_factor != 0) return rope.attention_factor;
    const auto temperature = [&](double mscale) {
        return rope.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1;
    };
    if (rope.mscale != 0 && rope.mscale_all_dim != 0)
        return temperature(rope.mscale) / temperature(rope.mscale_all_dim);
    return temperature(1);
}

RotaryTables rotary_tables(const ModelConfig& config, std::int64_t context, std::int64_t begin, std::int64_t rows) {
    ensure(begin >= 0 && rows > 0 && begin + rows <= context,
           "rotary tables need at least one position of the sequence");
    const std::vector<double> frequencies =
        rotary_frequencies(config.rope, config.head_dim, config.max_positions, config.original_positions(), context);
    const double factor = rotary_attention_factor(config.rope);
    RotaryTables tables;
    tables.positions = rows;
    tables.half = config.head_dim / 2;
    const auto half = frequencies.size(), count = static_cast<std::size_t>(rows) * half;
    tables.cos.resize(count);
    tables.sin.resize(count);
#pragma omp parallel for
    for (std::int64_t t = 0; t < rows; ++t) {
        for (std::size_t i = 0; i < half; ++i) {
            const double angle = static_cast<double>(begin + t) * frequencies[i];
            const std::size_t at = static_cast<std::size_t>(t) * half + i;
            tables.cos[at] = static_cast<float>(std::cos(angle) * factor);
            tables.sin[at] = static_cast<float>(std::sin(angle) * factor);
        }
    }
    return tables;
}

}  // namespace longlora
