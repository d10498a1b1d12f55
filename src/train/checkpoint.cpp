// Saving checkpoints: rank 0 creates the file with its layout, every rank writes the parts for which it answers
// (Weights::sole), and rank 0 renames the finished file. Loading is in checkpoint_load.cpp.
#include "train/checkpoint.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <system_error>
#include <unordered_map>

#include "core/clock.h"
#include "core/error.h"
#include "parallel/agree.h"

namespace longlora {

namespace {

constexpr std::int64_t kElementsOfBlock = kChecksumBlock / 4;   // float32
constexpr std::int64_t kWriteElements = 16 * kElementsOfBlock;  // one pwrite and its checksums
constexpr const char* kKinds[] = {"master/", "moment1/", "moment2/"};
// At most so much goes to the disk at once, so that progress is seen on a slow disk too.
constexpr std::int64_t kUnsyncedBytes = std::int64_t{32} << 20;
constexpr double kLookSeconds = 0.005;      // between two looks at the helper thread
constexpr int kHelperNice = 10;             // about a tenth of a core if other threads want the core too
constexpr char kFine = '+', kFailed = '-';  // the first byte of messages between ranks

std::int64_t elements_of(const std::vector<CheckpointPart>& parts) {
    std::int64_t n = 0;
    for (const CheckpointPart& part : parts) n += part.source.count();
    return n;
}

std::int64_t bytes_of(const std::vector<ChecksumPiece>& pieces) {
    std::int64_t bytes = 0;
    for (const ChecksumPiece& piece : pieces) bytes += piece.length;
    return bytes;
}

/// Views of the elements for which this rank answers, in the order of the file.
std::vector<CheckpointPart> parts_to_save(const Weights& weights, const std::vector<NamedTensor>& tensors) {
    ensure(weights.options().training, "only weights in training have moments to save");
    std::unordered_map<std::string, std::int64_t> place;
    for (std::size_t t = 0; t < tensors.size(); ++t) place[tensors[t].name] = t;
    std::vector<CheckpointPart> parts;
    for (int which = 0; which <= 2; ++which)
        for (const OwnedPart& part : weights.sole_parts()) {
            const std::int64_t unit = part.parameter->unit;
            const Tensor own = which == 0 ? weights.own_master(unit) : weights.own_moment(unit, which);
            parts.push_back({place.at(kKinds[which] + part.parameter->name), part.in_parameter.begin,
                             own.slice(part.in_own, part.in_parameter.count)});
        }
    return parts;
}

}  // namespace

std::vector<NamedTensor> checkpoint_tensors(const ParameterList& list) {
    std::vector<NamedTensor> tensors;
    for (const std::string kind : kKinds)
        for (const Parameter& p : list.parameters)
            if (p.trainable) tensors.push_back({kind + p.name, DType::float32, p.shape});
    return tensors;
}

/// A save under way. The helper thread reads layout and snapshot, and fills pieces and failure before it sets done.
struct CheckpointSaver::Save {
    std::int64_t step = 0;
    double begin_seconds = 0, stalled_seconds = 0;
    NamedTensorLayout layout;
    ArenaTensor snapshot;  // this rank's parts, one after another
    std::vector<ChecksumPiece> pieces;
    std::string failure;
    std::atomic<bool> done = false;
    std::atomic<std::int64_t> written = 0;  // bytes
    std::int64_t synced = 0;
    std::thread helper;

