// Loads a model or an adapter on all ranks and compares what they read (same_tensors.h). What one rank reads:
// weights.h, adapter.h.
#pragma once

#include "model/adapter.h"
#include "model/same_tensors.h"

namespace longlora {

/// Collective: load_model() on every rank, into weights of its own. Throws an AgreedError if a rank cannot read its
/// files, or if they hold other values than rank 0's. Returns the checksums of all tensors in the files.
TensorChecksums load_model_on_all_ranks(const parallel::HostGroup& group, Weights& weights,
                                        const SafetensorsFolder& files, std::uint64_t seed);
/// The same for load_adapter(), under our parameter names.
TensorChecksums load_adapter_on_all_ranks(const parallel::HostGroup& group, Weights& weights, const Adapter& adapter);

}  // namespace longlora
