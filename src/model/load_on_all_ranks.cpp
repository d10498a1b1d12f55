// Plans the reading from what each rank keeps, loads, reads the rest, and lets the ranks compare.
#include "model/load_on_all_ranks.h"

#include <algorithm>

#include "model/model_files.h"
#include "parallel/agree.h"

namespace longlora {
namespace {

/// The elements of a tensor that load_model() or load_adapter() reads into these weights. A model that has grown keeps
/// more than the tensor has.
parallel::Shard loaded_part(const Weights& weights, const std::string& name, const HostTensor& tensor) {
    const Parameter* p = weights.list().look_up(name);
    if (!p) return {};
    const parallel::Shard kept = weights.kept(*p);
    const std::int64_t begin = std::min(kept.begin, tensor.count());
    return {begin, std::min(kept.end(), tensor.count()) - begin};
}

std::vector<FileTensor> tensors_of(const SafetensorsFolder& files, const Weights& weights) {
    std::vector<FileTensor> tensors;
    for (const std::string& name : files.names())
        tensors.push_back({name, files.get(name), files.file_of(name), loaded_part(weights, name, files.get(name))});
    return tensors;
}

std::vector<FileTensor> tensors_of(const Adapter& adapter, const Weights& weights) {
    std::vector<FileTensor> tensors;
    for (const auto& [name, value] : adapter.values)
        tensors.push_back({name, value, adapter.file_of.at(name), loaded_part(weights, name, value)});
    return tensors;
}

ReadObserver noting(SharedReading& reading) {
    return [&reading](const std::string& tensor, std::int64_t begin, const HostTensor& elements) {
        note_read(reading, tensor, begin, elements);
    };
}

}  // namespace

TensorChecksums load_model_on_all_ranks(const parallel::HostGroup& group, Weights& weights,
                                        const SafetensorsFolder& files, std::uint64_t seed) {
    const auto progress = [&weights] { weights.device().progress(); };
    SharedReading reading = plan_reading(group, text("the model in ", files.path()), parallel::agreed(group, [&] {
                                             check_tensor_names(files, weights.config());
                                             return tensors_of(files, weights);
                                         }));
    parallel::agree(group, [&] {
        load_model(weights, files, seed, noting(reading));
        read_rest(reading, progress);
    });
    TensorChecksums checksums = agree_on_checksums(group, reading);
    parallel::agree(group, [&] {
        if (group.rank() == 0) check_tied_head(files, weights.config(), checksums, progress);
    });
    return checksums;
}

TensorChecksums load_adapter_on_all_ranks(const parallel::HostGroup& group, Weights& weights, const Adapter& adapter) {
    SharedReading reading = plan_reading(group, text("the adapter in ", adapter.path), tensors_of(adapter, weights));
    parallel::agree(group, [&] {
        load_adapter(weights, adapter, noting(reading));
        read_rest(reading, [&weights] { weights.device().progress(); });
    });
    return agree_on_checksums(group, reading);
}

}  // namespace longlora
