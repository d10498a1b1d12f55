// Whether the files of a model hold the tensors of its config.json: all of them, and nothing that would be dropped
// without a word. weights.h fills weights from the files; io/safetensors.h reads them.
#pragma once

#include <functional>

#include "io/content_hash.h"
#include "model/config.h"

namespace longlora {

/// check_tensor_names() and check_tied_head().
void check_model_files(const SafetensorsFolder& files, const ModelConfig& config,
                       const std::function<void()>& progress = {});
/// Refuses files that lack a tensor of the model, by the tensor's name, and files with a tensor that the model does not
/// use. Two kinds of such tensors are harmless: rotary inv_freq, which old versions of transformers saved, and the
/// lm_head.weight of a tied model, which check_tied_head() reads.
void check_tensor_names(const SafetensorsFolder& files, const ModelConfig& config);
/// Refuses a tied model whose files have an lm_head.weight with other values than the embedding. To know this, it reads
/// both, unless `checksums` (of all tensors) show that they are equal. Calls `progress` now and then.
void check_tied_head(const SafetensorsFolder& files, const ModelConfig& config, const TensorChecksums& checksums = {},
                     const std::function<void()>& progress = {});

}  // namespace longlora
