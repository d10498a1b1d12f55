// Describes a model and what is trained in a sentence for people; inspect, train and plan print the same words.
// Tables of tensors are in jobs/inspect/tensors.cpp.
#pragma once

#include <string>

#include "model/config.h"
#include "model/parameters.h"

namespace longlora {

/// "12,345,678"
std::string grouped(std::int64_t n);
/// "llama, 32 layers, 4,096 wide (11,008 inside), 32 query / 8 key-value heads of 128, vocabulary 32,000, tied
/// embeddings"
std::string describe_model(const ModelConfig& config);
/// "4,096 tokens, rotary scaling linear by 8 from 512, theta 10000"
std::string describe_context(const ModelConfig& config);
/// "longlora: LoRA on q,k,v,o with rank 8 and alpha 16, embedding, norms"
std::string describe_trainables(const TrainableSet& set);

}  // namespace longlora
