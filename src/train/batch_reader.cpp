// The reading thread behind train/batch_reader.h.
#include "train/batch_reader.h"

#include "core/error.h"
#include "model/micro_batch.h"

namespace longlora {

namespace {

constexpr std::size_t kStepsAhead = 2;

void append(ReadBatch& batch, const DataOrder& order, const Sequence& sequence, parallel::Shard own_tokens) {
    const bool has_end = own_tokens.begin + own_tokens.count == order.context();
    std::vector<std::int32_t> read(own_tokens.count + 1, -1);  // a sequence's last token has no label
    order.file(sequence.source).read(sequence.first_token + own_tokens.begin, own_tokens.count + !has_end, read.data());
    batch.tokens.insert(batch.tokens.end(), read.begin(), read.end() - 1);
    batch.labels.insert(batch.labels.end(), read.begin() + 1, read.end());
}

}  // namespace

ReadBatch read_batch(const DataOrder& order, const BatchSlice& slice, std::int64_t step) {
    ReadBatch batch;
    batch.step = step;
    const std::int64_t first = (step - 1) * slice.global_batch;
    for (std::int64_t i = 0; i < slice.global_batch; ++i) {
        const Sequence sequence = order.sequence(first + i);
        std::vector<std::int64_t> starts;
        if (slice.document_mask) starts = order.document_starts(sequence);
        batch.num_predictions += num_predictions(order.context(), starts);
        if (i < slice.part.begin || i >= slice.part.begin + slice.part.count) continue;
        append(batch, order, sequence, slice.own_tokens);
        leave_out_document_begins(std::span(batch.labels).last(slice.own_tokens.count), slice.own_tokens, starts);
        if (slice.document_mask) batch.document_starts.push_back(std::move(starts));
        batch.sequences.push_back(first + i);
    }
    return batch;
}

BatchReader::BatchReader(const DataOrder& order, BatchSlice slice, std::int64_t first_step, std::int64_t last_step)
    : order_(order),
      slice_(slice),
      last_step_(last_step),
      next_step_(first_step) {
    ensure(first_step >= 1 && slice.part.begin >= 0 && slice.part.count >= 0 &&
               slice.part.begin + slice.part.count <= slice.global_batch,
           "a rank's slice of a step's batch");
    ensure(slice.own_tokens.begin >= 0 && slice.own_tokens.count >= 1 &&
               slice.own_tokens.begin + slice.own_tokens.count <= order.context(),
           "a rank's tokens of every sequence");
    thread_ = std::thread([this, first_step] { work(first_step); });
}

BatchReader::~BatchReader() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void BatchReader::work(std::int64_t first_step) {
    try {
        for (std::int64_t step = first_step; step <= last_step_; ++step) {
            {
                std::unique_lock lock(mutex_);
                changed_.wait(lock, [this] { return stop_ || ready_.size() < kStepsAhead; });
                if (stop_) return;
            }
            ReadBatch batch = read_batch(order_, slice_, step);
            const std::lock_guard lock(mutex_);
            ready_.push_back(std::move(batch));
            changed_.notify_all();
        }
    } catch (...) {
        const std::lock_guard lock(mutex_);
        failure_ = std::current_exception();
        changed_.notify_all();
    }
}

ReadBatch BatchReader::next() {
    ensure(next_step_ <= last_step_, "no batch is read beyond the last step");
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return failure_ || !ready_.empty(); });
    if (ready_.empty()) std::rethrow_exception(failure_);
    ReadBatch batch = std::move(ready_.front());
    ready_.pop_front();
    ensure(batch.step == next_step_, "batches come in the order of steps");
    ++next_step_;
    changed_.notify_all();
    return batch;
}

}  // namespace longlora
