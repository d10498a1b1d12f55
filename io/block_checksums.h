// CRC-32C checksums for every 1 MiB block of a logical stream of bytes (the content of one dataset). Ranks that write
// compute the checksums of pieces, one rank combines the pieces, and a reader of a slice verifies the blocks that it
// touches. This code opens no files: the bytes come from memory or through a callback.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace longlora {

constexpr std::int64_t kChecksumBlock = std::int64_t{1} << 20;

constexpr std::int64_t num_checksum_blocks(std::int64_t bytes) { return (bytes + kChecksumBlock - 1) / kChecksumBlock; }

/// The checksum of bytes [begin, begin + length) of the stream with number `stream`. A piece never crosses a block
/// border.
struct ChecksumPiece {
    std::int64_t stream = 0;
    std::int64_t begin = 0;
    std::int64_t length = 0;
    std::uint32_t crc = 0;
    std::uint32_t unused = 0;  // takes the place of padding, so that pieces can be sent as bytes
};

/// Appends the pieces of [begin, begin + bytes), cut at block borders.
void append_checksum_pieces(std::vector<ChecksumPiece>& pieces, std::int64_t stream, std::int64_t begin,
                            const void* data, std::int64_t bytes);

/// The block checksums of every stream; `stream_bytes` has the sizes. The pieces may come in any order, but must
/// cover each stream exactly once (std::logic_error otherwise).
std::vector<std::vector<std::uint32_t>> combine_checksum_pieces(std::vector<ChecksumPiece> pieces,
                                                                const std::vector<std::int64_t>& stream_bytes);

/// Converts pieces to bytes for sending, and back.
std::string pack_pieces(const std::vector<ChecksumPiece>& pieces);
std::vector<ChecksumPiece> unpack_pieces(const std::string& bytes);

/// Copies bytes [begin, begin + bytes) of a stream of `size` bytes to `out` and verifies every block that they touch.
/// `fetch(out, bytes, offset)` reads bytes of the stream. `what` names the file and the dataset in the Error.
void read_verified(const std::function<void(void*, std::int64_t, std::int64_t)>& fetch,
                   const std::vector<std::uint32_t>& checksums, std::int64_t size, std::int64_t begin,
                   std::int64_t bytes, void* out, const std::string& what);

}  // namespace longlora