    /// Runs work that may fail on this rank, and keeps the sentence of its failure.
    template <class Work> void attempt(const Work& work) noexcept {
        try {
            work();
        } catch (const std::exception& error) {
            failure = sentence_of(error);
        }
    }
    /// Writes the elements [begin, begin + count) of a tensor from host memory.
    void write(const FileHandle& file, std::int64_t tensor, std::int64_t begin, std::int64_t count, const float* data) {
        for (std::int64_t at = 0; at < count; at += kWriteElements) {
            const std::int64_t bytes = 4 * std::min(kWriteElements, count - at);
            write_slice(file, layout, tensor, 4 * (begin + at), data + at, bytes, pieces);
            written += bytes;
            if (written - synced < kUnsyncedBytes) continue;
            file.sync();
            synced = written;
        }
    }
    void write_snapshot(const std::vector<CheckpointPart>& parts) noexcept {
        attempt([&] {
            const FileHandle file = FileHandle::open_write(layout.path);
            const float* data = snapshot->data<float>();
            for (const CheckpointPart& part : parts) {
                write(file, part.tensor, part.begin, part.source.count(), data);
                data += part.source.count();
            }
            file.sync();
        });
        done = true;
    }
};

CheckpointSaver::CheckpointSaver(const parallel::HostGroup& group, Weights& weights, const SaverOptions& options)
    : group_(group),
      weights_(weights),
      options_(options),
      tensors_(checkpoint_tensors(list_parameters(weights.config(), weights.trainables()))),
      parts_(parts_to_save(weights, tensors_)) {}

CheckpointSaver::~CheckpointSaver() {
    if (!save_) return;
    if (save_->helper.joinable()) save_->helper.join();
    if (group_.rank() == 0) save_->attempt([&] { remove_file(save_->layout.path); });
}

/// Rank 0 creates the file; all ranks learn its layout, or why there is none.
bool CheckpointSaver::start(std::int64_t step, const Json& attributes) {
    save_ = std::make_unique<Save>();
    save_->step = step;
    save_->begin_seconds = now_seconds();
    std::string answer;
    if (group_.rank() == 0) {
        try {
            Json all = attributes;
            all["step"] = step;
            create_folders(checkpoint_folder(options_.run_folder));
            const std::string partial = checkpoint_folder(options_.run_folder) + "/" + checkpoint_name(step) +
                                        (options_.writer.empty() ? "" : "." + options_.writer) + ".partial";
            answer = kFine + pack_layout(create_named_tensor_file(partial, kCheckpointFormat, kCheckpointVersion,
                                                                  tensors_, to_line(all)));
        } catch (const std::exception& error) {
            answer = kFailed + sentence_of(error);
        }
    }
    answer = group_.broadcast(answer);
    if (answer[0] == kFine) {
        save_->layout = unpack_layout(answer.substr(1));
        return true;
    }
    SaveReport report;
    report.step = step;
    report.seconds = report.stalled_seconds = now_seconds() - save_->begin_seconds;
    report.sentence = text("the checkpoint of step ", step, " was not saved: ", answer.substr(1));
    reports_.push_back(report);
    save_.reset();
    return false;
}

/// False if the snapshot is larger than allowed, or does not fit into pinned memory.
bool CheckpointSaver::reserve_snapshot() {
    const std::int64_t n = elements_of(parts_);
    if (4 * n > options_.max_snapshot_bytes || options_.max_snapshot_bytes <= 0) return false;
    try {
        save_->snapshot =
            weights_.device().pinned().tensor(DType::float32, {std::max<std::int64_t>(n, 1)}, Use::workspace);
    } catch (const Error&) {
        return false;
    }
    return true;
}

void CheckpointSaver::take_snapshot() {
    std::int64_t at = 0;
    for (const CheckpointPart& part : parts_) {
        const std::int64_t count = part.source.count();
        weights_.device().copy_to_host(save_->snapshot->slice(at, count), part.source, Device::compute_stream());
        at += count;
    }
    weights_.device().synchronize(Device::compute_stream());
}

void CheckpointSaver::write_in_foreground() {
    Save& save = *save_;
    save.snapshot.release();
    save.attempt([&] {
        const std::int64_t piece =
            std::clamp<std::int64_t>(options_.staging_bytes / 4, 1, std::max<std::int64_t>(1, elements_of(parts_)));
        const ArenaTensor staging = weights_.device().pinned().tensor(DType::float32, {piece}, Use::workspace);
        const FileHandle file = FileHandle::open_write(save.layout.path);
        for (const CheckpointPart& part : parts_) {
            for (std::int64_t at = 0; at < part.source.count(); at += piece) {
                const std::int64_t count = std::min(piece, part.source.count() - at);
                weights_.device().copy_to_host(staging->slice(0, count), part.source.slice(at, count),
                                               Device::compute_stream());
                weights_.device().synchronize(Device::compute_stream());
                save.write(file, part.tensor, part.begin + at, count, staging->data<float>());
                if (options_.note_work) options_.note_work();
            }
        }
        file.sync();
    });
    save.done = true;
}

void CheckpointSaver::begin_save(std::int64_t step, const Json& attributes) {
    if (save_) complete();
    if (!start(step, attributes)) return;
    Save& save = *save_;
    if (group_.any(!reserve_snapshot())) {
        write_in_foreground();
        complete();
        return;
    }
    take_snapshot();
    try {
        save.helper = std::thread([&save, this] {
            // The computing threads may fill all cores, and training goes first. On Linux each thread has a priority
            // of its own. If setting it fails, that only costs time.
            setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kHelperNice);
            save.write_snapshot(parts_);
        });
    } catch (const std::system_error&) {  // no thread can be created: write here
        save.write_snapshot(parts_);
    }
    save.stalled_seconds = now_seconds() - save.begin_seconds;
}

