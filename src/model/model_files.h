// Whether the files of a model hold the tensors of its config.json: all of them, and nothing that would be dropped
// without a word. weights.h fills weights from the files; io/safetensors.h reads them.
#pragma once

#include <functional>

#include "io/safetensors.h"
#include "model/config.h"

namespace longlora {

/// Refuses files that lack a tensor of the model, by the tensor's name, and files with a tensor that the model does not
/// use. Two kinds of such tensors are harmless: rotary inv_freq, which old versions of transformers saved, and the
/// lm_head.weight of a tied model if its values are those of the embedding. To know this, both are read; `progress` is
/// called now and then.
void check_model_files(const SafetensorsFolder& files, const ModelConfig& config,
                       const std::function<void()>& progress = {});

}  // namespace longlora
