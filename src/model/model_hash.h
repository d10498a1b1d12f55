// What a base model's weights are, by content: equal for equal tensors however they are spread over files and wherever these lie.
#pragma once

#include <string>

#include "io/safetensors.h"

namespace longlora {

/// SHA-256 over name, type, shape and CRC-32C of every tensor. It reads every byte once, with all threads: one rank should do it for all.
std::string model_hash(const SafetensorsFolder& files);

}  // namespace longlora
