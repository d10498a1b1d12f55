// check_mpi: a failed MPI call becomes one sentence with exit code 5. Works where MPI_ERRORS_RETURN is set, as this
// room does on its communicators.
#pragma once

#include <mpi.h>

#include "core/error.h"

namespace longlora::parallel {

/// `call` is what we were doing, `rank` who we are.
inline void check_mpi(int code, const char* call, int rank) {
    if (code == MPI_SUCCESS) return;
    char reason[MPI_MAX_ERROR_STRING] = "unknown reason";
    int length = 0;
    MPI_Error_string(code, reason, &length);
    fail(text("communication failed on rank ", rank, " in ", call, " (", reason,
              "): look whether all ranks and nodes are alive, then start the job again"),
         ExitCode::communication);
}

/// A copy of `parent` of our own, whose errors return to us. Collective.
inline MPI_Comm duplicate(MPI_Comm parent) {
    MPI_Comm own = MPI_COMM_NULL;
    int rank = 0;
    check_mpi(MPI_Comm_rank(parent, &rank), "MPI_Comm_rank", 0);
    check_mpi(MPI_Comm_dup(parent, &own), "MPI_Comm_dup", rank);
    check_mpi(MPI_Comm_set_errhandler(own, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler", rank);
    return own;
}

/// For destructors: quiet, and nothing after MPI_Finalize. (Open MPI frees a communicator without talking to other
/// ranks.)
inline void release(MPI_Comm& comm) noexcept {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (comm != MPI_COMM_NULL && !finalized) MPI_Comm_free(&comm);
    comm = MPI_COMM_NULL;
}

}  // namespace longlora::parallel
