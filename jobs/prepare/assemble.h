// Writing the token file on all ranks: each rank writes some blocks of it, of its own slices and of bytes that other
// ranks send (io/shared_file.h), and reads back what another rank wrote. Creating and renaming the file is in
// prepare.cpp.
#pragma once

#include <vector>

#include "io/read_back.h"
#include "jobs/prepare/unit_slices.h"
#include "parallel/host_group.h"

namespace longlora {

/// Fills the file of the layout, which rank 0 has created. `slices` are those of every rank, `reader` reads this
/// rank's. Collective; throws the same Error on all ranks.
void fill_token_file(const parallel::HostGroup& group, const NamedTensorLayout& layout,
                     const std::vector<std::vector<UnitSlice>>& slices, SliceReader& reader, ReadBack how);

}  // namespace longlora
