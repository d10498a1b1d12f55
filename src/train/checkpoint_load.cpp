// Loading checkpoints into weights, a bounded piece at a time. Saving is in checkpoint.cpp.
#include <algorithm>
#include <set>

#include "core/error.h"
#include "train/checkpoint.h"

namespace longlora {

namespace {

constexpr std::int64_t kPieceElements = std::int64_t{1} << 22;  // 16 MiB of float32

/// Refuses other names, shapes or types than expected, before any weight is changed.
void check_tensors(const NamedTensorReader& reader, const std::vector<NamedTensor>& expected) {
    std::set<std::string> names;
    for (const NamedTensor& tensor : expected) {
        names.insert(tensor.name);
        require(reader.has(tensor.name), reader.path(), " has no tensor ", tensor.name,
                ": it was saved by a run that trained other parameters; use the options of that run");
        const TensorEntry& entry = reader.entry(tensor.name);
        require(entry.shape == tensor.shape && entry.dtype == tensor.dtype, tensor.name, " has shape ",
                to_text(entry.shape), " and type ", name_of(entry.dtype), " in ", reader.path(),
                ", but this model needs ", to_text(tensor.shape), " and ", name_of(tensor.dtype),
                "; use the model and options of the run that saved it");
    }
    for (const TensorEntry& entry : reader.entries())
        require(names.count(entry.name) != 0, reader.path(), " also has ", entry.name,
                ", which is not trained here; use the options of the run that saved it");
}

/// Reads the elements `part` of a tensor, piece by piece, into host memory and calls each(first element, piece).
template <class Each>
void for_pieces(const Device& device, const NamedTensorReader& reader, const std::string& name, parallel::Shard part,
                const ArenaTensor& staging, Each&& each) {
    for (std::int64_t at = 0; at < part.count; at += staging->count()) {
        const std::int64_t count = std::min(staging->count(), part.count - at);
        reader.read(name, part.begin + at, count, staging->bytes);
        each(part.begin + at, staging->slice(0, count));
        device.progress();
    }
}

/// Masters, and the weights that are computed with: only this rank's part of them.
void load_masters(Weights& weights, const NamedTensorReader& reader, const ArenaTensor& staging) {
    for (const Parameter& p : weights.list().parameters)
        if (p.trainable)
            for_pieces(weights.device(), reader, "master/" + p.name, weights.kept(p), staging,
                       [&](std::int64_t begin, Tensor piece) {
                           weights.set_part(p, begin, {DType::float32, piece.shape, piece.bytes});
                       });
}

void load_moments(Weights& weights, const NamedTensorReader& reader, const ArenaTensor& staging) {
    Device& device = weights.device();
    for (const OwnedPart& part : weights.owned_parts())
        for (const int which : {1, 2}) {
            const Tensor own = weights.own_moment(part.parameter->unit, which);
            for_pieces(device, reader, text("moment", which, "/", part.parameter->name), part.in_parameter, staging,
                       [&](std::int64_t begin, Tensor piece) {
                           device.copy_to_device(
                               own.slice(part.in_own + begin - part.in_parameter.begin, piece.count()), piece,
                               Device::compute_stream());
                           device.synchronize(Device::compute_stream());
                       });
        }
}

}  // namespace

Json read_checkpoint_attributes(const std::string& path) {
    return parse_json(NamedTensorReader(path, kCheckpointFormat, kCheckpointVersion).attributes(),
                      text(path, ", attributes"));
}

Json load_checkpoint(Weights& weights, const std::string& path) {
    const NamedTensorReader reader(path, kCheckpointFormat, kCheckpointVersion);
    check_tensors(reader, checkpoint_tensors(list_parameters(weights.config(), weights.trainables())));
    std::int64_t largest = 1;
    for (const Parameter& p : weights.list().parameters)
        if (p.trainable) largest = std::max(largest, weights.kept(p).count);
    const ArenaTensor staging =
        weights.device().pinned().tensor(DType::float32, {std::min(largest, kPieceElements)}, Use::workspace);
    load_masters(weights, reader, staging);
    if (weights.options().training) load_moments(weights, reader, staging);
    return parse_json(reader.attributes(), text(path, ", attributes"));
}

}  // namespace longlora
