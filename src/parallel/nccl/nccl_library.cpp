// An error of NCCL as a sentence: its kind, and the last message that NCCL recorded about it.
#include "parallel/nccl/nccl_library.h"

namespace longlora::parallel {

void NcclLibrary::check(ncclResult_t result, const char* call, ncclComm_t comm) const {
    if (result == ncclSuccess) return;
    const char* more = last_error(comm);
    fail(text("communication failed in ", call, " (NCCL: ", error_string(result),
              more && *more ? text("; ", more) : std::string(),
              "); check that all ranks, GPUs and nodes are alive, then start the job again"),
         ExitCode::communication);
}

}  // namespace longlora::parallel
