// Batch: one rank's part of the sequences of a step, in host memory. batch_reader.h reads it from token files.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/mesh.h"

namespace longlora {

/// The sequences of one rank in one step, one after another; of each sequence only the n tokens that this rank owns.
struct Batch {
    /// num_sequences * n token ids each. The label of a token is the next token, or -1 if the prediction is not
    /// counted: at the end of a sequence, and with a document mask where the next token begins a document.
    std::vector<std::int32_t> tokens, labels;
    /// With a document mask: for each sequence, the places where documents begin, relative to its first token; the
    /// first place is 0. Without one it is not read.
    std::vector<std::vector<std::int64_t>> document_starts;
    /// Counted predictions of the whole global batch, over all ranks. The loss is their mean.
    std::int64_t num_predictions = 0;
};

/// Takes whole sequences of `length` tokens each and cuts the part `own_tokens` out of each. document_starts is empty
/// for no document mask. num_predictions is that of these sequences; if they are a part of the global batch, the caller
/// puts that of all its sequences there.
Batch make_batch(std::span<const std::int32_t> tokens, std::int64_t length, parallel::Shard own_tokens,
                 std::vector<std::vector<std::int64_t>> document_starts = {});

}  // namespace longlora
