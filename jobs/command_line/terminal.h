// Whether a person watches: mpirun gives its ranks a pseudo-terminal even when its own output goes to a file.
#pragma once

namespace longlora {

/// True when what is written to `fd` (1 or 2) ends on a terminal. Under mpirun its own descriptor decides; if that
/// cannot be seen (another node), false.
bool ends_on_terminal(int fd);

}  // namespace longlora
