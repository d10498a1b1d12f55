// The option table of `longlora train`, and of `longlora plan`, which runs the same step. One line for each option:
// name, field, class, help.
#pragma once

#include <string>
#include <vector>

#include "jobs/command_line/option_table.h"

namespace longlora {

struct TrainOptions {
    // model
    std::string model, init, adapter;
    std::string method = "longlora", train = "embed,norm", lora_targets = "q,k,v,o";
    std::int64_t lora_rank = 8;
    double lora_alpha = 16;
    // data
    std::vector<std::string> data;
    std::string order = "shuffle";
    Flag document_mask;
    std::int64_t seed = 0;
    // context
    std::int64_t context = 0, group = 0;
    std::string attention = "shifted", rope = "auto";
    double rope_factor = 0, rope_theta = 0, rope_low_freq_factor = 0, rope_high_freq_factor = 0, rope_beta_fast = 0,
           rope_beta_slow = 0;
    std::int64_t rope_original = 0;
    // optimization
    std::int64_t steps = 1000, global_batch = 64, micro_batch = 1, warmup = 20;
    double lr = 2e-5, lr_embed = 0, lr_norm = 0, weight_decay = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, clip = 1;
    std::string schedule = "constant";
    // machine
    std::string dtype = "auto", device = "auto", recompute = "auto", offload = "none", memory;
    std::int64_t pipeline = 1, sequence = 1, zero = 0;
    // run
    std::string run_folder, verify_checkpoints = "sample", resume = "auto", stop_after, timeout = "600",
                            lock_timeout = "60";
    std::int64_t checkpoint_every = 100, keep_checkpoints = 3;
    double checkpoint_minutes = 30;
    std::vector<std::string> allow_change;
    Flag profile;

    template <class V> void visit(V&& v) {
        constexpr auto identity = OptionClass::identity, changeable = OptionClass::schedule, free = OptionClass::free;
        v("model", model, free, "folder of the pretrained model (config.json, safetensors)");
        v("init", init, free, "config.json of a model to start from scratch, instead of --model");
        v("adapter", adapter, free, "start from this LoRA adapter (folder in PEFT's layout)");
        v("data", data, free, "token files made by 'longlora prepare', FILE.h5[:weight],...");
        v("run", run_folder, free, "folder of the run: checkpoints, metrics.jsonl, manifest.json");
        v("context", context, identity, "context length in tokens");
        v("group", group, identity,
          "group size G of S2-Attn, or keys seen with sliding, in tokens; 0 = context / 4; may exceed the context");
        v("attention", attention, identity, "shifted (S2-Attn) | dense | plain | shifted-only | layers | sliding");
        v("method", method, identity, "longlora (LoRA, and what --train names) | lora | full");
        v("train", train, identity, "what --method longlora trains beside LoRA: embed,norm,lm_head or none");
        v("lora-rank", lora_rank, identity, "R");
        v("lora-alpha", lora_alpha, identity, "alpha; LoRA is scaled by alpha / R");
        v("lora-targets", lora_targets, identity, "projections with LoRA, of q,k,v,o,gate,up,down");
        v("rope", rope, identity,
          "auto (the model's kind, linear if it has none, raised to the context) | keep | linear | ntk | yarn | "
          "llama3");
        v("rope-factor", rope_factor, identity,
          "rotary scaling factor; 0 = the model's, times context / what the model covers if that is less");
        v("rope-original", rope_original, identity,
          "context before the model's linear scaling, if its config.json does not say it; 0 = the config's");
        v("rope-theta", rope_theta, identity, "rotary base; 0 = the model's");
        v("rope-low-freq-factor", rope_low_freq_factor, identity, "llama3 scaling; 0 = the model's or 1");
        v("rope-high-freq-factor", rope_high_freq_factor, identity, "llama3 scaling; 0 = the model's or 4");
        v("rope-beta-fast", rope_beta_fast, identity, "yarn scaling; 0 = the model's or 32");
        v("rope-beta-slow", rope_beta_slow, identity, "yarn scaling; 0 = the model's or 1");
        v("steps", steps, changeable, "updates in all, with those before a resume");
        v("global-batch", global_batch, identity, "sequences per update, over all ranks");
        v("micro-batch", micro_batch, free, "sequences per forward on a rank");
        v("lr", lr, changeable, "learning rate");
        v("lr-embed", lr_embed, changeable, "learning rate of the embedding; 0 = --lr");
        v("lr-norm", lr_norm, changeable, "learning rate of the norms; 0 = --lr");
        v("warmup", warmup, changeable, "steps of linear warm-up; step k uses lr * k / warmup");
        v("schedule", schedule, changeable, "constant | linear | cosine, after the warm-up");
        v("weight-decay", weight_decay, changeable, "decoupled weight decay; norms have none");
        v("beta1", beta1, changeable, "AdamW");
        v("beta2", beta2, changeable, "AdamW");
        v("eps", eps, changeable, "AdamW");
        v("clip", clip, changeable, "largest gradient norm; 0 = no clipping");
        v("order", order, identity, "shuffle | sequential");
        v("document-mask", document_mask, identity,
          "tokens do not see other documents in their sequence, and no document predicts the first token of the next");
        v("seed", seed, identity, "of data order and initialisation");
        v("dtype", dtype, identity,
          "computing type: auto (bfloat16 where every rank is good at it) | bfloat16 | float32");
        v("device", device, free,
          "auto (GPUs if every rank gets one, else CPUs) | cpu | cuda | plan (computes nothing and shows what a step "
          "would take)");
        v("pipeline", pipeline, free, "pipeline stages: ranks that hold consecutive layers");
        v("sequence", sequence, free, "ranks that share a sequence, each with its part of the tokens");
        v("zero", zero, free,
          "what data and sequence ranks shard: 0 nothing | 1 optimizer state | 2 also gradients | 3 also weights");
        v("recompute", recompute, free, "auto (keep what --memory allows) | all | none");
        v("offload", offload, free,
          "none | activations (layers' inputs wait for backward in pinned host memory, which saves GPU memory)");
        v("memory", memory, free,
          "device memory that a rank may use, such as 16GB; default: its share of what is free");
        v("checkpoint-every", checkpoint_every, free, "steps between checkpoints; 0 = none by steps");
        v("checkpoint-minutes", checkpoint_minutes, free, "minutes between checkpoints; 0 = none by time");
        v("keep", keep_checkpoints, free, "how many of the newest checkpoints are kept");
        v("verify-checkpoints", verify_checkpoints, free,
          "what ranks read back of a checkpoint that others wrote, before it counts: sample | all");
        v("resume", resume, free, "auto (newest checkpoint of --run that verifies, if any) | never | FILE");
        v("allow-change", allow_change, free, "schedule options that may differ from the checkpoint's");
        v("stop-after", stop_after, free,
          "stop with a checkpoint and exit code 75 after this time, such as 3600, 90m, 2h");
        v("timeout", timeout, free, "a rank without progress for this time ends the run with exit code 5");
        v("lock-timeout", lock_timeout, free,
          "a job whose lock in --run has no heartbeat for this time is taken for dead");
        v("profile", profile, free, "print FLOPs and seconds by operation at the end");
    }
};

/// Refuses impossible values before anything is created. Sets --group if it is 0.
void validate(TrainOptions& options);

}  // namespace longlora
