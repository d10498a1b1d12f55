// A model known by its content, not its path: what a checkpoint remembers of its base model, and what a run's manifest
// remembers of each of its tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "io/safetensors.h"

namespace longlora {

/// CRC-32C of every tensor's bytes, by name. progress: called after each tensor.
using TensorChecksums = std::map<std::string, std::uint32_t>;
TensorChecksums tensor_checksums(const SafetensorsFolder& files, const std::function<void()>& progress = {});

/// SHA-256 over every tensor's name, type, shape and CRC-32C, by name: equal for equal tensors, however they are split
/// over files.
std::string content_hash(const SafetensorsFolder& files, const TensorChecksums& checksums);
std::string content_hash(const SafetensorsFolder& files);

/// The first tensor that is not as it was, and its file: "model.norm.weight in DIR/model.safetensors has other bytes
/// than at the run's first start"; "" if all are.
std::string first_difference(const SafetensorsFolder& files, const TensorChecksums& was, const TensorChecksums& is);

}  // namespace longlora
