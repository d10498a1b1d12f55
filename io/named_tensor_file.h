// An HDF5 file of named tensors and a JSON text: the container of checkpoints and token files. HDF5 lays the file out
// and closes it; then any rank and any thread writes bytes at file offsets. This container knows neither the meaning
// of the tensors, nor which rank owns which slice, nor MPI.
//
// Content of the file:
//   /NAME             the tensor, contiguous
//   /checksums/NAME   uint32, one per 1 MiB block of the tensor
//   /attributes       the JSON text, with checksums like a tensor
//   root attributes   `format` and `schema_version`
//
// Writing:
//   rank 0      create_named_tensor_file gives the layout, which rank 0 sends to all ranks
//   all ranks   write_slice, which gives checksum pieces; the ranks send them to each other
//   rank 0      write_checksums
//   all ranks   read_back, of what other ranks wrote (io/read_back.h); then rank 0 renames the file
// Which rank writes what, so that no page of the file has two writers, is in io/shared_file.h. HDF5's own data, the
// attributes and the checksums, which rank 0 writes, are therefore at the front of the file.
//
// Threads: create_named_tensor_file, has_format and the constructor of NamedTensorReader call HDF5, so only the main
// thread may call them. Everything else is pread and pwrite, for any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "io/block_checksums.h"
#include "io/file.h"

namespace longlora {

/// A tensor's name may contain '/' (HDF5 groups), but must not be `attributes` or begin with `checksums/`.
struct NamedTensor {
    std::string name;
    DType dtype = DType::float32;
    Shape shape;
    std::int64_t size_bytes() const { return shape.count() * size_of(dtype); }
};

/// A tensor and its place in the file.
struct TensorEntry : NamedTensor {
    std::int64_t offset = 0;            // position of its first byte in the file
    std::int64_t checksums_offset = 0;  // position of its uint32 block checksums
};

struct NamedTensorLayout {
    std::string path;
    std::vector<TensorEntry> entries;
    std::int64_t file_bytes = 0;
    std::int64_t own_bytes = 0;  // what the file itself has, beside the tensors, lies before this position
    /// The index of the tensor with this name; std::logic_error if there is none.
    std::int64_t index_of(const std::string& name) const;
};

/// Creates `path` (a .partial name, which the caller renames later) with reserved disk space, `attributes` (a JSON
/// text) and tensors whose contents are undefined.
NamedTensorLayout create_named_tensor_file(const std::string& path, const std::string& format,
                                           std::int64_t schema_version, const std::vector<NamedTensor>& tensors,
                                           const std::string& attributes);

/// Converts a layout to bytes for sending it to other ranks, and back.
std::string pack_layout(const NamedTensorLayout& layout);
NamedTensorLayout unpack_layout(const std::string& packed);

/// Writes bytes [begin_byte, begin_byte + bytes) of the tensor at `index` and appends their checksum pieces to
/// `pieces` (stream = index). `file` is open_write(layout.path).
void write_slice(const FileHandle& file, const NamedTensorLayout& layout, std::int64_t index, std::int64_t begin_byte,
                 const void* data, std::int64_t bytes, std::vector<ChecksumPiece>& pieces);

/// Writes the block checksums of all tensors. `pieces` holds the pieces of all ranks, which cover every tensor exactly
/// once.
void write_checksums(const FileHandle& file, const NamedTensorLayout& layout, std::vector<ChecksumPiece> pieces);

/// Whether the file is an HDF5 file with this format name. False for files that cannot be read as HDF5. Calls HDF5.
bool has_format(const std::string& path, const std::string& format);

class NamedTensorReader {
public:
    /// Opens a file and checks its structure, the format name, the schema version (1 to the given one), that all
    /// tensors lie inside the file, and the checksums of the attributes.
    NamedTensorReader(const std::string& path, const std::string& format, std::int64_t schema_version);

    const std::string& path() const { return file_.path(); }
    std::int64_t schema_version() const { return schema_version_; }
    const std::string& attributes() const { return attributes_; }  // JSON text
    const std::vector<TensorEntry>& entries() const { return entries_; }
    bool has(const std::string& name) const { return index_.count(name) != 0; }
    /// The tensor with this name; if there is none, an Error names the file and the tensor.
    const TensorEntry& entry(const std::string& name) const;
    const std::vector<std::uint32_t>& checksums(const std::string& name) const;

    /// Reads elements [begin, begin + count) in the stored type, and verifies every block that they touch.
    void read(const std::string& name, std::int64_t begin, std::int64_t count, void* out) const;
    /// Verifies every block of every tensor. Calls `progress` after each block.
    void verify_all(const std::function<void()>& progress = {}) const;

private:
    std::int64_t find(const std::string& name) const;
    FileHandle file_;
    std::int64_t schema_version_ = 0;
    std::string attributes_;
    std::vector<TensorEntry> entries_;
    std::vector<std::vector<std::uint32_t>> checksums_;
    std::map<std::string, std::int64_t> index_;
};

}  // namespace longlora
