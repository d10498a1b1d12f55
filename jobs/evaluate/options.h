// The option table of `longlora evaluate`. The table of train is in jobs/experiment/options.h.
#pragma once

#include <string>
#include <vector>

#include "eval/perplexity_windows.h"
#include "jobs/command_line/option_table.h"
#include "jobs/evaluate/model_source.h"
#include "model/attention_pattern.h"

namespace longlora {

struct EvaluateOptions {
    // model
    std::string model, adapter, checkpoint;
    // texts and windows
    std::vector<std::string> data, context, score = {"all"};
    std::int64_t stride = 0, windows = 0;
    Flag per_document;
    // computation
    std::string attention = "dense";
    std::int64_t group = 0;
    std::string rope = "auto", dtype = "auto", device = "auto", memory;
    std::int64_t pipeline = 1, sequence = 1, zero = 0;
    double rope_factor = 0, rope_theta = 0, rope_low_freq_factor = 0, rope_high_freq_factor = 0, rope_beta_fast = 0,
           rope_beta_slow = 0;
    // result
    std::string json, timeout = "600";

    template <class V> void visit(V&& v) {
        constexpr auto free = OptionClass::free;
        v("model", model, free, "model folder (config.json, safetensors)");
        v("adapter", adapter, free,
          "LoRA adapter of --model (folder in PEFT's layout); its config.json, if any, replaces the model's");
        v("checkpoint", checkpoint, free,
          "checkpoint of 'longlora train', or a run folder (its newest checkpoint); if its base model was moved, "
          "--model gives the new folder");
        v("data", data, free, "token files made by 'longlora prepare': FILE.h5[,FILE.h5...]");
        v("context", context, free, "tokens in a window, N[,N...]; each length gives one result");
        v("stride", stride, free, "tokens from one window's start to the next; 0 = the context");
        v("score", score, free,
          "tokens that count: all (all of a window but its first) | last (its last --stride tokens; in the first "
          "window all but its first) | all,last (two results)");
        v("per-document", per_document, free, "no window crosses from one document into another");
        v("windows", windows, free, "number of windows to evaluate, from the first; 0 = all");
        v("attention", attention, free,
          "attention pattern: dense | shifted (S2-Attn) | plain | shifted-only | layers | sliding");
        v("group", group, free,
          "group size of S2-Attn in tokens, or the number of keys that a token sees with sliding; 0 = context / 4; may "
          "exceed the context");
        v("rope", rope, free,
          "rotary scaling: auto or keep (the model's) | linear | ntk | yarn | llama3; never raised to the context");
        v("rope-factor", rope_factor, free, "factor of the rotary scaling; 0 = the model's");
        v("rope-theta", rope_theta, free, "rotary base theta; 0 = the model's");
        v("rope-low-freq-factor", rope_low_freq_factor, free,
          "low_freq_factor of llama3 scaling; 0 = the model's or 1");
        v("rope-high-freq-factor", rope_high_freq_factor, free,
          "high_freq_factor of llama3 scaling; 0 = the model's or 4");
        v("rope-beta-fast", rope_beta_fast, free, "beta_fast of yarn scaling; 0 = the model's or 32");
        v("rope-beta-slow", rope_beta_slow, free, "beta_slow of yarn scaling; 0 = the model's or 1");
        v("dtype", dtype, free, "computing type: auto (bfloat16 if every rank computes it fast) | bfloat16 | float32");
        v("device", device, free, "device of a rank: auto (GPUs if every rank gets one, else CPUs) | cpu | cuda");
        v("pipeline", pipeline, free, "number of pipeline stages; each holds consecutive layers");
        v("sequence", sequence, free, "number of ranks that share a window; each has a part of its tokens");
        v("zero", zero, free,
          "ZeRO stage: 3 (data and sequence ranks share the weights) | 0, 1, 2 (each rank holds all weights of its "
          "stage)");
        v("memory", memory, free,
          "device memory that a rank may use, for example 16GB; default: its share of the free memory");
        v("json", json, free,
          "file to write the results and their protocol to; it replaces an earlier result, but no other file");
        v("timeout", timeout, free, "the evaluation ends with exit code 5 if a rank makes no progress for this time");
    }

    ModelPaths places() const { return {model, adapter, checkpoint}; }
    RopeRequest rope_request() const {
        return {rope,           rope_factor,    rope_theta, rope_low_freq_factor, rope_high_freq_factor,
                rope_beta_fast, rope_beta_slow, 0};
    }
    AttentionPattern pattern(std::int64_t context_length) const;
};

/// What one line of the result table measures.
struct Measurement {
    WindowRules rules;
    AttentionPattern pattern;
};

/// Throws an Error for impossible values. Returns the measurements: contexts in the given order, and for each context
/// all scores.
std::vector<Measurement> validate(const EvaluateOptions& options);

}  // namespace longlora
