// MpiWorld: the simulated NCCL's own copy of MPI_COMM_WORLD, and what it needs to know of MPI's state. MPI itself is
// started by the program.
#pragma once

#include <mpi.h>

#include <string_view>

namespace sim::runtime {

/// Made when the program initialises MPI. Misuse, naming `who`, when it has not.
MPI_Comm messages_of_world(std::string_view who);
/// MPI may be called: it is initialised, not finalised, and this is the main thread (MPI_THREAD_FUNNELED).
bool mpi_is_usable();
/// The program has aborted a communicator with work left: from now on nothing that was queued is expected to be whole.
void note_abort();

}  // namespace sim::runtime
