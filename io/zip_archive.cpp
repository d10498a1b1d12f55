// Reads the central directory at the end of the file (APPNOTE 6.3, sections 4.3.7 to 4.3.16), then the length of each
// local header, which stands before the bytes of its entry.
#include "io/zip_archive.h"

#include <cstring>

#include "core/error.h"

namespace longlora {

namespace {

constexpr std::uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                        kLocator64 = 0x07064b50;
constexpr std::uint64_t kMost16 = 0xffff, kMost32 = 0xffffffff;

class ZipReader {
public:
    explicit ZipReader(const MappedFile& file) : file_(file) {}

    std::map<std::string, ZipEntry> entries() const {
        const auto [begin, count] = directory();
        std::map<std::string, ZipEntry> entries;
        std::uint64_t at = begin;
        for (std::uint64_t i = 0; i < count; ++i) {
            require(number(at, 4) == kCentral, path(), " is a damaged zip file: entry ", i, " is not in its directory");
            const std::uint64_t name_bytes = number(at + 28, 2), extra_bytes = number(at + 30, 2);
            const std::string name = bytes_at(at + 46, name_bytes);
            require(entries.emplace(name, entry(at, name, at + 46 + name_bytes, extra_bytes)).second, path(),
                    " has the entry ", name, " twice");
            at += 46 + name_bytes + extra_bytes + number(at + 32, 2);
        }
        return entries;
    }

private:
    const std::string& path() const { return file_.path(); }
    std::uint64_t size() const { return static_cast<std::uint64_t>(file_.size()); }

    std::string bytes_at(std::uint64_t at, std::uint64_t bytes) const {
        require(at <= size() && bytes <= size() - at, path(), " is a damaged zip file: it ends at byte ", size());
        return {reinterpret_cast<const char*>(file_.data()) + at, bytes};
    }
    /// A little-endian number of 2, 4 or 8 bytes.
    std::uint64_t number(std::uint64_t at, std::uint64_t bytes) const {
        std::uint64_t value = 0;
        std::memcpy(&value, bytes_at(at, bytes).data(), bytes);
        return value;
    }

    struct Directory {
        std::uint64_t begin, count;
    };
    Directory directory() const {
        // The end record has 22 bytes and a comment, which PyTorch leaves empty.
        std::uint64_t end = size() < 22 ? 0 : size() - 22;
        const std::uint64_t lowest = end > kMost16 ? end - kMost16 : 0;
        while (end > lowest && number(end, 4) != kEnd) --end;
        require(size() >= 22 && number(end, 4) == kEnd, path(), " is not a zip file, or is cut short");
        Directory found{number(end + 16, 4), number(end + 10, 2)};
        if (found.begin == kMost32 || found.count == kMost16) {
            require(end >= 20 && number(end - 20, 4) == kLocator64, path(), " is a damaged zip file");
            const std::uint64_t end64 = number(end - 12, 8);
            require(number(end64, 4) == kEnd64, path(), " is a damaged zip file");
            found = {number(end64 + 48, 8), number(end64 + 32, 8)};
        }
        return found;
    }

    ZipEntry entry(std::uint64_t at, const std::string& name, std::uint64_t extra, std::uint64_t extra_bytes) const {
        require(number(at + 10, 2) == 0, path(), ": its entry ", name, " is compressed, which is not supported");
        std::uint64_t bytes = number(at + 24, 4), packed = number(at + 20, 4), local = number(at + 42, 4);
        for (std::uint64_t field = extra; field + 4 <= extra + extra_bytes; field += 4 + number(field + 2, 2)) {
            if (number(field, 2) != 1) continue;  // zip64: only the values that do not fit, in this order
            std::uint64_t value = field + 4;
            for (std::uint64_t* large : {&bytes, &packed, &local})
                if (*large == kMost32) *large = number(value, 8), value += 8;
        }
        require(number(local, 4) == kLocal, path(), " is a damaged zip file: the entry ", name, " is not at byte ",
                local);
        const std::uint64_t begin = local + 30 + number(local + 26, 2) + number(local + 28, 2);
        require(begin <= size() && bytes <= size() - begin, path(), " is cut short: its entry ", name, " has ", bytes,
                " bytes from byte ", begin, ", the file ", size());
        return {static_cast<std::int64_t>(begin), static_cast<std::int64_t>(bytes),
                static_cast<std::uint32_t>(number(at + 16, 4))};
    }

    const MappedFile& file_;
};

}  // namespace

std::map<std::string, ZipEntry> zip_entries(const MappedFile& file) { return ZipReader(file).entries(); }

}  // namespace longlora
