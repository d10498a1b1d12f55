// The bytes of a file in order, as they are or decompressed (gzip, zstd), and its lines. Truncated or damaged
// compressed data is an Error that names the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace longlora {

class ByteStream {
public:
    virtual ~ByteStream() = default;
    /// Reads up to `bytes` bytes; returns 0 only at the end.
    virtual std::int64_t read(char* out, std::int64_t bytes) = 0;
    /// How many bytes of the file have been consumed so far; of a compressed file, compressed bytes.
    virtual std::int64_t consumed() const = 0;
    /// CRC-32C of the consumed bytes of the file.
    virtual std::uint32_t checksum() const = 0;
};

/// The bytes [begin, end) of a file, fewer if it ends earlier.
std::unique_ptr<ByteStream> open_plain(const std::string& path, std::int64_t begin, std::int64_t end);
std::unique_ptr<ByteStream> open_gzip(const std::string& path);
std::unique_ptr<ByteStream> open_zstd(const std::string& path);

/// The lines of a stream without their '\n', and without a '\r' in front of it. Holds one line in memory.
class LineReader {
public:
    explicit LineReader(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)), buffer_(1 << 18) {}
    /// Returns false at the end. A last line without '\n' counts as a line unless it is empty.
    bool next(std::string& line);
    /// The position in the stream at which the line of the next call of next() begins.
    std::int64_t position() const { return position_; }
    std::int64_t consumed() const { return stream_->consumed(); }
    std::uint32_t checksum() const { return stream_->checksum(); }

private:
    std::unique_ptr<ByteStream> stream_;
    std::vector<char> buffer_;
    std::size_t at_ = 0, filled_ = 0;
    std::int64_t position_ = 0;
};

}  // namespace longlora
