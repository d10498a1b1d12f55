// Everything that can be wrong with a checkpoint is found here, before the run folder is changed.
#include "jobs/train/resume_source.h"

#include "jobs/command_line/same_checkpoint.h"
#include "jobs/command_line/say.h"
#include "jobs/train/resume_check.h"
#include "parallel/agree.h"
#include "run/folder.h"
#include "train/checkpoint.h"

namespace longlora {
namespace {

/// By rank 0.
ResumeSource choose_source(const TrainOptions& o, const std::function<void()>& note_work) {
    if (o.resume == "never") {
        require(list_checkpoints(o.run_folder).empty(), "the run folder ", o.run_folder,
                " has checkpoints already; take --resume auto to resume from them, or another --run");
        return {};
    }
    const Resumable found = find_checkpoint_to_resume(o.run_folder, note_work);
    if (o.resume == "auto") {
        refuse_if_only_damaged(o.run_folder, found);
        return {found.path, found};
    }
    require(!is_folder(o.resume), "--resume ", o.resume,
            " is a folder; name one of its files checkpoints/step-*.h5, or go on in it with --run ", o.resume);
    // A requeued job gives the same command: once it has saved a checkpoint of its own, it resumes from that one and
    // not from FILE again.
    const bool began_from_file = !found.path.empty() && read_checkpoint_attributes(found.path)["options"]["free"].value(
                                                            "resume", "") == o.resume;
    return {began_from_file ? found.path : o.resume, found};
}

/// The path on this rank of the checkpoint that rank 0 chose: --run and --resume may differ by rank. Collective.
std::string path_on_this_rank(const parallel::HostGroup& group, const TrainOptions& o, const std::string& chosen) {
    const bool named_by_resume = group.any(!chosen.empty() && chosen == o.resume);
    const std::string first = group.broadcast(chosen);
    if (first.empty()) return first;
    return named_by_resume ? o.resume
                           : checkpoint_folder(o.run_folder) + "/" + checkpoint_name(step_of_checkpoint(first));
}

/// What decides the computation: the options of identity, and what config.json says. The weights are known by their
/// hash.
OptionClasses with_computation(OptionClasses options, const ModelConfig& config) {
    options.identity.update(computation_of(config));
    return options;
}

/// An addition to a sentence: what differs in the model's files from the first start. Rank 0 alone knows it.
std::string weights_difference(const TrainOptions& options, const Inputs& inputs) {
    if (inputs.model_tensors.empty() || !inputs.base.files) return "";
    const TensorChecksums was = recorded_checksums(options.run_folder);
    const std::string difference = was.empty() ? "" : first_difference(*inputs.base.files, was, inputs.model_tensors);
    return difference.empty() ? "" : "; of the model's weights " + difference;
}

PermittedChanges check_checkpoint(const TrainOptions& options, const Inputs& inputs, const RunRecord& record,
                                  const Json& attributes, const std::string& path) {
    const ModelConfig config = parse_config(nlohmann::ordered_json(member(attributes, "model_config", path)), path);
    try {
        return check_options(with_computation(option_classes_of(member(attributes, "options", path), path), config),
                             with_computation(record.options, inputs.base.config), options.allow_change, path);
    } catch (const Error& e) {
        fail(e.what() + weights_difference(options, inputs), e.code);
    }
}

}  // namespace

ResumeSource find_resume_source(WatchedGroup& watched, const TrainOptions& options) {
    const parallel::HostGroup& group = watched.group;
    ResumeSource source = parallel::agreed(group, [&] {
        return group.rank() == 0 ? choose_source(options, [&watched] { watched.note_work(); }) : ResumeSource{};
    });
    source.checkpoint = path_on_this_rank(group, options, source.checkpoint);
    if (!source.checkpoint.empty()) require_same_checkpoint(group, source.checkpoint);
    return source;
}

std::int64_t load_resume_source(const parallel::HostGroup& group, const TrainOptions& options, const Inputs& inputs,
                                const ResumeSource& source, const RunRecord& record, Weights& weights) {
    const std::string& path = source.checkpoint;
    if (path.empty()) return 1;
    const auto [attributes, changes] = parallel::agreed(group, [&] {
        const Json saved = read_checkpoint_attributes(path);
        const PermittedChanges permitted = check_checkpoint(options, inputs, record, saved, path);
        load_checkpoint(weights, path);
        return std::pair(saved, permitted);
    });
    const std::int64_t step = attributes["step"].get<std::int64_t>();
    say(group, text("resuming from ", path, " after step ", step));
    if (!changes.schedule.empty()) say(group, text("changed since then: ", changes_text(changes.schedule)));
    const std::vector<OptionChange> rounding = rounding_changes(attributes.value("environment", Json::object()),
                                                                record.attributes["environment"], changes.free);
    if (!rounding.empty())
        say(group, text("results agree with those of the checkpoint's run within rounding, not bit for bit: ",
                        changes_text(rounding)));
    return step + 1;
}

}  // namespace longlora
