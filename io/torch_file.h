// The files that torch.save(dict of tensors) writes and torch.load(path, weights_only=True) reads: an uncompressed zip
// with a pickled dict of names and one entry per storage. adapter_model.bin and trainable_params.bin, the files of the
// published LongLoRA code, are such files, and so is a pytorch_model.bin. No code in a pickle is run
// (io/tensor_pickle.h).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "io/tensor_file.h"

namespace longlora {

class TorchFile : public TensorFile {
public:
    /// Maps the file and checks the places of all tensors. Files of PyTorch before 1.6, which are no zip files, are an
    /// Error, and so are tensors that are not contiguous.
    explicit TorchFile(const std::string& path);

    const std::string& path() const override { return map_.path(); }
    std::vector<std::string> names() const override;
    bool has(const std::string& name) const override { return entries_.count(name) != 0; }
    std::optional<HostTensor> find(const std::string& name) const override;

private:
    struct Entry {
        std::string storage_type;
        std::vector<std::int64_t> shape;
        const std::byte* bytes = nullptr;
    };
    MappedFile map_;
    std::map<std::string, Entry> entries_;
    std::map<std::string, std::vector<double>> copies_;  // of tensors whose place in the file is misaligned
};

/// Writes a dict of name -> tensor (float32 or bfloat16) in the given order: writes PATH.partial, fsyncs it and
/// renames it. One tensor is in memory at a time.
void write_torch_file(const std::string& path, const std::vector<TensorToWrite>& tensors);

}  // namespace longlora
