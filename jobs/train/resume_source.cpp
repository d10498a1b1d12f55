// Everything that can be wrong with a checkpoint is found here, before the run folder is changed.
#include "jobs/train/resume_source.h"

#include <algorithm>
#include <filesystem>

#include "io/file.h"
#include "jobs/command_line/same_checkpoint.h"
#include "jobs/command_line/say.h"
#include "jobs/train/resume_check.h"
#include "parallel/agree.h"
#include "run/folder.h"
#include "run/history.h"
#include "train/checkpoint.h"

namespace longlora {
namespace {

/// Whether the run of the checkpoint `path` began with --resume FILE.
bool began_from(const std::string& path, const std::string& file) {
    const Json recorded = Json::parse(to_line(file));  // bytes that are not UTF-8 are replaced, as in checkpoints
    return read_checkpoint_attributes(path)["options"]["free"].value("resume", Json()) == recorded;
}

/// The identity of the folder that a file is in, or that a link to it leads to.
std::string folder_that_has(const std::string& file) {
    std::error_code error;
    const std::string target = std::filesystem::canonical(file, error).string();
    return file_identity(folder_of(error ? file : target));
}

/// The history of a checkpoint, which may be damaged.
Json history_of(const std::string& path) {
    try {
        return starts_of(read_checkpoint_attributes(path));
    } catch (const Error&) {
        return Json::array();
    }
}

/// Whether the run folder may go on from --resume FILE: the folder has no steps yet, or FILE is in it, or FILE has the
/// state of an earlier step of this run, wherever it is. Two courses in one folder would mix their metrics and
/// checkpoints.
bool may_go_on_from(const std::string& file, const Resumable& found) {
    std::vector<std::string> own;
    if (!found.path.empty()) own.push_back(found.path);
    for (const DamagedCheckpoint& damaged : found.damaged) own.push_back(damaged.path);
    if (own.empty() || folder_that_has(file) == folder_that_has(own.front())) return true;
    const Json attributes = read_checkpoint_attributes(file);
    return std::any_of(own.begin(), own.end(), [&](const std::string& path) {
        return is_on_the_way(starts_of(attributes), get_integer(attributes, "step", file), history_of(path));
    });
}

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
    if (!found.path.empty() && began_from(found.path, o.resume)) return {found.path, found};
    require(file_exists(o.resume), "--resume ", o.resume,
            " does not exist; name a checkpoint, RUN/checkpoints/step-*.h5");
    require(may_go_on_from(o.resume, found), "the run folder ", o.run_folder, " has steps of its own, and --resume ",
            o.resume,
            " is no checkpoint of this run; give a new --run to go on from that checkpoint, or take --resume "
            "auto or a file in ",
            checkpoint_folder(o.run_folder));
    return {o.resume, found};
}

/// The path on this rank of the checkpoint that rank 0 chose: --resume may differ by rank. Collective.
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

/// An addition to a sentence: what differs in the model's files from the first start.
std::string weights_difference(const TrainOptions& options, const Inputs& inputs, const ModelContent& model) {
    if (!inputs.base.files) return "";
    const TensorChecksums was = recorded_checksums(options.run_folder);
    const std::string difference = was.empty() ? "" : first_difference(*inputs.base.files, was, model.tensors);
    return difference.empty() ? "" : "; of the model's weights " + difference;
}

PermittedChanges check_checkpoint(const TrainOptions& options, const Inputs& inputs, const ModelContent& model,
                                  const RunRecord& record, const Json& attributes, const std::string& path) {
    const ModelConfig config = parse_config(nlohmann::ordered_json(member(attributes, "model_config", path)), path);
    try {
        return check_options(with_computation(option_classes_of(member(attributes, "options", path), path), config),
                             with_computation(record.options, inputs.base.config), options.allow_change, path);
    } catch (const Error& e) {
        fail(e.what() + weights_difference(options, inputs, model), e.code);
    }
}

}  // namespace

ResumeSource find_resume_source(WatchedGroup& watched, const TrainOptions& options) {
    const parallel::HostGroup& group = watched.group;
    ResumeSource source = parallel::agreed(group, [&] {
        if (group.rank() != 0) return ResumeSource{};
        ResumeSource chosen = choose_source(options, [&watched] { watched.note_work(); });
        if (!chosen.checkpoint.empty()) chosen.starts = starts_of(read_checkpoint_attributes(chosen.checkpoint));
        return chosen;
    });
    source.checkpoint = path_on_this_rank(group, options, source.checkpoint);
    if (!source.checkpoint.empty()) require_same_checkpoint(group, source.checkpoint);
    return source;
}

std::int64_t load_resume_source(const parallel::HostGroup& group, const TrainOptions& options, const Inputs& inputs,
                                const ModelContent& model, const ResumeSource& source, const RunRecord& record,
                                Weights& weights) {
    const std::string& path = source.checkpoint;
    if (path.empty()) return 1;
    const auto [attributes, changes] = parallel::agreed(group, [&] {
        const Json saved = read_checkpoint_attributes(path);
        const PermittedChanges permitted = check_checkpoint(options, inputs, model, record, saved, path);
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
