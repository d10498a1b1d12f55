// Cuts streams at block borders, combines the checksums of pieces, and verifies blocks while reading.
#include "io/block_checksums.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "io/checksum.h"

namespace longlora {

namespace {

/// Throws an Error unless the checksum of the block is the expected one.
void require_block(std::uint32_t expected, std::uint32_t found, std::int64_t block, std::int64_t size,
                   const std::string& what) {
    const std::int64_t begin = block * kChecksumBlock, end = std::min(size, begin + kChecksumBlock);
    require(expected == found, what, " is damaged: the checksum of its bytes ", begin, " to ", end - 1,
            " is wrong; use another copy of the file");
}

}  // namespace

void append_checksum_pieces(std::vector<ChecksumPiece>& pieces, std::int64_t stream, std::int64_t begin,
                            const void* data, std::int64_t bytes) {
    const auto* p = static_cast<const char*>(data);
    while (bytes > 0) {
        const std::int64_t n = std::min(bytes, kChecksumBlock - begin % kChecksumBlock);
        pieces.push_back({stream, begin, n, crc32c(p, n), 0});
        p += n, begin += n, bytes -= n;
    }
}

std::vector<std::vector<std::uint32_t>> combine_checksum_pieces(std::vector<ChecksumPiece> pieces,
                                                                const std::vector<std::int64_t>& stream_bytes) {
    std::sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) {
        return a.stream != b.stream ? a.stream < b.stream : a.begin < b.begin;
    });
    std::vector<std::vector<std::uint32_t>> result;
    std::size_t at = 0;
    for (std::size_t stream = 0; stream < stream_bytes.size(); ++stream) {
        std::vector<std::uint32_t> blocks(num_checksum_blocks(stream_bytes[stream]), 0);
        std::int64_t done = 0;
        for (; at < pieces.size() && pieces[at].stream == static_cast<std::int64_t>(stream); ++at) {
            const ChecksumPiece& piece = pieces[at];
            ensure(piece.begin == done && piece.length > 0 && piece.begin + piece.length <= stream_bytes[stream],
                   "checksum pieces overlap or leave a gap in a stream");
            ensure(piece.begin / kChecksumBlock == (piece.begin + piece.length - 1) / kChecksumBlock,
                   "a checksum piece crosses a block border");
            std::uint32_t& block = blocks[piece.begin / kChecksumBlock];
            block = piece.begin % kChecksumBlock == 0 ? piece.crc : crc32c_combine(block, piece.crc, piece.length);
            done += piece.length;
        }
        ensure(done == stream_bytes[stream], "checksum pieces do not cover a whole stream");
        result.push_back(std::move(blocks));
    }
    ensure(at == pieces.size(), "a checksum piece belongs to no stream");
    return result;
}

std::string pack_pieces(const std::vector<ChecksumPiece>& pieces) {
    return std::string(reinterpret_cast<const char*>(pieces.data()), pieces.size() * sizeof(ChecksumPiece));
}

std::vector<ChecksumPiece> unpack_pieces(const std::string& bytes) {
    ensure(bytes.size() % sizeof(ChecksumPiece) == 0, "checksum pieces arrived incomplete");
    std::vector<ChecksumPiece> pieces(bytes.size() / sizeof(ChecksumPiece));
    if (!bytes.empty()) std::memcpy(pieces.data(), bytes.data(), bytes.size());
    return pieces;
}

void read_verified(const std::function<void(void*, std::int64_t, std::int64_t)>& fetch,
                   const std::vector<std::uint32_t>& checksums, std::int64_t size, std::int64_t begin,
                   std::int64_t bytes, void* out, const std::string& what) {
    ensure(begin >= 0 && bytes >= 0 && begin + bytes <= size, "a read goes beyond the ends of its stream");
    ensure(static_cast<std::int64_t>(checksums.size()) == num_checksum_blocks(size),
           "the number of checksums is not the number of blocks");
    if (bytes == 0) return;
    std::vector<char> scratch;
    for (std::int64_t block = begin / kChecksumBlock; block * kChecksumBlock < begin + bytes; ++block) {
        const std::int64_t block_begin = block * kChecksumBlock,
                           block_end = std::min(size, block_begin + kChecksumBlock);
        const std::int64_t from = std::max(begin, block_begin), to = std::min(begin + bytes, block_end);
        char* target = static_cast<char*>(out) + (from - begin);
        const bool whole = from == block_begin && to == block_end;
        if (!whole) scratch.resize(kChecksumBlock);
        char* place = whole ? target : scratch.data();
        fetch(place, block_end - block_begin, block_begin);
        require_block(checksums[block], crc32c(place, block_end - block_begin), block, size, what);
        if (!whole) std::memcpy(target, scratch.data() + (from - block_begin), to - from);
    }
}

}  // namespace longlora
