// Wraps HDF5's C interface: owned ids, one check per call, and HDF5's innermost reason in the Error.
#include "io/hdf5.h"

#include <hdf5.h>

#include <algorithm>
#include <cstdio>

#include "core/error.h"

namespace longlora::hdf5 {

namespace {

/// Owns an id, and closes it by the function for its kind.
class Id {
public:
    Id(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
    Id(Id&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
    ~Id() {
        if (id_ >= 0) close_(id_);
    }
    operator hid_t() const { return id_; }

private:
    hid_t id_;
    herr_t (*close_)(hid_t);
};

/// HDF5's innermost message, e.g. "truncated file: eof = 96, ..."; if a system call failed, only the system's reason.
std::string reason() {
    std::string found;
    const auto first = [](unsigned, const H5E_error2_t* entry, void* out) -> herr_t {
        auto& result = *static_cast<std::string*>(out);
        if (result.empty() && entry->desc) result = entry->desc;
        return 0;
    };
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first, &found);
    if (const std::size_t at = found.find("error message = '"); at != std::string::npos)
        return found.substr(at + 17, found.find('\'', at + 17) - at - 17);
    return found.empty() ? "HDF5 gives no reason" : found;
}

template <class Result> Result check(Result result, const std::string& what, const std::string& path) {
    if (result < 0) fail(text("cannot ", what, " of ", path, ": ", reason()));
    return result;
}

void silence() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

Id access_properties() {
    Id list(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_libver_bounds(list, H5F_LIBVER_V18, H5F_LIBVER_V110);
    H5Pset_file_locking(list, false, true);  // flock fails on some parallel file systems
    H5Pset_alignment(list, 1 << 16, 4096);   // large datasets begin on pages
    return list;
}

/// bfloat16 as an HDF5 float type: 1 sign bit, 8 exponent bits (bias 127), 7 mantissa bits. float16 has 5 exponent
/// bits (bias 15) and 10 mantissa bits.
Id small_float(bool brain) {
    Id type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
    const std::size_t exponent = brain ? 8 : 5, mantissa = brain ? 7 : 10;
    H5Tset_fields(type, 15, mantissa, exponent, 0, mantissa);
    H5Tset_precision(type, 16);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, brain ? 127 : 15);
    return type;
}

Id type_of(DType dtype) {
    switch (dtype) {
        case DType::bfloat16:
            return small_float(true);
        case DType::float16:
            return small_float(false);
        case DType::float32:
            return Id(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
        case DType::float64:
            return Id(H5Tcopy(H5T_IEEE_F64LE), H5Tclose);
        case DType::int32:
            return Id(H5Tcopy(H5T_STD_I32LE), H5Tclose);
        case DType::int64:
            return Id(H5Tcopy(H5T_STD_I64LE), H5Tclose);
        case DType::uint8:
            return Id(H5Tcopy(H5T_STD_U8LE), H5Tclose);
        case DType::uint16:
            return Id(H5Tcopy(H5T_STD_U16LE), H5Tclose);
        case DType::uint32:
            return Id(H5Tcopy(H5T_STD_U32LE), H5Tclose);
        case DType::uint64:
            return Id(H5Tcopy(H5T_STD_U64LE), H5Tclose);
    }
    fail("an element type that has no HDF5 type here");
}

bool find_type(hid_t type, DType& found) {
    for (DType dtype : {DType::float32, DType::bfloat16, DType::float16, DType::float64, DType::int32, DType::int64,
                        DType::uint8, DType::uint16, DType::uint32, DType::uint64}) {
        if (H5Tequal(type, type_of(dtype)) > 0) {
            found = dtype;
            return true;
        }
    }
    return false;
}

void create_groups(hid_t file, const std::string& name, const std::string& path) {
    for (std::size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
        const std::string group = name.substr(0, slash);
        if (check(H5Lexists(file, group.c_str(), H5P_DEFAULT), "look for " + group, path) > 0) continue;
        Id properties(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
        H5Pset_obj_track_times(properties, false);
        Id made(check(H5Gcreate2(file, group.c_str(), H5P_DEFAULT, properties, H5P_DEFAULT), "create " + group, path),
                H5Gclose);
    }
}

Dataset describe(hid_t id, const std::string& name, const std::string& path) {
    Dataset result;
    result.name = name;
    const std::string what = name + " of " + path;
    Id properties(check(H5Dget_create_plist(id), "read the layout of " + name, path), H5Pclose);
    require(H5Pget_layout(properties) == H5D_CONTIGUOUS && H5Pget_external_count(properties) == 0, what,
            " is not stored contiguously; longlora did not write this file");
    Id type(check(H5Dget_type(id), "read the type of " + name, path), H5Tclose);
    require(find_type(type, result.dtype), what, " has an element type that longlora does not use");
    Id space(check(H5Dget_space(id), "read the shape of " + name, path), H5Sclose);
    const int rank = check(H5Sget_simple_extent_ndims(space), "read the shape of " + name, path);
    require(H5Sget_simple_extent_type(space) != H5S_NULL && rank <= 4, what,
            " has no shape or more than four dimensions");
    hsize_t sizes[H5S_MAX_RANK];
    H5Sget_simple_extent_dims(space, sizes, nullptr);
    result.bytes = size_of(result.dtype);
    for (int i = 0; i < rank; ++i) {
        const std::int64_t size = sizes[i];
        const bool overflow = size < 0 || __builtin_mul_overflow(result.bytes, size, &result.bytes);
        require(!overflow && result.bytes <= (std::int64_t{1} << 60), what, " has an impossible size");
        result.shape.push_back(size);
    }
    const haddr_t offset = H5Dget_offset(id);
    require(result.bytes == 0 || (offset != HADDR_UNDEF && offset <= (haddr_t{1} << 60)), what,
            " has no valid offset in the file");
    result.offset = result.bytes ? static_cast<std::int64_t>(offset) : 0;
    return result;
}

/// Our own sentences for the two common reasons, and HDF5's for all others.
std::string why_not_open(const std::string& path) {
    const std::string why = reason();
    if (why.find("truncated file") != std::string::npos)
        return text(path, " is cut short or was never completed; use another copy of the file");
    if (why.find("signature not found") != std::string::npos) return text(path, " is not an HDF5 file");
    return text("cannot read ", path, " as an HDF5 file: ", why);
}

}  // namespace

File File::open(const std::string& path) {
    silence();
    const Id access = access_properties();
    const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access);
    if (id < 0) fail(why_not_open(path));
    return File(path, id);
}

File File::create(const std::string& path, std::int64_t front_metadata, std::int64_t front_data) {
    silence();
    const Id access = access_properties();
    H5Pset_meta_block_size(access, front_metadata);
    H5Pset_small_data_block_size(access, front_data);
    Id creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
    H5Pset_obj_track_times(creation, false);
    const hid_t id = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access);
    if (id < 0) fail(text("cannot create ", path, ": ", reason()));
    return File(path, id);
}

File::~File() {
    if (id_ >= 0 && H5Fclose(id_) < 0)
        std::fprintf(stderr, "warning: closing %s: %s\n", path_.c_str(), reason().c_str());
}

void File::close() {
    const hid_t id = std::exchange(id_, -1);
    if (H5Fclose(id) < 0) fail(text("cannot write ", path_, ": ", reason()));
}

void File::write_attribute(const std::string& name, std::int64_t type, const void* value) const {
    Id space(H5Screate(H5S_SCALAR), H5Sclose);
    Id attribute(
        check(H5Acreate2(id_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), "create attribute " + name, path_),
        H5Aclose);
    check(H5Awrite(attribute, type, value), "write attribute " + name, path_);
}

void File::read_attribute(const std::string& name, std::int64_t type, void* value) const {
    Id attribute(check(H5Aopen(id_, name.c_str(), H5P_DEFAULT), "find attribute " + name, path_), H5Aclose);
    Id space(check(H5Aget_space(attribute), "read attribute " + name, path_), H5Sclose);
    require(H5Sget_simple_extent_npoints(space) == 1, "attribute ", name, " of ", path_, " is not one value");
    check(H5Aread(attribute, type, value), "read attribute " + name, path_);
}

void File::set_attribute(const std::string& name, const std::string& value) {
    Id type(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(type, value.size() + 1);
    write_attribute(name, type, value.c_str());
}
void File::set_attribute(const std::string& name, std::int64_t value) { write_attribute(name, H5T_STD_I64LE, &value); }
void File::set_attribute(const std::string& name, double value) { write_attribute(name, H5T_IEEE_F64LE, &value); }

bool File::has_attribute(const std::string& name) const { return H5Aexists(id_, name.c_str()) > 0; }

std::string File::text_attribute(const std::string& name) const {
    std::size_t size = 0;
    {
        Id attribute(check(H5Aopen(id_, name.c_str(), H5P_DEFAULT), "find attribute " + name, path_), H5Aclose);
        Id type(check(H5Aget_type(attribute), "read attribute " + name, path_), H5Tclose);
        require(H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0, "attribute ", name, " of ", path_,
                " is not a string of fixed length");
        size = H5Tget_size(type);
        require(size > 0 && size <= (1u << 16), "attribute ", name, " of ", path_, " has an impossible size");
    }
    Id type(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(type, size);
    std::string value(size, '\0');
    read_attribute(name, type, value.data());
    return value.substr(0, value.find('\0'));
}

std::int64_t File::integer_attribute(const std::string& name) const {
    std::int64_t value = 0;
    read_attribute(name, H5T_NATIVE_INT64, &value);
    return value;
}

double File::real_attribute(const std::string& name) const {
    double value = 0;
    read_attribute(name, H5T_NATIVE_DOUBLE, &value);
    return value;
}

Dataset File::create_dataset(const std::string& name, DType dtype, const std::vector<std::int64_t>& shape) {
    create_groups(id_, name, path_);
    const std::vector<hsize_t> sizes(shape.begin(), shape.end());
    Id space(
        shape.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr),
        H5Sclose);
    Id properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_layout(properties, H5D_CONTIGUOUS);
    H5Pset_alloc_time(properties, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(properties, false);
    const Id type = type_of(dtype);
    Id made(check(H5Dcreate2(id_, name.c_str(), type, space, H5P_DEFAULT, properties, H5P_DEFAULT), "create " + name,
                  path_),
            H5Dclose);
    return describe(made, name, path_);
}

Dataset File::dataset(const std::string& name) const {
    Id id(check(H5Dopen2(id_, name.c_str(), H5P_DEFAULT), "find " + name, path_), H5Dclose);
    return describe(id, name, path_);
}

std::vector<std::string> File::dataset_names() const {
    struct Found {
        std::vector<std::string> names;
        bool foreign = false;
    } links;
    const auto collect = [](hid_t, const char* name, const H5L_info_t* info, void* out) -> herr_t {
        auto& found = *static_cast<Found*>(out);
        if (info->type != H5L_TYPE_HARD) found.foreign = true;
        found.names.emplace_back(name);
        return found.foreign ? 1 : 0;
    };
    check(H5Lvisit(id_, H5_INDEX_NAME, H5_ITER_INC, collect, &links), "list the contents", path_);
    require(!links.foreign, path_, " has links to other places; longlora did not write this file");
    std::vector<std::string> names;
    for (const std::string& name : links.names) {
        Id object(check(H5Oopen(id_, name.c_str(), H5P_DEFAULT), "open " + name, path_), H5Oclose);
        if (H5Iget_type(object) == H5I_DATASET) names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace longlora::hdf5
