// Checkpoints: the masters and moments of every trainable parameter as whole named tensors in one file, which all ranks
// write together. Saving overlaps with training: a rank takes a snapshot, then a helper thread that calls neither MPI
// nor HDF5 writes it. When all ranks have written, each reads back what another one wrote, before the file gets its
// name. File names and `latest`: src/run/checkpoint_files.h.
//   tensors      master/NAME, moment1/NAME, moment2/NAME (float32, whole)
//   attributes   the caller's JSON, and "step"
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/named_tensor_file.h"
#include "io/read_back.h"
#include "io/shared_file.h"
#include "model/weights.h"
#include "parallel/host_group.h"
#include "run/checkpoint_files.h"

namespace longlora {

/// The elements [begin, begin + source.count()) of tensor number `tensor` of checkpoint_tensors(), and where they are
/// on the device.
struct CheckpointPart {
    std::int64_t tensor = 0, begin = 0;
    Tensor source;  ///< flat
};

/// The tensors of a checkpoint in the order of the file; `list` is that of the whole model.
std::vector<NamedTensor> checkpoint_tensors(const ParameterList& list);

/// How a save went; the same on every rank.
struct SaveReport {
    bool saved = false;
    std::int64_t step = 0, bytes = 0;       ///< bytes of the file
    std::int64_t most_bytes_of_a_rank = 0;  ///< what the rank that wrote the most has written
    double seconds = 0;                     ///< on rank 0, from the call until the file was in place
    double stalled_seconds = 0;             ///< the part of them during which training stood still
    std::string path, sentence;             ///< sentence: why nothing was saved, or a warning; may be empty
};

struct SaverOptions {
    std::string run_folder;
    std::int64_t keep_checkpoints = 3;
    /// If the parts of any rank are larger than this, all ranks save in the foreground, without a snapshot. 0: they
    /// always do.
    std::int64_t max_snapshot_bytes = std::int64_t{4} << 30;
    /// Host memory for a save in the foreground. Every save also holds the bytes that other ranks send: below 1 MiB for
    /// each block that this rank writes and does not fill alone, so at most two blocks for each shard in the file.
    std::int64_t staging_bytes = std::int64_t{64} << 20;
    /// Part of the names of unfinished files: what is left of a killed job cannot write into the files of the next job.
    std::string writer = {};
    /// How much of a file is read back before it gets its name.
    ReadBack read_back = ReadBack::sample;
    /// Called on rank 0 before a finished file gets its name; throws an Error if the file must not get it.
    std::function<void()> before_rename = {};
    /// Called now and then by the main thread while this rank writes, or waits for its helper thread, which writes.
    std::function<void()> note_work = {};
};

struct CheckpointSave;  // train/save.h

/// All functions but constructor and destructor are collective: every rank calls them at the same steps.
class CheckpointSaver {
public:
    /// `group` has all ranks of the mesh: for every trainable element exactly one of them answers (Weights::sole).
    CheckpointSaver(const parallel::HostGroup& group, Weights& weights, const SaverOptions& options);
    /// Waits for the helper thread and drops a save that was not finished. Does not communicate.
    ~CheckpointSaver();
    CheckpointSaver(const CheckpointSaver&) = delete;
    CheckpointSaver& operator=(const CheckpointSaver&) = delete;

    /// Waits for an earlier save, then starts a save of the present values. poll() or finish() reports a failure; it is
    /// never thrown.
    void begin_save(std::int64_t step, const Json& attributes);
    /// Called at every step boundary: completes the save if all ranks have written their parts. Costs nothing if no
    /// save is under way. Returns the reports of the saves that ended since the last call.
    std::vector<SaveReport> poll();
    /// Completes the save that is under way, if any. Returns reports as poll() does.
    std::vector<SaveReport> finish();
    /// For the end of a run: waits for an earlier save, then saves in bounded memory. Throws an Error on all ranks if
    /// that fails. If `step` is saved already, only returns the earlier report.
    SaveReport save_now(std::int64_t step, const Json& attributes);
    bool under_way() const { return static_cast<bool>(save_); }

private:
    using StagedBytes = std::function<void(std::int64_t before, const char* data, std::int64_t bytes)>;
    bool start(std::int64_t step, const Json& attributes);
    void plan();
    bool reserve_snapshot();
    void take_snapshot();
    bool exchange(const ReadPiece& read);
    void stage(const PartPiece& piece, const ArenaTensor& staging, const StagedBytes& each) const;
    void write_in_foreground();
    void complete();
    void advance();
    bool begin_reading_back(std::string& failure);
    void conclude(const std::string& failure, double called);
    SaveReport commit(const std::string& failure);
    const parallel::HostGroup& group_;
    Weights& weights_;
    const SaverOptions options_;
    const std::vector<NamedTensor> tensors_;
    const std::vector<CheckpointPart> parts_;            // what this rank writes
    std::vector<std::vector<FilePart>> parts_of_ranks_;  // like nodes_, known from the first save on
    std::vector<int> nodes_;                             // by rank
    std::unique_ptr<CheckpointSave> save_;
    std::vector<SaveReport> reports_;
    SaveReport last_good_;
};

/// The attributes of a checkpoint, "step" included. Checks the format and reads no tensors.
Json read_checkpoint_attributes(const std::string& path);
/// Fills this rank's part of the masters and, in training, of the moments, bit for bit, and of the weights that are
/// computed with. Verifies every block that it reads. A checkpoint of other parameters or shapes is an Error that names
/// the first difference. Returns the attributes. Not collective: call it inside agree().
Json load_checkpoint(Weights& weights, const std::string& path);

}  // namespace longlora
