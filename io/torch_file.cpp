// Writes the container of PyTorch's serialization format 3 (io/torch_file_reader.cpp reads it;
// torch/serialization.py, caffe2/serialize/inline_container.h):
//   archive/data.pkl    pickle, protocol 2, of a dict of name ->
//                       torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())
//   archive/byteorder   "little"
//   archive/data/N      the bytes of tensor N, 64-byte aligned
//   archive/version     "3\n"
// Values that do not fit 32 bits go to zip64 records (APPNOTE 6.3, section 4.5.3).
#include "io/torch_file.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "io/file.h"

namespace longlora {
namespace {

constexpr std::int64_t kMost32 = 0xffffffffll;
constexpr std::int64_t kTensorAlignment = 64;

/// A string to which values are appended as little-endian bytes.
struct Bytes {
    std::string out;
    template <class T> void put(T value) {
        char raw[sizeof(T)];
        std::memcpy(raw, &value, sizeof(T));
        out.append(raw, sizeof(T));
    }
    void u16(std::int64_t v) { put(static_cast<std::uint16_t>(v)); }
    void u32(std::int64_t v) { put(static_cast<std::uint32_t>(v)); }
    void u64(std::int64_t v) { put(static_cast<std::uint64_t>(v)); }
};

std::uint32_t crc32_of(const void* data, std::int64_t bytes) {
    return static_cast<std::uint32_t>(::crc32_z(0, static_cast<const Bytef*>(data), static_cast<z_size_t>(bytes)));
}

class ZipWriter {
public:
    explicit ZipWriter(const std::string& path) : file_(FileHandle::create(path)) {}

    void add(const std::string& name, const void* data, std::int64_t bytes, std::int64_t alignment = 1) {
        const Entry entry{name, offset_, bytes, crc32_of(data, bytes)};
        Bytes header;
        const bool large = bytes >= kMost32;
        header.u32(0x04034b50);
        common_fields(header, entry, large);
        const std::int64_t zip64 = large ? 20 : 0,
                           begin = offset_ + 30 + static_cast<std::int64_t>(name.size()) + zip64;
        // An extra field of 4 bytes and zeros moves the data to the next aligned offset.
        const std::int64_t padding = alignment == 1 ? 0 : 4 + (alignment - (begin + 4) % alignment) % alignment;
        header.u16(zip64 + padding);
        header.out += name;
        if (large) {
            header.u16(1);
            header.u16(16);
            header.u64(bytes);
            header.u64(bytes);
        }
        if (padding) {
            header.u16(0x4246);
            header.u16(padding - 4);
            header.out.append(padding - 4, '\0');
        }
        write(header.out.data(), header.out.size());
        write(data, bytes);
        entries_.push_back(entry);
    }

    void finish() {
        const std::int64_t begin = offset_;
        Bytes directory;
        for (const Entry& entry : entries_) central_entry(directory, entry);
        const auto size = static_cast<std::int64_t>(directory.out.size()), end = begin + size,
                   n = static_cast<std::int64_t>(entries_.size());
        end_records(directory, begin, size, end, n);
        write(directory.out.data(), directory.out.size());
        file_.sync();
    }

private:
    struct Entry {
        std::string name;
        std::int64_t offset = 0, bytes = 0;
        std::uint32_t crc = 0;
    };

    /// The fields from "version needed" to the length of the name, which local headers and the central directory have
    /// in common.
    static void common_fields(Bytes& b, const Entry& entry, bool large) {
        b.u16(large ? 45 : 20);
        b.u16(0x0800);  // names are UTF-8
        b.u16(0);       // not compressed
        b.u16(0);       // 00:00
        b.u16(0x21);    // 1 January 1980, so that equal tensors make equal files
        b.u32(entry.crc);
        b.u32(large ? kMost32 : entry.bytes);
        b.u32(large ? kMost32 : entry.bytes);
        b.u16(entry.name.size());
    }

    static void central_entry(Bytes& b, const Entry& entry) {
        const bool large = entry.bytes >= kMost32, far = entry.offset >= kMost32;
        b.u32(0x02014b50);
        b.u16(45);
        common_fields(b, entry, large);
        b.u16(large || far ? 4 + (large ? 16 : 0) + (far ? 8 : 0) : 0);
        b.u16(0);  // comment
        b.u16(0);  // disk
        b.u16(0);  // internal attributes
        b.u32(0);  // external attributes
        b.u32(far ? kMost32 : entry.offset);
        b.out += entry.name;
        if (!large && !far) return;
        b.u16(1);
        b.u16((large ? 16 : 0) + (far ? 8 : 0));
        if (large) {
            b.u64(entry.bytes);
            b.u64(entry.bytes);
        }
        if (far) b.u64(entry.offset);
    }

