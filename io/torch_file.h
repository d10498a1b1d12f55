// Writes float tensors as a file that torch.load(path, weights_only=True) reads: an uncompressed zip with a pickled
// dict of names and one entry per tensor. Only for LongLoRA's adapter_model.bin and trainable_params.bin; nothing of
// this kind is read (a pickle is a program).
#pragma once

#include <string>
#include <vector>

#include "io/safetensors.h"

namespace longlora {

/// A dict of name -> tensor (float32 or bfloat16), in the given order: PATH.partial, fsync, rename. One tensor is in
/// memory at a time.
void write_torch_file(const std::string& path, const std::vector<TensorToWrite>& tensors);

}  // namespace longlora
