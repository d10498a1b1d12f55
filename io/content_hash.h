// Recognises a model by its content instead of its path. A checkpoint records the content hash of its base model, and
// a run's manifest records the checksum of each of its tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "io/safetensors.h"

namespace longlora {

/// CRC-32C of every tensor's bytes, by name. Calls `progress` after each tensor.
using TensorChecksums = std::map<std::string, std::uint32_t>;
TensorChecksums tensor_checksums(const SafetensorsFolder& files, const std::function<void()>& progress = {});

/// SHA-256 over the name, type, shape and CRC-32C of every tensor, in the order of their names. It is equal for equal
/// tensors, however they are distributed over files.
std::string content_hash(const SafetensorsFolder& files, const TensorChecksums& checksums);
std::string content_hash(const SafetensorsFolder& files);

/// The first tensor that has changed, and its file: "model.norm.weight in DIR/model.safetensors has other bytes than
/// at the run's first start"; "" if no tensor has changed.
std::string first_difference(const SafetensorsFolder& files, const TensorChecksums& was, const TensorChecksums& is);

}  // namespace longlora
