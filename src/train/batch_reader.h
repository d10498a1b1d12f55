// BatchReader: this rank's sequences of each step, read ahead by a background thread that calls neither MPI nor HDF5.
// data_order.h says which sequences there are; the caller says which part of the global batch belongs to this rank.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "parallel/mesh.h"
#include "train/batch.h"
#include "train/data_order.h"

namespace longlora {

/// A batch, its step, and which sequences of the data order it holds.
struct ReadBatch : Batch {
    std::int64_t step = 0;                ///< 1, 2, ...
    std::vector<std::int64_t> sequences;  ///< indices in the data order
    std::int64_t num_sequences() const { return sequences.size(); }
};

struct BatchSlice {
    std::int64_t global_batch = 1;  ///< sequences of a step, over all ranks
    parallel::Shard part{0, 1};     ///< which of them belong to this rank; may be empty
    parallel::Shard own_tokens;     ///< this rank's tokens of every sequence
    bool document_mask = false;     ///< no document predicts the first token of the next one
};

/// Reads now this rank's part of a step: step k has the sequences [(k-1) * global_batch, k * global_batch) of the
/// order. Of each sequence of the part it reads the own tokens and the token after them, which is the last label; of
/// the other sequences it only counts predictions. Any thread may call it.
ReadBatch read_batch(const DataOrder& order, const BatchSlice& slice, std::int64_t step);

class BatchReader {
public:
    /// Reads the steps first_step .. last_step, at most two of them ahead. `order` must outlive the reader.
    BatchReader(const DataOrder& order, BatchSlice slice, std::int64_t first_step, std::int64_t last_step);
    ~BatchReader();  ///< stops the thread and drops what was read ahead
    BatchReader(const BatchReader&) = delete;
    BatchReader& operator=(const BatchReader&) = delete;

    /// Waits for the batch of the next step and returns it. If the thread could not read a step, the call for that step
    /// and every later call throw its error.
    ReadBatch next();

private:
    void work(std::int64_t first_step);
    const DataOrder& order_;
    const BatchSlice slice_;
    const std::int64_t last_step_;
    std::int64_t next_step_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<ReadBatch> ready_;  // guarded by mutex_, as are the next two
    std::exception_ptr failure_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace longlora
