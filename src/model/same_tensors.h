// Whether all ranks load the same tensors. A rank may have its files on a disk of its own, where an old copy may lie,
// and it reads only the elements that it keeps. So each rank computes checksums of what it loads, while it loads, and
// the ranks compare them. Rank 0's files count:
//
//   readers      rank 0, and the ranks of its node that have the same files open
//   they read    what they load; and what none of them loads, each its share, so that together they read every element
//   all ranks    compare each piece that they load with the checksum of its reader
//
// A rank reads nothing twice, and all ranks together read at most one copy of the model more than they load. The
// checksums of a tensor's pieces combine to that of the whole tensor, so the same reading identifies the model
// (io/content_hash.h).
//
// This finds other names, types, shapes and values. It does not find: a difference among elements that only readers
// load; a change of a file after it was read; one of 2^32 random differences of a piece, since that is how many values
// a CRC-32C has.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/content_hash.h"
#include "parallel/host_group.h"
#include "parallel/mesh.h"

namespace longlora {

/// A tensor of a model's or an adapter's files, as this rank sees it.
struct FileTensor {
    std::string name;
    HostTensor value;
    std::string file;        ///< its path
    parallel::Shard loaded;  ///< the elements that this rank loads; count 0: none
};

/// Consecutive elements of a tensor that every rank loads or does not load as a whole.
struct TensorPiece {
    std::int64_t tensor = 0;  ///< index in SharedReading::tensors
    parallel::Shard elements;
    int reader = 0;              ///< the rank whose checksum counts
    bool loaded = false;         ///< this rank loads it
    bool read = false;           ///< this rank reads it, since it loads it or since it is its reader
    std::int64_t noted = 0;      ///< the elements that `checksum` has
    std::uint32_t checksum = 0;  ///< of the elements that this rank has read so far
};

/// What the ranks read together, and what this rank has read of it.
struct SharedReading {
    std::vector<FileTensor> tensors;       ///< in the order of their names
    std::vector<TensorPiece> pieces;       ///< in the order of tensors and elements
    std::vector<std::size_t> first_piece;  ///< by tensor, and one more at the end
    std::string first_node;                ///< the node of rank 0
    std::vector<std::string> first_files;  ///< the paths of rank 0's files, by tensor
};

/// Collective. Throws an AgreedError unless all ranks have tensors of the same names, types and shapes. `what` names
/// their owner in the sentence ("the model in DIR").
SharedReading plan_reading(const parallel::HostGroup& group, const std::string& what, std::vector<FileTensor> tensors);

/// This rank has read `elements` of the tensor, which begin at element `begin` and are part of what it loads. Calls for
/// a piece come in the order of its elements.
void note_read(SharedReading& reading, const std::string& tensor, std::int64_t begin, const HostTensor& elements);

/// Reads this rank's share of what no reader loads. Calls `progress` now and then.
void read_rest(SharedReading& reading, const std::function<void()>& progress);

/// Collective, after every rank has read. Throws an AgreedError that names node, file and tensor if a rank has read
/// other values than rank 0's files hold. Returns the checksums of the whole tensors, on all ranks.
TensorChecksums agree_on_checksums(const parallel::HostGroup& group, const SharedReading& reading);

}  // namespace longlora
