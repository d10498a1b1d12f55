// BatchReader: this rank's sequences of each step, read ahead by a background thread that calls neither MPI nor HDF5.
// Which sequences exist is data_order.h; which of a step's sequences are this rank's is the caller's slice of the
// global batch.
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

/// A batch, its step and which sequences of the order it has.
struct ReadBatch : Batch {
    std::int64_t step = 0;                ///< 1, 2, ...
    std::vector<std::int64_t> sequences;  ///< indices of the run's order
    std::int64_t num_sequences() const { return static_cast<std::int64_t>(sequences.size()); }
};

/// Of sequences `part` of the order the tokens `local` (and the one behind them, which is the last label), read now.
/// Any thread.
ReadBatch read_batch(const DataOrder& order, parallel::Shard part, parallel::Shard own_tokens);

struct BatchSlice {
    std::int64_t global_batch = 1;  ///< sequences of a step over all ranks
    parallel::Shard part{0, 1};     ///< this rank's of them; may be empty
    parallel::Shard own_tokens;     ///< this rank's tokens of every sequence
};

class BatchReader {
public:
    /// Reads steps first_step .. last_step, at most two ahead. Step k's sequences are [(k-1) * global_batch, k *
    /// global_batch). `order` must outlive it.
    BatchReader(const DataOrder& order, BatchSlice slice, std::int64_t first_step, std::int64_t last_step);
    ~BatchReader();  ///< stops the thread; what was read ahead is dropped
    BatchReader(const BatchReader&) = delete;
    BatchReader& operator=(const BatchReader&) = delete;

    /// The next step's batch, in order; waits for it. What the thread could not read is thrown here, at its step and at
    /// every later call.
    ReadBatch next();

private:
    void work(std::int64_t first_step);
    const DataOrder& order_;
    const BatchSlice slice_;
    const std::int64_t last_step_;
    std::int64_t next_step_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<ReadBatch> ready_;  // guarded by mutex_, as the two below
    std::exception_ptr failure_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace longlora
