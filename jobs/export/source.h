// The source of an export: an open checkpoint, the files of the base model, and the final value of every parameter in
// the wanted type. The formats are written in jobs/export/hf.cpp and jobs/export/adapter.cpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/named_tensor_file.h"
#include "io/safetensors.h"
#include "model/parameters.h"

namespace longlora {

struct ExportSource {
    std::unique_ptr<NamedTensorReader> checkpoint;
    Json attributes;     ///< attributes of the checkpoint
    ModelConfig config;  ///< of the extended model
    TrainableSet trainables;
    ParameterList list;
    std::string base_path;                    ///< folder of the base model; empty when trained from scratch
    std::unique_ptr<SafetensorsFolder> base;  ///< its weights; null when trained from scratch
    std::int64_t step() const { return attributes.value("step", std::int64_t{0}); }
    /// The context length of the extended model: the larger of what its configuration covers (in the shorter reading,
    /// if it has two) and what it was trained with.
    std::int64_t context() const;
};

/// Opens and checks everything that an export needs, before anything is written: that every trained and every frozen
/// tensor exists and has the right shape, and that the base model (in `model` if given) is the one that the training
/// started from.
ExportSource open_export_source(const std::string& run_or_file, const std::string& model);

/// The trained values of a parameter (also of a LoRA matrix), or those of the base model; LoRA is not merged.
TensorToWrite plain_tensor(const ExportSource& source, const Parameter& p, const std::string& name, DType dtype);
/// The same with LoRA merged into projections that have it: W + (alpha/r) B A, summed in double and rounded once.
TensorToWrite merged_tensor(const ExportSource& source, const Parameter& p, DType dtype);

/// One row of w (rows, width) += scale * b (rows, rank) a (rank, width); `sums` is the row of w.
void add_lora_row(double* sums, const float* b_row, const float* a, std::int64_t rank, std::int64_t width,
                  double scale);

}  // namespace longlora
