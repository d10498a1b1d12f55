// Which checkpoint all ranks read. Looking it up on every rank is not enough: a rank that sees an old listing of the
// folder, as network file systems may show it, would read another step, and the ranks would compute with a mixture.
// So rank 0 decides, and the ranks compare what they opened.
#pragma once

#include <string>

#include "parallel/host_group.h"

namespace longlora {

/// Collective. `run_or_file` is a checkpoint, or a run folder: rank 0 finds its newest checkpoint. Every rank gets the
/// path of that file; the run folder may have another path on each rank. Throws an AgreedError if a rank does not see
/// the file, or another content in it.
std::string newest_checkpoint_on_all_ranks(const parallel::HostGroup& group, const std::string& run_or_file);

/// Collective. Throws an AgreedError unless the checkpoint `path` of each rank has the same attributes, tensors and
/// checksums. Reads no tensors.
void require_same_checkpoint(const parallel::HostGroup& group, const std::string& path);

}  // namespace longlora
