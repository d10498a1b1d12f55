// Checkpoints: masters and moments of every trainable parameter as whole, named, logical tensors in one file, written
// by all ranks together. Saving overlaps with training: a snapshot, then a helper thread that calls neither MPI nor
// HDF5. Names and `latest` are checkpoint_files.h.
//   tensors: master/NAME, moment1/NAME, moment2/NAME (float32, whole)     attributes: the caller's JSON and "step"
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "io/json.h"
#include "io/named_tensor_file.h"
#include "model/weights.h"
#include "parallel/host_group.h"
#include "run/checkpoint_files.h"

namespace longlora {

/// Elements [begin, begin + source.count()) of tensor `tensor` of checkpoint_tensors(), and where they are on the
/// device.
struct CheckpointPart {
    std::int64_t tensor = 0, begin = 0;
    Tensor source;  ///< flat
};

/// The tensors of a checkpoint, in the order of the file: of the whole model's list.
std::vector<NamedTensor> checkpoint_tensors(const ParameterList& list);

/// How a save went; the same on every rank.
struct SaveReport {
    bool saved = false;
    std::int64_t step = 0, bytes = 0;       ///< bytes of the file
    std::int64_t most_bytes_of_a_rank = 0;  ///< written by the rank that wrote the most of it
    double seconds = 0;                     ///< rank 0's, from the call until it was in place
    double stalled_seconds = 0;             ///< rank 0's, of these spent inside our calls: training stood still
    std::string path, sentence;             ///< sentence: why it was not saved, or a warning; empty when all is well
};

struct SaverOptions {
    std::string run_folder;
    std::int64_t keep_checkpoints = 3;
    /// A rank whose parts are larger than this saves without a snapshot, in the foreground (then all do); 0: always.
    std::int64_t max_snapshot_bytes = std::int64_t{4} << 30;
    /// Host memory of a save in the foreground.
    std::int64_t staging_bytes = std::int64_t{64} << 20;
    /// Part of the names of unfinished files, so that what is left of a killed job cannot write into those of the next.
    std::string writer = {};
    /// Rank 0, before a finished file gets its name; throws an Error if that must not be.
    std::function<void()> before_rename = {};
    /// Now and then while this rank writes, or waits for its own writing that goes on. Main thread.
    std::function<void()> note_work = {};
};

/// All functions but the constructor and destructor are collective: every rank calls them at the same steps.
class CheckpointSaver {
public:
    /// `group`: all ranks of the mesh; among them, every trainable element is one rank's sole one (Weights::sole).
    CheckpointSaver(const parallel::HostGroup& group, Weights& weights, const SaverOptions& options);
    /// Waits for the helper thread; a save that nobody finished is dropped. Does not communicate.
    ~CheckpointSaver();
    CheckpointSaver(const CheckpointSaver&) = delete;
    CheckpointSaver& operator=(const CheckpointSaver&) = delete;

    /// Starts a save of the present values; waits for an earlier one first. A failure is reported by poll() or
    /// finish(), never thrown.
    void begin_save(std::int64_t step, const Json& attributes);
    /// At every step boundary: completes the save if all ranks have written theirs. Costs nothing when none is under
    /// way. Returns how saves went that ended since the last call.
    std::vector<SaveReport> poll();
    /// Waits until nothing is under way.
    std::vector<SaveReport> finish();
    /// The end of a run: waits for an earlier save, saves in bounded memory and throws an Error on all ranks if that
    /// fails. Does nothing but return the earlier report if `step` is saved already.
    SaveReport save_now(std::int64_t step, const Json& attributes);
    bool under_way() const { return static_cast<bool>(save_); }

private:
    struct Save;
    bool start(std::int64_t step, const Json& attributes);
    bool reserve_snapshot();
    void take_snapshot();
    void write_in_foreground();
    void wait_for_helper();
    void complete();
    SaveReport commit(const std::vector<std::string>& outcomes);
    const parallel::HostGroup& group_;
    Weights& weights_;
    const SaverOptions options_;
    const std::vector<NamedTensor> tensors_;
    const std::vector<CheckpointPart> parts_;  // what this rank writes
    std::unique_ptr<Save> save_;
    std::vector<SaveReport> reports_;
    SaveReport last_good_;
};

/// The attributes that the saver was given, "step" included. Checks the format, reads no tensors.
Json read_checkpoint_attributes(const std::string& path);
/// Fills what this rank keeps of masters (and moments, when training), bit for bit, and of the weights computed with;
/// every block read is verified. A checkpoint of other parameters or shapes is an Error that names the first. Returns
/// the attributes. Not collective: wrap it in agree().
Json load_checkpoint(Weights& weights, const std::string& path);

}  // namespace longlora
