// A model with more tokens than its base model: published adapters have a row of the embedding for a padding token that
// the base model lacks. The new rows of matrices that the adapter does not have are the mean of the old ones.
#pragma once

#include <string>
#include <vector>

#include "io/tensor_file.h"
#include "model/config.h"
#include "model/parameters.h"

namespace longlora {

/// Gives the model `rows` tokens, at least as many as it has. config.new_rows counts those that its files lack; it is
/// part of config.raw, so that checkpoints know it.
void grow_vocabulary(ModelConfig& config, std::int64_t rows);
/// Removes what only longlora reads from a config.json for other programs.
void forget_growth(nlohmann::ordered_json& raw);

/// Whether a parameter has the new rows: the embedding and lm_head of a model that has grown.
bool has_new_rows(const ModelConfig& config, const Parameter& p);
/// The shape of a parameter in the files of the base model.
Shape shape_in_files(const ModelConfig& config, const Parameter& p);
/// The mean over the rows (first dimension) of a matrix of any float type, summed in double in the order of the rows.
std::vector<float> mean_row(const HostTensor& matrix);

/// "the vocabulary has grown by 1 to 32001: the adapter has more rows than the base model; the new rows of lm_head are
/// the mean of the old ones", or "" for a model that has not grown.
std::string growth_text(const ModelConfig& config);

}  // namespace longlora
