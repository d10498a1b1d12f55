// Batch: one rank's part of the sequences of a step, in host memory. batch_reader.h reads it from token files.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/mesh.h"

namespace longlora {

/// The sequences of one rank in one step, one after another; of each sequence only the n tokens that this rank owns.
struct Batch {
    /// num_sequences * n token ids each. The label of a token is the next token, or -1 at the end of a sequence.
    std::vector<std::int32_t> tokens, labels;
    /// For each sequence, the places where documents begin, relative to its first token; the first place is 0. Only a
    /// document mask uses them.
    std::vector<std::vector<std::int64_t>> document_starts;
};

/// Takes whole sequences of `length` tokens each and cuts the part `own_tokens` out of each.
Batch make_batch(std::span<const std::int32_t> tokens, std::int64_t length, parallel::Shard own_tokens,
                 std::vector<std::vector<std::int64_t>> document_starts = {});

}  // namespace longlora
