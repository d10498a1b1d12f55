// What an export is made of: an open checkpoint, the base model's files, and every parameter's final value in the
// wanted type. The formats are jobs/export_hf and jobs/export_adapter.
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
    Json attributes;     ///< the checkpoint's
    ModelConfig config;  ///< extended: of the model as it is now
    TrainableSet trainables;
    ParameterList list;
    std::string base_path;                    ///< the base model's folder; empty when trained from scratch
    std::unique_ptr<SafetensorsFolder> base;  ///< its weights; null when trained from scratch
    std::int64_t step() const { return attributes.value("step", std::int64_t{0}); }
    /// The context length that the model is for: what its configuration covers, or what it was trained at (dynamic
    /// NTK's configuration keeps the original one).
    std::int64_t context() const;
};

/// Opens and checks everything that an export needs before anything is written: every trained tensor, every frozen one,
/// their shapes, and that the base model (at `model` if given) is the one that was trained from.
ExportSource open_export_source(const std::string& run_or_file, const std::string& model);

/// The parameter's values as they are trained (LoRA matrices too), or the base model's; LoRA is not merged.
TensorToWrite plain_tensor(const ExportSource& source, const Parameter& p, const std::string& name, DType dtype);
/// The same with LoRA merged into projections that have it: W + (alpha/r) B A, summed in double and rounded once.
TensorToWrite merged_tensor(const ExportSource& source, const Parameter& p, DType dtype);

/// w (rows, width) += scale * b (rows, rank) a (rank, width), one row of it: `sums` has width elements.
void add_lora_row(double* sums, const float* b_row, const float* a, std::int64_t rank, std::int64_t width,
                  double scale);

}  // namespace longlora
