// The few parts of HDF5 that longlora uses, behind owned handles: creating and opening files, contiguous datasets and
// their offsets in the file, small attributes. Only hdf5.cpp includes <hdf5.h>. Call these functions from the main
// thread only (Debian's HDF5 is not thread-safe). The contents of tensors do not pass through HDF5:
// io/named_tensor_file.h reads and writes them at file offsets.
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
    std::int64_t offset = 0;          // position of its first byte in the file; 0 if it has no bytes
    std::int64_t bytes = 0;
};

/// An open HDF5 file. Every function that fails throws an Error that names the file and the object.
class File {
public:
    static File open(const std::string& path);
    /// Creates the file, or empties an existing one. The format is that of HDF5 1.8 to 1.10, in which metadata has
    /// checksums. The file holds no times: equal calls make equal files.
    /// Room for `front_metadata` bytes of HDF5's own data, and then for `front_data` bytes of datasets below 64 KiB, is
    /// at the front of the file; what does not fit lies behind the datasets.
    static File create(const std::string& path, std::int64_t front_metadata = 2048, std::int64_t front_data = 2048);
    File(File&& other) noexcept : path_(std::move(other.path_)), id_(std::exchange(other.id_, -1)) {}
    File& operator=(File&&) = delete;
    ~File();

    const std::string& path() const { return path_; }
    /// Flushes and closes the file; a failure is an Error. The destructor only warns.
    void close();

    void set_attribute(const std::string& name, const std::string& value);
    void set_attribute(const std::string& name, std::int64_t value);
    void set_attribute(const std::string& name, double value);
    bool has_attribute(const std::string& name) const;
    std::string text_attribute(const std::string& name) const;
    std::int64_t integer_attribute(const std::string& name) const;
    double real_attribute(const std::string& name) const;

    /// Creates a dataset, and a group for each '/' in its name. HDF5 allocates the space at once and never fills it:
    /// the contents are undefined until they are written.
    Dataset create_dataset(const std::string& name, DType dtype, const std::vector<std::int64_t>& shape);
    /// Finds a dataset and checks it: an element type of DType, little-endian, contiguous, at a valid offset.
    Dataset dataset(const std::string& name) const;
    /// The names of all datasets, including their groups, sorted. Links to other places or files are refused.
    std::vector<std::string> dataset_names() const;

private:
    File(std::string path, std::int64_t id) : path_(std::move(path)), id_(id) {}
    void write_attribute(const std::string& name, std::int64_t type, const void* value) const;
    void read_attribute(const std::string& name, std::int64_t type, void* value) const;
    std::string path_;
    std::int64_t id_ = -1;  // hid_t
};

}  // namespace longlora::hdf5
