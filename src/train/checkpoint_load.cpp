// Reading checkpoints back into weights, a bounded piece at a time.
#include <algorithm>
#include <set>

#include "core/error.h"
#include "train/checkpoint.h"

namespace longlora {

namespace {

constexpr std::int64_t kPieceElements = std::int64_t{1} << 22;  // 16 MiB of float32

/// Same names and shapes on both sides, before anything is changed.
void check_tensors(const NamedTensorReader& reader, const std::vector<NamedTensor>& expected) {
    std::set<std::string> names;
    for (const NamedTensor& tensor : expected) {
        names.insert(tensor.name);
        require(reader.has(tensor.name), reader.path(), " has no tensor ", tensor.name,
                ": it was saved by a run that trained other parameters; use the options of that run");
        const TensorEntry& entry = reader.entry(tensor.name);
        require(entry.shape == tensor.shape && entry.dtype == tensor.dtype, tensor.name, " has shape ", to_text(entry.shape), " and type ",
                name_of(entry.dtype), " in ", reader.path(), ", but this model needs ", to_text(tensor.shape), " and ", name_of(tensor.dtype),
                "; use the model and options of the run that saved it");
    }
    for (const TensorEntry& entry : reader.entries())
        require(names.count(entry.name) != 0, reader.path(), " also has ", entry.name, ", which is not trained here; use the options of the run that saved it");
}

void load_tensor(Device& device, Tensor target, const NamedTensorReader& reader, const std::string& name, const ArenaTensor& staging) {
    const std::int64_t n = target.count();
    for (std::int64_t begin = 0; begin < n; begin += staging->count()) {
        const std::int64_t count = std::min(staging->count(), n - begin);
        reader.read(name, begin, count, staging->bytes);
        device.copy_to_device(target.slice(begin, count), staging->slice(0, count), Device::compute_stream());
        device.synchronize(Device::compute_stream());
    }
}

}  // namespace

Json read_checkpoint_attributes(const std::string& path) {
    return parse_json(NamedTensorReader(path, kCheckpointFormat, kCheckpointVersion).attributes(), text(path, ", attributes"));
}

Json load_checkpoint(Weights& weights, const std::string& path) {
    const NamedTensorReader reader(path, kCheckpointFormat, kCheckpointVersion);
    check_tensors(reader, checkpoint_tensors(weights.list()));
    std::int64_t largest = 1;
    for (const Parameter& p : weights.list().parameters)
        if (p.trainable) largest = std::max(largest, p.shape.count());
    const ArenaTensor staging = weights.device().pinned().tensor(DType::float32, {std::min(largest, kPieceElements)}, Use::workspace);
    for (const Parameter& p : weights.list().parameters) {
        if (!p.trainable) continue;
        load_tensor(weights.device(), weights.master(p), reader, "master/" + p.name, staging);
        if (!weights.options().training) continue;
        load_tensor(weights.device(), weights.moment(p, 1), reader, "moment1/" + p.name, staging);
        load_tensor(weights.device(), weights.moment(p, 2), reader, "moment2/" + p.name, staging);
    }
    weights.refresh_rounded();
    return parse_json(reader.attributes(), text(path, ", attributes"));
}

}  // namespace longlora
