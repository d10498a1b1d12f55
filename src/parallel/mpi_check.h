// check_mpi: turns a failed MPI call into an Error with one sentence and exit code 5. It works on communicators with
// the error handler MPI_ERRORS_RETURN, which duplicate() sets.
#pragma once

#include <mpi.h>

#include "core/error.h"

namespace longlora::parallel {

/// call: the name of the MPI function. rank: the rank of this process.
inline void check_mpi(int code, const char* call, int rank) {
    if (code == MPI_SUCCESS) return;
    char reason[MPI_MAX_ERROR_STRING] = "unknown reason";
    int length = 0;
    MPI_Error_string(code, reason, &length);
    fail(text("communication failed on rank ", rank, " in ", call, " (", reason,
              "); check that all ranks and nodes are alive, then start the job again"),
         ExitCode::communication);
}

/// A duplicate of `parent` that returns its errors instead of ending the program. Collective.
inline MPI_Comm duplicate(MPI_Comm parent) {
    MPI_Comm own = MPI_COMM_NULL;
    int rank = 0;
    check_mpi(MPI_Comm_rank(parent, &rank), "MPI_Comm_rank", 0);
    check_mpi(MPI_Comm_dup(parent, &own), "MPI_Comm_dup", rank);
    check_mpi(MPI_Comm_set_errhandler(own, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler", rank);
    return own;
}

/// Frees `comm`. For destructors: it reports no error and does nothing after MPI_Finalize. Open MPI frees a
/// communicator without talking to other ranks.
inline void release(MPI_Comm& comm) noexcept {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (comm != MPI_COMM_NULL && !finalized) MPI_Comm_free(&comm);
    comm = MPI_COMM_NULL;
}

}  // namespace longlora::parallel
