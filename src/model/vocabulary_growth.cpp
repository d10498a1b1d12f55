// Keeps the number of new rows in the configuration, which every user of the model has.
#include "model/vocabulary_growth.h"

#include "core/error.h"

namespace longlora {
namespace {

constexpr const char* kKey = "longlora_new_rows";

template <class T> void add_row(std::vector<double>& sums, const std::byte* bytes) {
    const T* row = reinterpret_cast<const T*>(bytes);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += static_cast<double>(row[i]);
}

void add_row(std::vector<double>& sums, DType dtype, const std::byte* row) {
    if (dtype == DType::float32) return add_row<float>(sums, row);
    if (dtype == DType::bfloat16) return add_row<bf16>(sums, row);
    if (dtype == DType::float16) return add_row<fp16>(sums, row);
    ensure(dtype == DType::float64, "the mean is of a matrix of floats");
    add_row<double>(sums, row);
}

}  // namespace

void grow_vocabulary(ModelConfig& config, std::int64_t rows) {
    ensure(rows >= config.vocabulary, "a vocabulary does not shrink");
    config.new_rows += rows - config.vocabulary;
    config.vocabulary = rows;
    config.raw["vocab_size"] = rows;
    if (config.new_rows > 0) config.raw[kKey] = config.new_rows;
}

void forget_growth(nlohmann::ordered_json& raw) { raw.erase(kKey); }

bool has_new_rows(const ModelConfig& config, const Parameter& p) {
    return config.new_rows > 0 && (p.group == ParameterGroup::embedding || p.name == "lm_head.weight");
}

Shape shape_in_files(const ModelConfig& config, const Parameter& p) {
    Shape shape = p.shape;
    if (has_new_rows(config, p)) shape.sizes[0] -= config.new_rows;
    return shape;
}

std::vector<float> mean_row(const HostTensor& matrix) {
    const std::int64_t rows = matrix.shape[0], width = matrix.shape.last();
    std::vector<double> sums(width, 0.0);
    for (std::int64_t r = 0; r < rows; ++r)
        add_row(sums, matrix.dtype, matrix.bytes + r * width * size_of(matrix.dtype));
    std::vector<float> mean(width);
    for (std::int64_t i = 0; i < width; ++i) mean[i] = static_cast<float>(sums[i] / static_cast<double>(rows));
    return mean;
}

std::string growth_text(const ModelConfig& config) {
    if (config.new_rows == 0) return "";
    return text("the vocabulary has grown by ", config.new_rows, " to ", config.vocabulary,
                ": the adapter has more rows than the base model",
                config.tied ? ""
                            : "; the new rows of lm_head are "
                              "the mean of the old ones");
}

}  // namespace longlora
