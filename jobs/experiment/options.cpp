// The checks that need no file. Each refusal names the option, its value and the way out. Options that have no effect
// are refused before, by jobs/command_line/without_effect.h.
#include "jobs/experiment/options.h"

#include <cmath>
#include <limits>

#include "io/read_back.h"
#include "jobs/command_line/units.h"
#include "model/attention_pattern.h"
#include "model/parameters.h"
#include "run/option_check.h"
#include "train/data_order.h"
#include "train/schedule.h"

namespace longlora {
namespace {

/// Far above the values of any real job, and so low that products of a few values fit into 64 bits.
constexpr std::int64_t kMost = std::int64_t{1} << 30;

void at_least(const char* name, std::int64_t value, std::int64_t least, std::int64_t most = kMost) {
    require(value >= least, "--", name, " is ", value, "; it must be at least ", least);
    require(value <= most, "--", name, " is ", value, "; it must be at most ", most);
}
void in_range(const char* name, double value, double least, double below) {
    require(std::isfinite(value) && value >= least && value < below, "--", name, " is ", value,
            "; it must be at least ", least, " and below ", below);
}

void validate_sources(const TrainOptions& o) {
    require(o.model.empty() != o.init.empty(),
            o.model.empty() ? "neither --model nor --init is given" : "both --model and --init are given",
            "; give --model FOLDER to train a pretrained model or --init config.json to start from scratch");
    require(o.init.empty() || o.method == "full",
            "--init starts from random weights, which only --method full can train; add --method full");
    require(!o.data.empty() || o.device == "plan",
            "no training data is given; make a token file with 'longlora prepare' and give it with --data FILE.h5");
    require(!o.run_folder.empty() || o.device == "plan",
            "no run folder is given; say with --run FOLDER where checkpoints and metrics go");
}

void validate_mesh(const TrainOptions& o) {
    at_least("pipeline", o.pipeline, 1, 1 << 20);
    at_least("sequence", o.sequence, 1, 1 << 20);
    require(o.sequence <= o.context, "--sequence ", o.sequence, " is more ranks than the ", o.context,
            " tokens of a sequence; take fewer");
    require(o.zero >= 0 && o.zero <= 3, "--zero ", o.zero,
            " is not a ZeRO stage; take 0 (nothing sharded), 1 (optimizer), 2 (and gradients) or 3 (and weights)");
    require(o.device == "auto" || o.device == "cpu" || o.device == "cuda" || o.device == "plan", "--device ", o.device,
            " is not one of auto, cpu, cuda and plan");
}

void check_rope_numbers(const TrainOptions& o) {
    const std::pair<const char*, double> numbers[] = {{"factor", o.rope_factor},
                                                      {"theta", o.rope_theta},
                                                      {"low-freq-factor", o.rope_low_freq_factor},
                                                      {"high-freq-factor", o.rope_high_freq_factor},
                                                      {"beta-fast", o.rope_beta_fast},
                                                      {"beta-slow", o.rope_beta_slow}};
    for (const auto& [name, value] : numbers)
        require(std::isfinite(value) && value >= 0, "--rope-", name, " is ", value,
                "; it must be positive, or 0 for the model's own");
    at_least("rope-original", o.rope_original, 0);
}

}  // namespace

void validate(TrainOptions& o) {
    method_of(o.method);
    attention_kind(o.attention);
    lora_targets_of(o.lora_targets);
    schedule_kind_of(o.schedule);
    sequence_order_of(o.order);
    validate_sources(o);
    require(o.context != 0, "no context length is given; say with --context N how many tokens a sequence has");
    at_least("context", o.context, 2);
    validate_mesh(o);
    at_least("group", o.group, 0);
    if (o.group == 0) o.group = std::max<std::int64_t>(1, o.context / 4);
    at_least("lora-rank", o.lora_rank, 1, 1 << 16);
    in_range("lora-alpha", o.lora_alpha, 1e-30, 1e9);
    at_least("steps", o.steps, 1);
    at_least("global-batch", o.global_batch, 1, 1 << 20);
    at_least("micro-batch", o.micro_batch, 1);
    at_least("warmup", o.warmup, 0);
    at_least("keep", o.keep_checkpoints, 1);
    read_back_of(o.verify_checkpoints, "--verify-checkpoints");
    at_least("checkpoint-every", o.checkpoint_every, 0);
    at_least("seed", o.seed, 0, std::numeric_limits<std::int64_t>::max());
    in_range("checkpoint-minutes", o.checkpoint_minutes, 0, 1e9);
    in_range("lr", o.lr, 0, 1e3);
    in_range("lr-embed", o.lr_embed, 0, 1e3);
    in_range("lr-norm", o.lr_norm, 0, 1e3);
    in_range("weight-decay", o.weight_decay, 0, 1e3);
    in_range("beta1", o.beta1, 0, 1);
    in_range("beta2", o.beta2, 0, 1);
    in_range("eps", o.eps, 1e-30, 1);
    in_range("clip", o.clip, 0, 1e30);
    check_rope_numbers(o);
    require(o.dtype == "auto" || o.dtype == "bfloat16" || o.dtype == "float32", "--dtype ", o.dtype,
            " is not one of auto, bfloat16 and float32");
    require(o.offload == "none" || o.offload == "activations", "--offload ", o.offload,
            " is not one of none and activations");
    require(o.recompute == "auto" || o.recompute == "all" || o.recompute == "none", "--recompute ", o.recompute,
            " is not one of auto, all and none");
    if (!o.memory.empty()) parse_bytes(o.memory, "--memory");
    if (!o.stop_after.empty()) parse_seconds(o.stop_after, "--stop-after");
    check_allowed(o.allow_change, classes_of(o));
    require(parse_seconds(o.lock_timeout, "--lock-timeout") >= 5, "--lock-timeout is ", o.lock_timeout,
            "; it must be at least 5 seconds, since a job sends a heartbeat every second");
    check_timeout(o.timeout);
}

}  // namespace longlora
