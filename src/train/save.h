// One save under way: a file with its layout, what this rank writes into it, and the helper thread that writes and
// reads back while training continues. Internal to src/train/checkpoint.cpp, which decides when each phase begins.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "io/named_tensor_file.h"
#include "io/read_back.h"
#include "io/shared_file.h"
#include "kernels/arena.h"
#include "train/checkpoint.h"

namespace longlora {

/// First the ranks write; when all have written, each reads back what another one wrote; then the file gets its name.
enum class SavePhase { writing, reading_back };

/// The helper thread uses layout, plan, bytes and snapshot, and fills pieces and failure before it sets done.
struct CheckpointSave {
    std::int64_t step = 0;
    double begin_seconds = 0, stalled_seconds = 0;
    bool foreground = false;
    SavePhase phase = SavePhase::writing;
    NamedTensorLayout layout;
    SharedWrite plan;
    std::unique_ptr<SharedBytes> bytes;     // of other ranks, for blocks that this rank writes
    std::vector<std::int64_t> begins;       // of this rank's parts in the snapshot, in bytes
    ArenaTensor snapshot;                   // this rank's parts, one after another
    std::vector<ChecksumPiece> pieces;      // of what this rank wrote
    std::int64_t most_bytes_of_a_rank = 0;  // written
    std::string cannot_read;                // how the sentence of a failed reading begins
    std::string failure;                    // of this rank
    std::atomic<bool> done = false;         // this rank has done its part of the phase
    std::atomic<std::int64_t> progress = 0;
    std::int64_t unsynced = 0;
    std::thread helper;

    /// Runs work that may fail on this rank, and keeps the sentence of the first failure.
    void attempt(const std::function<void()>& work) noexcept;
    /// The same for work that reads what another rank wrote.
    void attempt_reading(const std::function<void()>& work) noexcept;
    /// Starts a helper thread that does `work` and sets done. If no thread can be created, does it here.
    void start_helper(const std::function<void()>& work);
    /// Waits for the end of the helper thread; calls note_work as long as the thread makes progress.
    void wait_for_helper(const std::function<void()>& note_work);

    const char* in_snapshot(std::int64_t part, std::int64_t at) const;
    /// Writes bytes of a tensor from host memory, and the disk gets them piece by piece.
    void write(const FileHandle& file, std::int64_t tensor, std::int64_t begin, std::int64_t bytes, const void* data);
    /// Writes all that this rank writes, from the snapshot and from the bytes of other ranks.
    void write_snapshot() noexcept;
    /// Reads what another rank wrote.
    void read_back_pieces(const std::vector<ChecksumPiece>& theirs) noexcept;
};

}  // namespace longlora
