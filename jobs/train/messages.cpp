// A failed run's sentence goes to standard error, all others to standard output.
#include "jobs/train/messages.h"

#include <cstdio>

#include "core/clock.h"
#include "jobs/command_line/say.h"
#include "jobs/command_line/tokenizer_note.h"
#include "model/vocabulary_growth.h"

namespace longlora {
namespace {

std::string model_text(const TrainOptions& options, const Inputs& inputs) {
    const ModelConfig& c = inputs.base.config;
    const ParameterList list = list_parameters(c, inputs.base.trainables);
    return text("model: ", c.num_layers, " layers, hidden ", c.hidden, ", ", c.num_heads, "/", c.num_kv_heads,
                " heads, vocabulary ", c.vocabulary, "; ", list.total_elements(), " parameters, ",
                list.trainable_elements(), " trained (", options.method, ")");
}

}  // namespace

void introduce(const parallel::HostGroup& group, const TrainOptions& options, const Inputs& inputs,
               const FittedStep& step, const Machine& machine) {
    for (std::int64_t i = 0; group.rank() == 0 && i < inputs.order->num_sources(); ++i)
        say(group, tokenizer_note(options.model, inputs.order->file(i)));
    say(group, model_text(options, inputs));
    say(group, growth_text(inputs.base.config));
    say(group, text("context: ", options.context, " tokens, attention ", options.attention, ", group ", options.group,
                    ", ", rope_text(inputs.base.config.rope)));
    say(group, text("machine: ", group.size(), " rank(s) x ", machine.resources.threads, " thread(s), ",
                    machine.device->description(), ", computing in ", step.dtype));
    const auto& m = machine.mesh.shape;
    if (group.size() > 1)
        say(group, text("mesh: pipeline ", m.pipeline, " x data ", m.data, " x sequence ", m.sequence, ", ZeRO ",
                        options.zero));
    say(group, machine.resources.choice.note);
    say(group, text("memory: kept for backward", m.pipeline > 1 ? " on the first stage: " : ": ",
                    to_text(step.activations, step.stage)));
}

std::string live_text(const StepReport& r) {
    char line[240];
    std::snprintf(line, sizeof line, "step %lld/%lld  loss %.4f  lr %.2e  norm %.3f  %.0f tokens/s  %s left",
                  static_cast<long long>(r.step), static_cast<long long>(r.steps), r.loss, r.learning_rate, r.grad_norm,
                  r.tokens_per_second, duration_text(r.seconds_left).c_str());
    return line;
}

std::string memory_note(const TrainOptions& options, const FittedStep& step, std::int64_t used_bytes) {
    const std::int64_t planned = step.plan.arena_bytes;
    if (used_bytes == planned || options.document_mask.on) return "";
    return text("device memory: ", bytes_text(used_bytes), " were used on rank 0 and ", bytes_text(planned),
                " planned; this is a fault of the plan, please report it");
}

void tell_outcome(const parallel::HostGroup& group, const TrainOptions& options, const TrainOutcome& outcome) {
    const bool resumes_by_itself = options.resume == "auto";  // with FILE the same command would go back to FILE
    if (outcome.code == ExitCode::done)
        say(group, text(outcome.step > options.steps ? text("nothing to do: --steps is ", options.steps,
                                                            ", and the run has done ", outcome.step, " steps already")
                                                     : text("done: ", outcome.step, " steps"),
                        "; 'longlora export ", options.run_folder, " OUT --format hf' makes a model of it"));
    else if (outcome.code == ExitCode::stopped)
        say(group, text(outcome.sentence,
                        resumes_by_itself ? "; the same command resumes from "
                                          : "; the same command with --resume auto resumes from ",
                        outcome.checkpoint));
    else if (group.rank() == 0) std::fprintf(stderr, "longlora: %s\n", outcome.sentence.c_str());
}

}  // namespace longlora