std::vector<SaveReport> CheckpointSaver::poll() {
    if (save_ && group_.all(save_->done)) complete();
    return std::exchange(reports_, {});
}

std::vector<SaveReport> CheckpointSaver::finish() {
    if (save_) complete();
    return std::exchange(reports_, {});
}

SaveReport CheckpointSaver::save_now(std::int64_t step, const Json& attributes) {
    if (save_) complete();
    if (last_good_.saved && last_good_.step == step) return last_good_;
    if (start(step, attributes)) {
        write_in_foreground();
        complete();
    }
    SaveReport report = reports_.back();
    reports_.pop_back();
    if (!report.saved)  // the same report on every rank
        throw parallel::AgreedError(
            text(report.sentence, "; make room in the --run folder or repair what failed, and start the job again",
                 last_good_.saved ? text(": it resumes from step ", last_good_.step) : std::string()));
    return report;
}

/// Rank 0 makes the finished file a checkpoint; if that fails, it removes the file.
SaveReport CheckpointSaver::commit(const std::vector<std::string>& outcomes) {
    const Save& save = *save_;
    SaveReport report;
    report.path = checkpoint_folder(options_.run_folder) + "/" + checkpoint_name(save.step);
    try {
        std::vector<ChecksumPiece> pieces;
        for (std::size_t r = 0; r < outcomes.size(); ++r) {
            require(outcomes[r][0] == kFine, outcomes[r].substr(1),
                    outcomes.size() > 1 ? text(" (on rank ", r, ")") : std::string());
            const std::vector<ChecksumPiece> part = unpack_pieces(outcomes[r].substr(1));
            report.most_bytes_of_a_rank = std::max(report.most_bytes_of_a_rank, bytes_of(part));
            pieces.insert(pieces.end(), part.begin(), part.end());
        }
        const FileHandle file = FileHandle::open_write(save.layout.path);
        write_checksums(file, save.layout, std::move(pieces));
        file.sync();
        if (options_.before_rename) options_.before_rename();
        rename_file(save.layout.path, report.path);
        report.saved = true;
    } catch (const std::exception& error) {
        report.sentence = text("the checkpoint of step ", save.step, " was not saved: ", sentence_of(error));
        save_->attempt([&] { remove_file(save.layout.path); });
        return report;
    }
    try {
        if (options_.before_rename) options_.before_rename();
        set_latest(options_.run_folder, checkpoint_name(save.step));
        remove_old_checkpoints(options_.run_folder, options_.keep_checkpoints, save.step);
    } catch (const std::exception& error) {
        report.sentence = text("the checkpoint of step ", save.step,
                               " is saved, but what follows a save failed: ", sentence_of(error));
    }
    return report;
}

/// Waits for the end of the helper thread. As long as the thread makes progress, this rank counts as working.
void CheckpointSaver::wait_for_helper() {
    for (std::int64_t seen = -1; !save_->done; std::this_thread::sleep_for(std::chrono::duration<double>(kLookSeconds)))
        if (const std::int64_t written = save_->written; written != seen) {
            seen = written;
            if (options_.note_work) options_.note_work();
        }
    save_->helper.join();
}

void CheckpointSaver::complete() {
    Save& save = *save_;
    const double called = now_seconds();
    const bool foreground = !save.helper.joinable();
    if (!foreground) wait_for_helper();
    save.snapshot.release();
    const std::vector<std::string> outcomes =
        group_.all_gather(save.failure.empty() ? kFine + pack_pieces(save.pieces) : kFailed + save.failure);
    Json answer;
    if (group_.rank() == 0) {
        const SaveReport r = commit(outcomes);
        const double now = now_seconds(), seconds = now - save.begin_seconds;
        answer = {{"saved", r.saved},   {"most", r.most_bytes_of_a_rank},
                  {"seconds", seconds}, {"stalled", foreground ? seconds : save.stalled_seconds + now - called},
                  {"path", r.path},     {"sentence", r.sentence}};
    }
    answer = parse_json(group_.broadcast(to_line(answer)), "rank 0's report of a save");
    SaveReport report;
    report.step = save.step;
    report.bytes = save.layout.file_bytes;
    report.saved = answer["saved"].get<bool>();
    report.most_bytes_of_a_rank = answer["most"].get<std::int64_t>();
    report.seconds = answer["seconds"].get<double>();
    report.stalled_seconds = answer["stalled"].get<double>();
    report.path = answer["path"].get<std::string>();
    report.sentence = answer["sentence"].get<std::string>();
    if (report.saved) last_good_ = report;
    reports_.push_back(report);
    save_.reset();
}

}  // namespace longlora
