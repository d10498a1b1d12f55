// Writes float tensors to a file that torch.load(path, weights_only=True) reads: an uncompressed zip with a pickled
// dict of names and one entry per tensor. Only adapter_model.bin and trainable_params.bin, the files of the published
// LongLoRA code, need it. longlora reads no such files, since a pickle is a program.
#pragma once

#include <string>
#include <vector>

#include "io/safetensors.h"

namespace longlora {

/// Writes a dict of name -> tensor (float32 or bfloat16) in the given order: writes PATH.partial, fsyncs it and
/// renames it. One tensor is in memory at a time.
void write_torch_file(const std::string& path, const std::vector<TensorToWrite>& tensors);

}  // namespace longlora
