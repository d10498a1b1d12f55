// Checks the option values without opening a file. Each message names the option, its value and the way out.
#include "jobs/evaluate/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "jobs/command_line/units.h"

namespace longlora {
namespace {

// Products of a few of these numbers fit into 64 bits.
constexpr std::int64_t kLongestContext = std::int64_t{1} << 30, kMostRanks = 1 << 20;

std::int64_t context_of(const std::string& value) {
    std::int64_t context = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), context);
    require(error == std::errc{} && end == value.data() + value.size(), "--context ", value,
            " is not a number of tokens; write --context 4096 or --context 1024,4096");
    require(context >= 2 && context <= kLongestContext, "--context is ", value, "; it must be at least 2 and at most ",
            kLongestContext);
    return context;
}

template <class T> void no_repeats(const char* option, const std::vector<T>& values) {
    for (auto one = values.begin(); one != values.end(); ++one)
        require(std::find(values.begin(), one, *one) == one, "--", option, " has ", *one,
                " twice; give each value once");
}

void validate_attention(const EvaluateOptions& o) {
    attention_kind(o.attention);
    require(o.group >= 0, "--group is ", o.group, "; it must be at least 1, or 0 for a quarter of the context");
    require(o.group <= kLongestContext, "--group is ", o.group, "; it must be at most ", kLongestContext);
}

void validate_mesh(const EvaluateOptions& o) {
    for (const auto& [name, degree] : {std::pair{"pipeline", o.pipeline}, {"sequence", o.sequence}})
        require(degree >= 1 && degree <= kMostRanks, "--", name, " is ", degree, "; it must be at least 1 and at most ",
                kMostRanks);
    require(o.zero >= 0 && o.zero <= 3, "--zero ", o.zero,
            " is not a ZeRO stage; take 0 (every rank keeps all weights) or 3 (data and sequence ranks share them)");
}

}  // namespace

AttentionPattern EvaluateOptions::pattern(std::int64_t context_length) const {
    const AttentionKind kind = attention_kind(attention);
    if (kind == AttentionKind::dense) return {kind, 0};
    return {kind, group ? group : std::max<std::int64_t>(1, context_length / 4)};
}

std::vector<Measurement> validate(const EvaluateOptions& o) {
    check_places(o.places());
    require(!o.data.empty(), "no text is given; make a token file with 'longlora prepare' and add --data FILE.h5");
    require(!o.context.empty(), "no context length is given; add --context N[,N...], the tokens in a window");
    require(o.stride >= 0, "--stride is ", o.stride, "; it must be at least 1, or 0 for the context");
    require(o.windows >= 0, "--windows is ", o.windows, "; it must be at least 1, or 0 for all");
    require(!o.score.empty(), "--score is empty; take all, last or all,last");
    require(o.dtype == "auto" || o.dtype == "bfloat16" || o.dtype == "float32", "--dtype ", o.dtype,
            " is not one of auto, bfloat16 and float32");
    require(o.device == "auto" || o.device == "cpu" || o.device == "cuda", "--device ", o.device,
            " is not one of auto, cpu and cuda");
    for (double rope : {o.rope_factor, o.rope_theta, o.rope_low_freq_factor, o.rope_high_freq_factor, o.rope_beta_fast,
                        o.rope_beta_slow})
        require(std::isfinite(rope) && rope >= 0, "a --rope-... parameter is ", rope,
                "; it must be positive, or 0 for the model's own");
    validate_attention(o);
    validate_mesh(o);
    if (!o.memory.empty()) parse_bytes(o.memory, "--memory");
    check_timeout(o.timeout);
    no_repeats("context", o.context);
    no_repeats("score", o.score);
    std::vector<Measurement> out;
    for (const auto& value : o.context) {
        const std::int64_t context = context_of(value);
        require(o.sequence <= context, "--sequence ", o.sequence, " is more ranks than the ", context,
                " tokens of a window; take fewer");
        require(o.stride <= context, "--stride ", o.stride, " is larger than the context of ", context,
                " tokens, so text would be left out; take at most the context");
        for (const auto& score : o.score)
            out.push_back({{context, o.stride ? o.stride : context, score_of(score), o.per_document.on, o.windows},
                           o.pattern(context)});
    }
    return out;
}

}  // namespace longlora