    static void end_records(Bytes& b, std::int64_t begin, std::int64_t size, std::int64_t end, std::int64_t n) {
        const bool large = begin >= kMost32 || n >= 0xffff;
        if (large) {
            b.u32(0x06064b50);
            b.u64(44);
            b.u16(45);
            b.u16(45);
            b.u32(0);
            b.u32(0);
            b.u64(n);
            b.u64(n);
            b.u64(size);
            b.u64(begin);
            b.u32(0x07064b50);
            b.u32(0);
            b.u64(end);
            b.u32(1);
        }
        b.u32(0x06054b50);
        b.u16(0);
        b.u16(0);
        b.u16(large ? 0xffff : n);
        b.u16(large ? 0xffff : n);
        b.u32(large ? kMost32 : size);
        b.u32(large ? kMost32 : begin);
        b.u16(0);
    }

    void write(const void* data, std::int64_t bytes) {
        file_.write_at(data, bytes, offset_);
        offset_ += bytes;
    }

    FileHandle file_;
    std::int64_t offset_ = 0;
    std::vector<Entry> entries_;
};

/// The opcodes of pickle, protocol 2, that a dict of tensors needs.
struct Pickle {
    Bytes bytes;
    void op(char code) { bytes.out += code; }
    void text(std::string_view value) {
        op('X');
        bytes.u32(value.size());
        bytes.out += value;
    }
    void global(const char* module, const char* name) { bytes.out += std::string("c") + module + "\n" + name + "\n"; }
    void integer(std::int64_t value) {
        if (value >= 0 && value < (std::int64_t{1} << 31)) {
            op('J');
            bytes.u32(value);
        } else {
            op('\x8a');  // LONG1
            op(8);
            bytes.u64(value);
        }
    }
    void tuple(const std::vector<std::int64_t>& values) {
        op('(');
        for (const std::int64_t v : values) integer(v);
        op('t');
    }

    void tensor(const TensorToWrite& t, std::size_t key) {
        std::vector<std::int64_t> shape, strides(t.shape.rank, 1);
        for (int i = 0; i < t.shape.rank; ++i) shape.push_back(t.shape[i]);
        for (std::size_t i = strides.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
        global("torch._utils", "_rebuild_tensor_v2");
        op('(');
        op('(');  // the persistent id of the storage
        text("storage");
        global("torch", t.dtype == DType::bfloat16 ? "BFloat16Storage" : "FloatStorage");
        text(std::to_string(key));
        text("cpu");
        integer(t.shape.count());
        op('t');
        op('Q');
        integer(0);
        tuple(shape);
        tuple(strides);
        op('\x89');  // requires_grad: False
        global("collections", "OrderedDict");
        op(')');
        op('R');
        op('t');
        op('R');
    }
};

std::string pickle_of(const std::vector<TensorToWrite>& tensors) {
    Pickle p;
    p.op('\x80');
    p.op(2);
    p.op('}');
    p.op('(');
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        p.text(tensors[i].name);
        p.tensor(tensors[i], i);
    }
    p.op('u');
    p.op('.');
    return std::move(p.bytes.out);
}

void write_archive(const std::string& path, const std::vector<TensorToWrite>& tensors) {
    ZipWriter zip(path);
    const auto add_text = [&](const std::string& name, std::string_view content) {
        zip.add(name, content.data(), static_cast<std::int64_t>(content.size()));
    };
    add_text("archive/data.pkl", pickle_of(tensors));
    add_text("archive/byteorder", "little");
    std::vector<std::byte> memory;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        memory.resize(tensors[i].size_bytes());
        tensors[i].fill(memory.data());
        zip.add("archive/data/" + std::to_string(i), memory.data(), tensors[i].size_bytes(), kTensorAlignment);
    }
    add_text("archive/version", "3\n");
    zip.finish();
}

}  // namespace

void write_torch_file(const std::string& path, const std::vector<TensorToWrite>& tensors) {
    for (const TensorToWrite& t : tensors)
        ensure(t.dtype == DType::float32 || t.dtype == DType::bfloat16, "a PyTorch file holds float32 or bfloat16");
    const std::string partial = path + ".partial";
    try {
        write_archive(partial, tensors);
    } catch (...) {
        remove_file(partial);
        throw;
    }
    rename_file(partial, path);
}

}  // namespace longlora
