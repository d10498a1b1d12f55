// Saving checkpoints: rank 0 creates the file with its layout. Every rank answers for some parts (Weights::sole); it
// writes them, except what is in blocks that other ranks write (io/shared_file.h). Every rank then reads back what
// another one wrote, and rank 0 renames the finished file. Loading is in checkpoint_load.cpp.
#include "train/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "core/clock.h"
#include "core/error.h"
#include "core/host.h"
#include "parallel/agree.h"
#include "train/save.h"

namespace longlora {

namespace {

constexpr const char* kKinds[] = {"master/", "moment1/", "moment2/"};
constexpr char kFine = '+', kFailed = '-';  // the first byte of messages between ranks

std::int64_t elements_of(const std::vector<CheckpointPart>& parts) {
    std::int64_t n = 0;
    for (const CheckpointPart& part : parts) n += part.source.count();
    return n;
}

std::vector<FilePart> file_parts_of(const std::vector<CheckpointPart>& parts) {
    std::vector<FilePart> out;
    for (const CheckpointPart& part : parts) out.push_back({part.tensor, 4 * part.begin, 4 * part.source.count()});
    return out;
}

std::vector<FilePart> unpack_file_parts(const std::string& bytes) {
    std::vector<FilePart> parts(bytes.size() / sizeof(FilePart));
    if (!bytes.empty()) std::memcpy(parts.data(), bytes.data(), bytes.size());
    return parts;
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
    save_ = std::make_unique<CheckpointSave>();
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
        plan();
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

/// Decides which rank writes which bytes of the file.
void CheckpointSaver::plan() {
    if (parts_of_ranks_.empty()) {
        nodes_ = group_.all_gather(group_.node());
        const std::vector<FilePart> mine = file_parts_of(parts_);
        const std::string packed(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(FilePart));
        for (const std::string& theirs : group_.all_gather(packed))
            parts_of_ranks_.push_back(unpack_file_parts(theirs));
    }
    save_->plan = plan_shared_write(save_->layout, parts_of_ranks_, group_.rank());
    std::int64_t at = 0;
    for (const CheckpointPart& part : parts_) {
        save_->begins.push_back(at);
        at += 4 * part.source.count();
    }
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

/// Sends the bytes that other ranks write, and receives theirs. False if a rank has no memory for that.
bool CheckpointSaver::exchange(const ReadPiece& read) {
    CheckpointSave& save = *save_;
    if (save.plan.rounds.empty()) return save.failure.empty();
    save.attempt([&] { save.bytes = std::make_unique<SharedBytes>(save.plan); });
    if (group_.any(!save.failure.empty())) return false;
    exchange_pieces(
        save.plan, *save.bytes, [&](const PartPiece& piece, void* out) { save.attempt([&] { read(piece, out); }); },
        [&](const char* out, const auto& bytes_to, char* in, const auto& bytes_from) {
            group_.exchange(out, bytes_to, in, bytes_from);
        });
    return save.failure.empty();
}

/// Copies a piece from the device, as much at once as `staging` holds, and calls each(bytes before, data, bytes).
void CheckpointSaver::stage(const PartPiece& piece, const ArenaTensor& staging, const StagedBytes& each) const {
    const Tensor& source = parts_[piece.part].source;
    for (std::int64_t at = piece.begin, end = piece.begin + piece.bytes; at < end;) {
        const std::int64_t first = at / 4, count = std::min(staging->count(), (end + 3) / 4 - first);
        weights_.device().copy_to_host(staging->slice(0, count), source.slice(first, count), Device::compute_stream());
        weights_.device().synchronize(Device::compute_stream());
        const std::int64_t bytes = std::min(end, 4 * (first + count)) - at;  // blocks may cut an element
        each(at - piece.begin, reinterpret_cast<const char*>(staging->bytes) + (at - 4 * first), bytes);
        if (options_.note_work) options_.note_work();
        at += bytes;
    }
}

void CheckpointSaver::write_in_foreground() {
    CheckpointSave& save = *save_;
    save.foreground = true;
    save.snapshot.release();
    ArenaTensor staging;
    save.attempt([&] {
        const std::int64_t piece =
            std::clamp<std::int64_t>(options_.staging_bytes / 4, 1, std::max<std::int64_t>(1, elements_of(parts_)));
        staging = weights_.device().pinned().tensor(DType::float32, {piece}, Use::workspace);
    });
    const bool have_all = exchange([&](const PartPiece& piece, void* out) {
        stage(piece, staging, [&](std::int64_t before, const char* data, std::int64_t bytes) {
            std::memcpy(static_cast<char*>(out) + before, data, bytes);
        });
    });
    if (have_all && !save.plan.writes.empty())
        save.attempt([&] {
            const FileHandle file = FileHandle::open_write(save.layout.path);
            for (const SharedWrite::Write& w : save.plan.writes) {
                if (w.part < 0) save.write(file, w.tensor, w.begin, w.bytes, save.bytes->received.data() + w.at);
                else
                    stage({w.part, w.at, w.bytes}, staging,
                          [&](std::int64_t before, const char* data, std::int64_t bytes) {
                              save.write(file, w.tensor, w.begin + before, bytes, data);
                          });
            }
            file.sync();
        });
    save.done = true;
}

void CheckpointSaver::begin_save(std::int64_t step, const Json& attributes) {
    if (save_) complete();
    if (!start(step, attributes)) return;
    CheckpointSave& save = *save_;
    if (group_.any(!reserve_snapshot())) {
        write_in_foreground();
        complete();
        return;
    }
    take_snapshot();
    const bool have_all = exchange([&](const PartPiece& piece, void* out) {
        std::memcpy(out, save.in_snapshot(piece.part, piece.begin), piece.bytes);
    });
    if (have_all) save.start_helper([&save] { save.write_snapshot(); });
    else save.done = true;
    save.stalled_seconds = now_seconds() - save.begin_seconds;
}

std::vector<SaveReport> CheckpointSaver::poll() {
    if (save_ && group_.all(save_->done)) advance();
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

/// Rank 0 makes the finished file a checkpoint; if something failed before, or fails now, it removes the file.
SaveReport CheckpointSaver::commit(const std::string& failure) {
    const CheckpointSave& save = *save_;
    SaveReport report;
    report.path = checkpoint_folder(options_.run_folder) + "/" + checkpoint_name(save.step);
    report.most_bytes_of_a_rank = save.most_bytes_of_a_rank;
    try {
        require(failure.empty(), failure);
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

void CheckpointSaver::complete() {
    while (save_) advance();
}

/// Waits until this rank has done its part of the phase, and begins the next phase or ends the save.
void CheckpointSaver::advance() {
    CheckpointSave& save = *save_;
    const double called = now_seconds();
    save.wait_for_helper(options_.note_work);
    std::string failure;  // known on rank 0
    if (save.phase == SavePhase::writing) {
        if (begin_reading_back(failure)) {
            save.stalled_seconds += now_seconds() - called;
            return;
        }
    } else {
        for (const std::string& one : group_.all_gather(save.failure))
            if (failure.empty()) failure = one;
    }
    conclude(failure, called);
}

/// All ranks have written: rank 0 adds the checksums, and each rank begins to read. False if something failed.
bool CheckpointSaver::begin_reading_back(std::string& failure) {
    CheckpointSave& save = *save_;
    save.snapshot.release();
    save.bytes.reset();
    const std::vector<std::string> outcomes =
        group_.all_gather(save.failure.empty() ? kFine + pack_pieces(save.pieces) : kFailed + save.failure);
    std::vector<ChecksumPiece> pieces, theirs;
    const int partner = read_back_partners(nodes_)[group_.rank()];
    const auto finish_file = [&] {
        for (std::size_t r = 0; r < outcomes.size(); ++r) {
            require(outcomes[r][0] == kFine, outcomes[r].substr(1),
                    outcomes.size() > 1 ? text(" (on rank ", r, ")") : std::string());
            const std::vector<ChecksumPiece> part = unpack_pieces(outcomes[r].substr(1));
            save.most_bytes_of_a_rank = std::max(save.most_bytes_of_a_rank, bytes_of(part));
            if (static_cast<int>(r) == partner) theirs = part;
            if (group_.rank() == 0 || partner == 0) pieces.insert(pieces.end(), part.begin(), part.end());
        }
        if (group_.rank() != 0) return;
        const FileHandle file = FileHandle::open_write(save.layout.path);
        write_checksums(file, save.layout, pieces);
        file.sync();
    };
    save.failure.clear();  // all ranks know it now
    save.attempt(finish_file);
    failure = group_.broadcast(save.failure);
    if (!failure.empty()) return false;
    save.phase = SavePhase::reading_back;
    save.cannot_read = cannot_read_back(group_.rank(), partner);
    if (partner == 0)
        save.attempt_reading([&] { read_back_own(save.layout, kCheckpointFormat, kCheckpointVersion, pieces); });
    theirs = pieces_to_read(theirs, options_.read_back, save.step);
    save.start_helper([&save, theirs] { save.read_back_pieces(theirs); });
    return true;
}

/// Ends the save on all ranks.
void CheckpointSaver::conclude(const std::string& failure, double called) {
    const CheckpointSave& save = *save_;
    Json answer;
    if (group_.rank() == 0) {
        const SaveReport r = commit(failure);
        const double now = now_seconds(), seconds = now - save.begin_seconds;
        answer = {{"saved", r.saved},   {"most", r.most_bytes_of_a_rank},
                  {"seconds", seconds}, {"stalled", save.foreground ? seconds : save.stalled_seconds + now - called},
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
