// Opens and checks the source of an export, then gives values row by row: a row of a parameter is converted to double,
// the LoRA product is added, and the sum is rounded to the wanted type.
#include "jobs/export/source.h"

#include <filesystem>
#include <functional>

#include "core/dtype.h"
#include "io/checksum.h"
#include "io/file.h"
#include "model/parameters_json.h"
#include "model/vocabulary_growth.h"
#include "run/checkpoint_files.h"

namespace longlora {
namespace {

const std::string kMaster = "master/";

bool is_lora(const Parameter& p) { return p.group == ParameterGroup::lora; }

/// The LoRA matrix `matrix` ("lora_A" or "lora_B") that belongs to the weight `p`; nullptr if `p` has no LoRA.
const Parameter* lora_of(const ParameterList& list, const Parameter& p, const char* matrix) {
    if (p.group != ParameterGroup::weight || !p.name.ends_with("_proj.weight")) return nullptr;
    const std::string name = p.name.substr(0, p.name.size() - 6) + matrix + ".weight";
    for (const Parameter& other : list.parameters)
        if (other.name == name) return &other;
    return nullptr;
}

void open_base(ExportSource& source, const std::string& model) {
    const Json& base = member(source.attributes, "base_model", source.checkpoint->path());
    if (base.is_null()) {
        require(model.empty(), source.checkpoint->path(),
                " was trained from scratch, so there is no base model; leave --model out");
        return;
    }
    source.base_path = model.empty() ? get_text(base, "path", source.checkpoint->path()) : model;
    require(is_folder(source.base_path), "the base model of ", source.checkpoint->path(), " is not in ",
            source.base_path, "; say where it is with --model DIR");
    source.base = std::make_unique<SafetensorsFolder>(source.base_path);
}

void check_tensors(const ExportSource& source) {
    for (const Parameter& p : source.list.parameters) {
        if (p.trainable) {
            const TensorEntry& entry = source.checkpoint->entry(kMaster + p.name);
            require(entry.dtype == DType::float32 && entry.shape == p.shape, source.checkpoint->path(), ": ",
                    entry.name, " is ", name_of(entry.dtype), " ", to_text(entry.shape), "; it must be float32 ",
                    to_text(p.shape));
            continue;
        }
        require(source.base != nullptr, source.checkpoint->path(), " has no base model but does not train ", p.name);
        const HostTensor tensor = source.base->get(p.name);
        const Shape expected = shape_in_files(source.config, p);
        require(tensor.shape == expected, source.base_path, ": ", p.name, " has the shape ", to_text(tensor.shape),
                ", but the configuration needs ", to_text(expected));
        const bool real = tensor.dtype == DType::float32 || tensor.dtype == DType::bfloat16 ||
                          tensor.dtype == DType::float16 || tensor.dtype == DType::float64;
        require(real, source.base_path, ": ", p.name, " has the type ", name_of(tensor.dtype),
                "; it must be float32, bfloat16, float16 or float64");
    }
}

/// A tensor of the base model. Its checksum is computed here, right before its values are used, so that it comes from
/// the disk once.
HostTensor read_base(const ExportSource& source, const std::string& name) {
    const HostTensor tensor = source.base->get(name);
    (*source.base_checksums)[name] = crc32c(tensor.bytes, static_cast<std::size_t>(tensor.size_bytes()));
    return tensor;
}

std::vector<float> read_master(const ExportSource& source, const Parameter& p) {
    std::vector<float> values(p.shape.count());
    source.checkpoint->read(kMaster + p.name, 0, p.shape.count(), values.data());
    return values;
}

template <class T> void widen(double* out, const std::byte* from, std::int64_t begin, std::int64_t count) {
    const T* values = reinterpret_cast<const T*>(from) + begin;
    for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<double>(values[i]);
}

void widen(double* out, DType dtype, const std::byte* from, std::int64_t begin, std::int64_t count) {
    switch (dtype) {
        case DType::float32:
            return widen<float>(out, from, begin, count);
        case DType::bfloat16:
            return widen<bf16>(out, from, begin, count);
        case DType::float16:
            return widen<fp16>(out, from, begin, count);
        case DType::float64:
            return widen<double>(out, from, begin, count);
        default:
            ensure(false, "check_tensors() accepts only floating-point weights");
    }
}

void narrow(std::byte* out, DType dtype, std::int64_t begin, const double* values, std::int64_t count) {
    if (dtype == DType::float32) {
        for (std::int64_t i = 0; i < count; ++i)
            reinterpret_cast<float*>(out)[begin + i] = static_cast<float>(values[i]);
    } else {
        for (std::int64_t i = 0; i < count; ++i)
            reinterpret_cast<bf16*>(out)[begin + i] = bf16(static_cast<float>(values[i]));
    }
}

/// Writes all values of `p` as `dtype` to `out`. Calls `change(row, row number)`, if given, on each row first. Threads
/// share the rows.
void fill_rows(const ExportSource& source, const Parameter& p, DType dtype, std::byte* out,
               const std::function<void(double*, std::int64_t)>& change) {
    const std::vector<float> master = p.trainable ? read_master(source, p) : std::vector<float>();
    HostTensor from{DType::float32, p.shape, reinterpret_cast<const std::byte*>(master.data())};
    if (!p.trainable) from = read_base(source, p.name);
    const std::int64_t width = p.shape.last(), rows = width ? p.shape.count() / width : 0,
                       known = width ? from.count() / width : 0;
    const std::vector<float> mean = known < rows ? mean_row(from) : std::vector<float>();
#pragma omp parallel
    {
        std::vector<double> row(width);
#pragma omp for
        for (std::int64_t r = 0; r < rows; ++r) {
            if (r < known) widen(row.data(), from.dtype, from.bytes, r * width, width);
            else std::copy(mean.begin(), mean.end(), row.begin());
            if (change) change(row.data(), r);
            narrow(out, dtype, r * width, row.data(), width);
        }
    }
}

}  // namespace

void add_lora_row(double* sums, const float* b_row, const float* a, std::int64_t rank, std::int64_t width,
                  double scale) {
    std::vector<double> product(width, 0.0);
    for (std::int64_t k = 0; k < rank; ++k)
        for (std::int64_t i = 0; i < width; ++i)
            product[i] += static_cast<double>(b_row[k]) * static_cast<double>(a[k * width + i]);
    for (std::int64_t i = 0; i < width; ++i) sums[i] += scale * product[i];
}

ExportSource open_export_source(const std::string& run_or_file, const std::string& model) {
    ExportSource source;
    const std::string path = newest_checkpoint(run_or_file);
    source.checkpoint = std::make_unique<NamedTensorReader>(path, kCheckpointFormat, kCheckpointVersion);
    source.attributes = parse_json(source.checkpoint->attributes(), path);
    require_step_of_name(path, source.attributes);
    const Json& config = member(source.attributes, "model_config", path);
    source.config = parse_config(nlohmann::ordered_json(config), path);
    source.trainables = trainables_of(member(source.attributes, "trainable", path), path);
    source.list = list_parameters(source.config, source.trainables);
    open_base(source, model);
    check_tensors(source);
    return source;
}

void require_base_content(const ExportSource& source) {
    if (!source.base) return;
    for (const std::string& name : source.base->names())
        if (!source.base_checksums->count(name)) read_base(source, name);
    const std::string& where = source.checkpoint->path();
    const std::string expected = get_text(member(source.attributes, "base_model", where), "hash", where);
    require(content_hash(*source.base, *source.base_checksums) == expected, "the weights in ", source.base_path,
            " differ from the weights that ", where, " was trained from; name the right base model with --model DIR");
}

std::int64_t ExportSource::context() const {
    return std::max(config.has_two_readings() ? config.max_positions : config.covered_positions(),
                    attributes.value(Json::json_pointer("/options/identity/context"), std::int64_t{0}));
}

TensorToWrite plain_tensor(const ExportSource& source, const Parameter& p, const std::string& name, DType dtype) {
    return {name, dtype, p.shape, [&source, &p, dtype](std::byte* out) { fill_rows(source, p, dtype, out, nullptr); }};
}

TensorToWrite merged_tensor(const ExportSource& source, const Parameter& p, DType dtype) {
    const Parameter *lora_a = lora_of(source.list, p, "lora_A"), *lora_b = lora_of(source.list, p, "lora_B");
    ensure(!is_lora(p), "LoRA matrices are not part of a merged model");
    if (!lora_a || !lora_b) return plain_tensor(source, p, p.name, dtype);
    const double scale = source.trainables.lora_alpha / static_cast<double>(source.trainables.lora_rank);
    return {p.name, dtype, p.shape, [&source, &p, lora_a, lora_b, scale, dtype](std::byte* out) {
                const std::vector<float> a = read_master(source, *lora_a), b = read_master(source, *lora_b);
                const std::int64_t rank = lora_a->shape[0], width = lora_a->shape[1];
                fill_rows(source, p, dtype, out, [&](double* row, std::int64_t r) {
                    add_lora_row(row, b.data() + r * rank, a.data(), rank, width, scale);
                });
            }};
}

}  // namespace longlora
