// MpiWorld: the simulated NCCL's own copy of MPI_COMM_WORLD, and what NCCL must know about the state of MPI. The
// program itself initialises MPI.
#pragma once

#include <mpi.h>

#include <string_view>

namespace sim::runtime {

/// The copy, which is made when the program initialises MPI. Throws Misuse, with `who` in the message, if the program
/// has not initialised MPI.
MPI_Comm messages_of_world(std::string_view who);
/// Whether MPI may be called: it is initialised, not finalised, and this is the main thread (MPI_THREAD_FUNNELED).
bool mpi_is_usable();
/// Called when the program aborts a communicator that has operations left. After that the queued operations need not be
/// complete, so their orders are not compared.
void note_abort();

}  // namespace sim::runtime
