// Reading back what another rank wrote into a shared file (io/shared_file.h), before the file gets its name: checksums
// come from memory, so a network file system that loses or mixes bytes would only be noticed when the file is needed.
// Which rank reads what another one wrote, how much of it, and the comparison. No MPI; any thread may call these.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/block_checksums.h"
#include "io/named_tensor_file.h"

namespace longlora {

/// How much of a file is read back.
enum class ReadBack { sample, all };
/// "sample" or "all"; any other text is an Error that names `option`.
ReadBack read_back_of(const std::string& text, const std::string& option);

/// By rank, the rank whose bytes it reads back: another rank if there is one, of another node if there is one, and each
/// rank is read by exactly one. `nodes` has any number of its node for each rank.
std::vector<int> read_back_partners(const std::vector<int>& nodes);

/// "rank 3 on node n1 cannot read back what rank 5 wrote: "
std::string cannot_read_back(int rank, int partner);

/// The pieces to read of those that one rank wrote. A sample has 8 MiB or a sixteenth, whichever is more: every n-th
/// piece, and other ones at the next `turn`.
std::vector<ChecksumPiece> pieces_to_read(const std::vector<ChecksumPiece>& written, ReadBack how, std::int64_t turn);

/// Reads the pieces from the disk or the server, not from this node's cache, and compares their checksums. An Error
/// names the file, the tensor and the bytes; pieces that differ are read twice. Calls `progress` after each piece.
void read_back(const NamedTensorLayout& layout, const std::vector<ChecksumPiece>& pieces,
               const std::function<void()>& progress = {});

/// The same for what rank 0 wrote beside the tensors: HDF5's data, attributes and checksums. `pieces` are those of all
/// ranks. Calls HDF5, so only the main thread calls it.
void read_back_own(const NamedTensorLayout& layout, const std::string& format, std::int64_t schema_version,
                   const std::vector<ChecksumPiece>& pieces);

}  // namespace longlora
