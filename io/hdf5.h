// The little of HDF5 that we use, behind owned handles: create and open files, contiguous datasets and where they lie,
// small attributes. The only user of <hdf5.h> is hdf5.cpp. Call from the main thread only (Debian's HDF5 is not
// thread-safe). Tensor contents do not pass through HDF5: they are read and written at file offsets
// (io/named_tensor_file.h).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"

namespace longlora::hdf5 {

/// A contiguous dataset of a file.
struct Dataset {
    std::string name;
    DType dtype = DType::float32;
    std::vector<std::int64_t> shape;  // empty: a scalar
    std::int64_t offset = 0;          // of its first byte in the file; 0 if it has no bytes
    std::int64_t bytes = 0;
};

/// An open HDF5 file. Every function throws an Error naming file and object.
class File {
public:
    static File open(const std::string& path);
    /// Creates or empties. Format of HDF5 1.8 to 1.10 (its metadata carry checksums), no times in it: equal calls make
    /// equal files.
    static File create(const std::string& path);
    File(File&& other) noexcept : path_(std::move(other.path_)), id_(std::exchange(other.id_, -1)) {}
    File& operator=(File&&) = delete;
    ~File();

    const std::string& path() const { return path_; }
    /// Flushes and closes; an Error if that fails. The destructor only warns.
    void close();

    void set_attribute(const std::string& name, const std::string& value);
    void set_attribute(const std::string& name, std::int64_t value);
    void set_attribute(const std::string& name, double value);
    bool has_attribute(const std::string& name) const;
    std::string text_attribute(const std::string& name) const;
    std::int64_t integer_attribute(const std::string& name) const;
    double real_attribute(const std::string& name) const;

    /// Space is allocated at once and never filled: the contents are undefined until written. '/' in the name makes
    /// groups.
    Dataset create_dataset(const std::string& name, DType dtype, const std::vector<std::int64_t>& shape);
    /// Checked: type is one of ours and little-endian, contiguous, inside the file.
    Dataset dataset(const std::string& name) const;
    /// All datasets, with the groups in their names, sorted. Links to other places or files are refused.
    std::vector<std::string> dataset_names() const;

private:
    File(std::string path, std::int64_t id) : path_(std::move(path)), id_(id) {}
    void write_attribute(const std::string& name, std::int64_t type, const void* value) const;
    void read_attribute(const std::string& name, std::int64_t type, void* value) const;
    std::string path_;
    std::int64_t id_ = -1;  // hid_t
};

}  // namespace longlora::hdf5
