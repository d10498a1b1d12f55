// A model known by its content, not its path: what a checkpoint remembers of its base model.
#pragma once

#include <string>

#include "io/safetensors.h"

namespace longlora {

/// SHA-256 over every tensor's name, type, shape and CRC-32C, by name: equal for equal tensors, however they are split over files.
std::string content_hash(const SafetensorsFolder& files);

}  // namespace longlora
