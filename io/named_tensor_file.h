// One HDF5 file of whole, named tensors and a JSON text: the container of checkpoints and token files. HDF5 lays the
// file out and is then closed; bytes are written at file offsets by any rank, from any thread. It does not know what
// the tensors mean, who owns which slice, nor MPI.
//
//   file layout:  /NAME (contiguous)   /checksums/NAME (uint32 per 1 MiB)   /attributes (JSON text)   root attributes
//   `format`, `schema_version` writing:      rank 0: create_named_tensor_file -> layout -> everyone: write_slice ->
//   pieces -> rank 0: write_checksums, rename threads:      create_* and the reader's constructor call HDF5: main
//   thread only. All else is pread/pwrite: any thread.
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

/// Names may contain '/' (HDF5 groups) but are not `attributes` nor below `checksums`.
struct NamedTensor {
    std::string name;
    DType dtype = DType::float32;
    Shape shape;
    std::int64_t size_bytes() const { return shape.count() * size_of(dtype); }
};

/// Where a tensor lies in its file.
struct TensorEntry : NamedTensor {
    std::int64_t offset = 0;            // of its first byte in the file
    std::int64_t checksums_offset = 0;  // of its uint32 block checksums
};

struct NamedTensorLayout {
    std::string path;
    std::vector<TensorEntry> entries;
    std::int64_t file_bytes = 0;
    /// Index of a name; std::logic_error if there is none.
    std::int64_t index_of(const std::string& name) const;
};

/// Creates `path` (a .partial name; the caller renames) with undefined tensor contents, `attributes` (JSON text) and
/// reserved disk space.
NamedTensorLayout create_named_tensor_file(const std::string& path, const std::string& format,
                                           std::int64_t schema_version, const std::vector<NamedTensor>& tensors,
                                           const std::string& attributes);

/// A layout as text for sending to other ranks, and back.
std::string pack_layout(const NamedTensorLayout& layout);
NamedTensorLayout unpack_layout(const std::string& packed);

/// Writes bytes [begin_byte, begin_byte + bytes) of entry `index` and appends their checksum pieces (stream = index).
/// `file` is open_write(layout.path).
void write_slice(const FileHandle& file, const NamedTensorLayout& layout, std::int64_t index, std::int64_t begin_byte,
                 const void* data, std::int64_t bytes, std::vector<ChecksumPiece>& pieces);

/// All pieces of all ranks, together covering every tensor exactly once.
void write_checksums(const FileHandle& file, const NamedTensorLayout& layout, std::vector<ChecksumPiece> pieces);

class NamedTensorReader {
public:
    /// Checks structure, format name, schema version (at most the given one), sizes against the file, and the
    /// attributes' checksum.
    NamedTensorReader(const std::string& path, const std::string& format, std::int64_t schema_version);

    const std::string& path() const { return file_.path(); }
    std::int64_t schema_version() const { return schema_version_; }
    const std::string& attributes() const { return attributes_; }  // JSON text
    const std::vector<TensorEntry>& entries() const { return entries_; }
    bool has(const std::string& name) const { return index_.count(name) != 0; }
    /// An Error names the file and the missing tensor.
    const TensorEntry& entry(const std::string& name) const;
    const std::vector<std::uint32_t>& checksums(const std::string& name) const;

    /// Elements [begin, begin + count) in the stored type; every block touched is verified.
    void read(const std::string& name, std::int64_t begin, std::int64_t count, void* out) const;
    /// Every block of every tensor. progress: called after each.
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
