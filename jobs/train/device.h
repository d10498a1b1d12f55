// The device of a training run: its memory is planned before it is made, since a GPU's is allocated once, of that size.
// Which device it is, is device_choice.h.
#pragma once

#include "jobs/train/run.h"

namespace longlora {

/// Decides computing type and what is kept for backward, then makes device and mesh. Collective. Prints the table of
/// what does not fit.
void open_device(Run& run);

/// A sentence when the run, after at least one step, took other memory than planned (documents over sequence ranks may
/// take less); else "".
std::string memory_note(const Run& run);

}  // namespace longlora
