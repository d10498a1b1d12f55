// Bytes of a file in order, plain or decompressed (gzip, zstd), and its lines. Truncated or damaged compression is an
// Error naming the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace longlora {

class ByteStream {
public:
    virtual ~ByteStream() = default;
    /// Up to `bytes` bytes; 0 only at the end.
    virtual std::int64_t read(char* out, std::int64_t bytes) = 0;
    /// Bytes of the file (compressed, if it is) consumed so far.
    virtual std::int64_t consumed() const = 0;
};

std::unique_ptr<ByteStream> open_plain(const std::string& path, std::int64_t begin);
std::unique_ptr<ByteStream> open_gzip(const std::string& path);
std::unique_ptr<ByteStream> open_zstd(const std::string& path);

/// Lines of a stream without their '\n' (and without a '\r' before it). Memory: one line.
class LineReader {
public:
    explicit LineReader(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)), buffer_(1 << 18) {}
    /// False at the end. A last line without '\n' counts; an empty rest does not.
    bool next(std::string& line);
    /// Bytes of the stream before the line that next() gives next.
    std::int64_t position() const { return position_; }
    std::int64_t consumed() const { return stream_->consumed(); }

private:
    std::unique_ptr<ByteStream> stream_;
    std::vector<char> buffer_;
    std::size_t at_ = 0, filled_ = 0;
    std::int64_t position_ = 0;
};

}  // namespace longlora
