// Whether a person watches the output. isatty alone does not tell: mpirun gives its ranks a pseudo-terminal even when
// its own output goes to a file.
#pragma once

namespace longlora {

/// Whether output to `fd` (1 or 2) ends on a terminal. Under mpirun the descriptor of mpirun decides; false if this
/// process cannot see it, as on another node.
bool ends_on_terminal(int fd);

}  // namespace longlora
