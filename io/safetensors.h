// Reads safetensors files (memory-mapped) and Hugging Face folders of them, and writes both (streamed, renamed when
// complete). It knows names, types and shapes, not the meaning of the tensors (src/model/weights.h does). PyTorch's
// own format is in io/torch_file.h; a folder may have files of it instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/file.h"
#include "io/tensor_file.h"

namespace longlora {

class SafetensorsFile : public TensorFile {
public:
    /// Maps the file and checks the whole header: its length, the types, offsets inside the file without overlap and
    /// without gaps, shape * element size == bytes, no name twice.
    explicit SafetensorsFile(const std::string& path);
    ~SafetensorsFile() override;
    SafetensorsFile(SafetensorsFile&&) noexcept;

    const std::string& path() const override { return map_.path(); }
    std::vector<std::string> names() const override;
    bool has(const std::string& name) const override { return entries_.count(name) != 0; }
    std::optional<HostTensor> find(const std::string& name) const override;
    /// The entries of __metadata__.
    const std::map<std::string, std::string>& metadata() const { return metadata_; }

private:
    struct Entry {
        std::string type;
        std::vector<std::int64_t> shape;
        std::int64_t begin = 0, end = 0;  // bytes after the header
    };
    struct Copies;
    void read_header();
    void check_layout() const;
    MappedFile map_;
    std::int64_t data_begin_ = 0;
    std::map<std::string, Entry> entries_;
    std::map<std::string, std::string> metadata_;
    std::unique_ptr<Copies> copies_;  // aligned copies of tensors whose place in the file is misaligned
};

/// A file of tensors by the end of its name: PyTorch's format (io/torch_file.h) for .bin, else safetensors.
std::unique_ptr<TensorFile> open_tensor_file(const std::string& path);

/// All tensors of a model: one file, or a folder with model.safetensors, or a folder with
/// model.safetensors.index.json and the files that it names, or else with pytorch_model.bin or its index and files.
class SafetensorsFolder {
public:
    /// `path` is a folder or one file (such as adapter_model.safetensors).
    explicit SafetensorsFolder(const std::string& path);

    const std::string& path() const { return path_; }
    std::vector<std::string> names() const;  // sorted
    bool has(const std::string& name) const { return file_index_.count(name) != 0; }
    std::optional<HostTensor> find(const std::string& name) const;
    /// Like find(), but a missing tensor is an Error that names the folder and the tensor.
    HostTensor get(const std::string& name) const;
    /// The path of the file that holds the tensor; empty if there is none.
    std::string file_of(const std::string& name) const;
    const std::vector<std::unique_ptr<TensorFile>>& files() const { return files_; }

private:
    void read_index(const std::string& index_path);
    std::string path_;
    std::vector<std::unique_ptr<TensorFile>> files_;
    std::map<std::string, std::size_t> file_index_;
};

/// A tensor to be written. The writer calls `fill`, which puts all bytes of the tensor into the given memory, only
/// when the tensor's turn comes, so that only one tensor is in memory at a time.
struct TensorToWrite {
    std::string name;
    DType dtype = DType::float32;
    Shape shape;
    std::function<void(std::byte* out)> fill;
    std::int64_t size_bytes() const { return shape.count() * size_of(dtype); }
};

/// Writes one file with the metadata {"format": "pt"}: writes PATH.partial, fsyncs it and renames it.
void write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors);

/// Writes model.safetensors. If the tensors have more than `max_shard_bytes` together, writes the files
/// model-0000i-of-0000n.safetensors and model.safetensors.index.json instead. Returns the names of the files.
std::vector<std::string> write_safetensors_folder(const std::string& folder, const std::vector<TensorToWrite>& tensors,
                                                  std::int64_t max_shard_bytes = 5'000'000'000);

}  // namespace longlora
