// The parts of the token file that units give, and their bytes. A rank knows the parts of all ranks from the counts of
// the units, and reads the bytes of its own units from their spool files (jobs/prepare/units.h). No MPI.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/named_tensor_file.h"
#include "io/shared_file.h"
#include "jobs/prepare/units.h"

namespace longlora {

/// What a unit has, for the layout of the token file.
struct UnitSizes {
    std::int64_t tokens = 0, documents = 0, name_bytes = 0;
};

/// A part of the token file and the unit that has it; -1: the zero with which the document positions begin.
struct UnitSlice {
    FilePart place;
    std::int64_t unit = -1;
    UnitSizes before;  // what the units before it have
};

/// The slices of each rank. `owner` has the rank of each unit; rank 0 has the zeros.
std::vector<std::vector<UnitSlice>> slices_of_ranks(const NamedTensorLayout& layout,
                                                    const std::vector<UnitSizes>& units, const std::vector<int>& owner,
                                                    int num_ranks);

/// Reads the slices of one rank, each byte once and in any order, and verifies the tokens of each unit.
class SliceReader {
public:
    /// `slices` outlives this object. key_of gives the key that the result of a unit must have.
    SliceReader(const std::vector<UnitSlice>& slices, const std::string& parts_folder, std::int64_t token_width,
                std::function<std::string(std::int64_t unit)> key_of);
    /// Copies bytes of slice number piece.part.
    void read(const PartPiece& piece, void* out);
    /// After all bytes were read: throws an Error if the tokens of a unit are not those that were spooled.
    void verify_tokens() const;

private:
    void open(std::int64_t unit);
    const std::vector<UnitSlice>& slices_;
    const std::string parts_folder_;
    const std::int64_t token_width_;
    const std::function<std::string(std::int64_t)> key_of_;
    std::int64_t open_unit_ = -1;
    UnitResult result_;
    FileHandle spool_;
    std::vector<ChecksumPiece> token_pieces_;  // stream: the unit
};

}  // namespace longlora
