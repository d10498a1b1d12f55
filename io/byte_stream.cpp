// Reads plain files by pread, gzip by zlib and zstd by libzstd.
#include "io/byte_stream.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "io/checksum.h"
#include "io/file.h"

namespace longlora {

namespace {

class PlainStream : public ByteStream {
public:
    PlainStream(const std::string& path, std::int64_t begin, std::int64_t end)
        : file_(FileHandle::open_read(path)),
          at_(begin),
          begin_(begin),
          end_(end) {}
    std::int64_t read(char* out, std::int64_t bytes) override {
        const std::int64_t n = file_.read_some(out, std::min(bytes, end_ - at_), at_);
        checksum_ = crc32c(out, static_cast<std::size_t>(n), checksum_);
        at_ += n;
        return n;
    }
    std::int64_t consumed() const override { return at_ - begin_; }
    std::uint32_t checksum() const override { return checksum_; }

private:
    FileHandle file_;
    std::int64_t at_, begin_, end_;
    std::uint32_t checksum_ = 0;
};

/// The compressed input of a file, one buffer at a time.
class Compressed {
public:
    explicit Compressed(const std::string& path) : file_(FileHandle::open_read(path)), buffer_(1 << 18) {}
    /// Reads the next buffer; returns an empty one at the end of the file.
    std::string_view refill() {
        const std::int64_t n = file_.read_some(buffer_.data(), buffer_.size(), at_);
        checksum_ = crc32c(buffer_.data(), static_cast<std::size_t>(n), checksum_);
        at_ += n;
        return {buffer_.data(), static_cast<std::size_t>(n)};
    }
    std::int64_t consumed() const { return at_; }
    std::uint32_t checksum() const { return checksum_; }
    const std::string& path() const { return file_.path(); }
    [[noreturn]] void fail_truncated() const {
        fail(text(path(), " is cut short: its compressed data end at byte ", at_, " before they are complete"));
    }
    [[noreturn]] void fail_damaged(const char* reason) const {
        fail(text(path(), " is damaged: ", reason ? reason : "its compressed data are not valid"));
    }

private:
    FileHandle file_;
    std::vector<char> buffer_;
    std::int64_t at_ = 0;
    std::uint32_t checksum_ = 0;
};

class GzipStream : public ByteStream {
public:
    explicit GzipStream(const std::string& path) : input_(path) {
        constexpr int kGzipOnly = 16 + MAX_WBITS;
        ensure(inflateInit2(&state_, kGzipOnly) == Z_OK, "zlib does not start");
    }
    ~GzipStream() override { inflateEnd(&state_); }

    std::int64_t read(char* out, std::int64_t bytes) override {
        state_.next_out = reinterpret_cast<Bytef*>(out);
        state_.avail_out = static_cast<uInt>(std::min<std::int64_t>(bytes, 1 << 30));
        const uInt wanted = state_.avail_out;
        while (state_.avail_out == wanted) {
            if (state_.avail_in == 0 && !full_output_) {
                const std::string_view next = input_.refill();
                if (next.empty() && complete_) return 0;
                if (next.empty()) input_.fail_truncated();
                state_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(next.data()));
                state_.avail_in = static_cast<uInt>(next.size());
            }
            if (complete_) {  // a file may hold several gzip streams, one after another
                inflateReset(&state_);
                complete_ = false;
            }
            const int result = inflate(&state_, Z_NO_FLUSH);
            if (result == Z_STREAM_END) complete_ = true;
            else if (result != Z_OK && result != Z_BUF_ERROR) input_.fail_damaged(state_.msg);
            // zlib may hold more output even when it has consumed all input.
            full_output_ = !complete_ && state_.avail_out == 0;
        }
        return wanted - state_.avail_out;
    }
    std::int64_t consumed() const override { return input_.consumed(); }
    std::uint32_t checksum() const override { return input_.checksum(); }

private:
    Compressed input_;
    z_stream state_{};
    bool complete_ = false, full_output_ = false;
};

class ZstdStream : public ByteStream {
public:
    explicit ZstdStream(const std::string& path) : input_(path), state_(ZSTD_createDStream()) {
        ensure(state_ != nullptr, "zstd does not start");
    }
    ~ZstdStream() override { ZSTD_freeDStream(state_); }

    std::int64_t read(char* out, std::int64_t bytes) override {
        ZSTD_outBuffer target{out, static_cast<std::size_t>(bytes), 0};
        while (target.pos == 0) {
            if (source_.pos == source_.size && !full_output_) {
                const std::string_view next = input_.refill();
                if (next.empty() && complete_) return 0;
                if (next.empty()) input_.fail_truncated();
                source_ = {next.data(), next.size(), 0};
            }
            const std::size_t result = ZSTD_decompressStream(state_, &target, &source_);
            if (ZSTD_isError(result)) input_.fail_damaged(ZSTD_getErrorName(result));
            complete_ = result == 0;  // at the end of a frame
            // zstd may hold more output even when it has consumed all input.
            full_output_ = !complete_ && target.pos == target.size;
        }
        return target.pos;
    }
    std::int64_t consumed() const override { return input_.consumed(); }
    std::uint32_t checksum() const override { return input_.checksum(); }

private:
    Compressed input_;
    ZSTD_DStream* state_;
    ZSTD_inBuffer source_{nullptr, 0, 0};
    bool complete_ = false, full_output_ = false;
};

}  // namespace

std::unique_ptr<ByteStream> open_plain(const std::string& path, std::int64_t begin, std::int64_t end) {
    return std::make_unique<PlainStream>(path, begin, end);
}
std::unique_ptr<ByteStream> open_gzip(const std::string& path) { return std::make_unique<GzipStream>(path); }
std::unique_ptr<ByteStream> open_zstd(const std::string& path) { return std::make_unique<ZstdStream>(path); }

bool LineReader::next(std::string& line) {
    line.clear();
    for (;;) {
        if (at_ == filled_) {
            filled_ = static_cast<std::size_t>(stream_->read(buffer_.data(), buffer_.size()));
            at_ = 0;
            if (filled_ == 0) break;
        }
        const char* begin = buffer_.data() + at_;
        const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', filled_ - at_));
        const std::size_t n = newline ? static_cast<std::size_t>(newline - begin) : filled_ - at_;
        line.append(begin, n);
        at_ += n + (newline != nullptr);
        position_ += static_cast<std::int64_t>(n + (newline != nullptr));
        if (newline) {
            if (!line.empty() && line.back() == '\r') line.pop_back();
            return true;
        }
    }
    const bool found = !line.empty();
    if (found && line.back() == '\r') line.pop_back();
    return found;
}

}  // namespace longlora
