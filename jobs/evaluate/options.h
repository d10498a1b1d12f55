// The option table of `longlora evaluate`.
#pragma once

#include <string>
#include <vector>

#include "eval/windows.h"
#include "jobs/command_line/option_table.h"
#include "jobs/evaluate/model_source.h"
#include "model/attention_pattern.h"

namespace longlora {

struct EvaluateOptions {
    // model
    std::string model, adapter, checkpoint;
    // what is measured
    std::vector<std::string> data, context, score = {"all"};
    std::int64_t stride = 0, windows = 0;
    Flag per_document;
    // how it is computed
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
        v("model", model, free, "folder of the model (config.json, safetensors)");
        v("adapter", adapter, free,
          "a LoRA adapter on --model (folder in PEFT's layout); a config.json in it goes before the model's");
        v("checkpoint", checkpoint, free,
          "a checkpoint of 'longlora train', or a run's folder (its newest); --model then says where its base model "
          "lies now");
        v("data", data, free, "token files made by 'longlora prepare', FILE.h5,...");
        v("context", context, free, "tokens of a window, N[,N...]: one result each");
        v("stride", stride, free, "tokens from one window's start to the next; 0 = the context");
        v("score", score, free,
          "what counts: all (every token of a window but its first) | last (its last --stride tokens, all of the first "
          "window) | all,last (two results)");
        v("per-document", per_document, free, "windows do not cross from one document into another");
        v("windows", windows, free, "only the first so many windows; 0 = all");
        v("attention", attention, free, "dense | shifted (S2-Attn) | plain | shifted-only | layers | sliding");
        v("group", group, free, "group size G of S2-Attn, or keys seen with sliding, in tokens; 0 = context / 4");
        v("rope", rope, free,
          "auto or keep (as the model says) | linear | ntk | yarn | llama3; never raised to the context by itself");
        v("rope-factor", rope_factor, free, "rotary scaling factor; 0 = the model's");
        v("rope-theta", rope_theta, free, "rotary base; 0 = the model's");
        v("rope-low-freq-factor", rope_low_freq_factor, free, "llama3 scaling; 0 = the model's or 1");
        v("rope-high-freq-factor", rope_high_freq_factor, free, "llama3 scaling; 0 = the model's or 4");
        v("rope-beta-fast", rope_beta_fast, free, "yarn scaling; 0 = the model's or 32");
        v("rope-beta-slow", rope_beta_slow, free, "yarn scaling; 0 = the model's or 1");
        v("dtype", dtype, free, "computing type: auto (bfloat16 where every rank is good at it) | bfloat16 | float32");
        v("device", device, free, "auto (GPUs if every rank gets one, else CPUs) | cpu | cuda");
        v("pipeline", pipeline, free, "pipeline stages: ranks that hold consecutive layers");
        v("sequence", sequence, free, "ranks that share a window, each with its part of the tokens");
        v("zero", zero, free,
          "3: data and sequence ranks share out the weights; 0, 1 and 2: each holds its stage's, as nothing else is "
          "kept here");
        v("memory", memory, free, "device memory that a rank may use, as 16GB; default: its share of what is free");
        v("json", json, free, "file for the results and their protocol");
        v("timeout", timeout, free, "a rank without progress for this time ends the evaluation with exit code 5");
    }

    ModelPlaces places() const { return {model, adapter, checkpoint}; }
    RopeRequest rope_request() const {
        return {rope,           rope_factor,   rope_theta, rope_low_freq_factor, rope_high_freq_factor,
                rope_beta_fast, rope_beta_slow};
    }
    AttentionPattern pattern(std::int64_t context_length) const;
};

/// One line of the result.
struct Measurement {
    WindowRules rules;
    AttentionPattern pattern;
};

/// Refuses values that cannot be. Returns what is to be measured, contexts as given, for each context the scores.
std::vector<Measurement> validate(const EvaluateOptions& options);

}  // namespace longlora
