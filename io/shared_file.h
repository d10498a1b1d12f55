// A file that several ranks write together, each its own parts of the tensors: which rank writes which bytes, so that
// no two ranks ever write into one block of the file. Ranks that have bytes in a block of another rank send them to
// it. Arithmetic, and packing of messages; the caller moves the messages (no MPI here) and opens the file.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "io/named_tensor_file.h"

namespace longlora {

/// The unit of a file that has one writer. A node's cache keeps a file in pages and may write a whole page back though
/// a rank changed only a few bytes of it (NFS: a page of a readable handle, or one that is complete in the cache), so a
/// page of two writers on two nodes loses bytes. Pages have 4 KiB to 64 KiB, large folios of Linux up to 2 MiB but
/// aligned to their size; a stripe of Lustre, where two writers only wait for each other's lock, has 1 MiB unless set
/// otherwise.
constexpr std::int64_t kWriterBlock = std::int64_t{1} << 20;

/// Bytes [begin, begin + bytes) of a tensor of the layout, which one rank has.
struct FilePart {
    std::int64_t tensor = 0, begin = 0, bytes = 0;
};

/// Bytes [begin, begin + bytes) of part number `part` of this rank.
struct PartPiece {
    std::int64_t part = 0, begin = 0, bytes = 0;
};

/// What one rank does with a shared file.
struct SharedWrite {
    /// One exchange of messages between all ranks: what this rank sends, by receiving rank, then by place in the file.
    struct Round {
        std::vector<PartPiece> sends;
        std::vector<std::int64_t> bytes_to, bytes_from;  // by rank
    };
    /// Bytes [begin, begin + bytes) of a tensor, which this rank writes. They are those from byte `at` on of its part
    /// number `part`, or of the received bytes if `part` is -1.
    struct Write {
        std::int64_t tensor = 0, begin = 0, bytes = 0, part = 0, at = 0;
    };
    std::vector<Round> rounds;  // the same number on all ranks; their messages are below 2 GiB
    std::vector<Write> writes;  // in the order of the file
    std::int64_t received_bytes = 0;
};

/// Plans the writing of a file. `parts` are those of every rank; they must not overlap. A block that has bytes of only
/// one rank is written by it; in a block of several ranks, these take turns from block to block, so that small shards
/// do not all go to one rank. Blocks with bytes of the file itself (layout.own_bytes) are written by rank 0.
/// `writer_block` is a parameter for tests.
SharedWrite plan_shared_write(const NamedTensorLayout& layout, const std::vector<std::vector<FilePart>>& parts,
                              int rank, std::int64_t writer_block = kWriterBlock);

/// The memory of the exchange.
struct SharedBytes {
    explicit SharedBytes(const SharedWrite& plan);
    std::vector<char> received, sent;  // sent: of the largest round
};

/// Copies a piece of this rank's parts to `out`.
using ReadPiece = std::function<void(const PartPiece& piece, void* out)>;
/// Sends bytes_to[r] bytes to each rank r, from `out` on in the order of ranks, and receives likewise.
using ExchangeBytes = std::function<void(const char* out, const std::vector<std::int64_t>& bytes_to, char* in,
                                         const std::vector<std::int64_t>& bytes_from)>;

/// Fills bytes.received. All ranks call it together; `read` must not throw, since the others wait for the messages.
void exchange_pieces(const SharedWrite& plan, SharedBytes& bytes, const ReadPiece& read, const ExchangeBytes& exchange);

}  // namespace longlora
