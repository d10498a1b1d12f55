// NCCL's words of an error: what kind it is, and what it last wrote down about it.
#include "parallel/nccl/nccl_library.h"

namespace longlora::parallel {

void NcclLibrary::check(ncclResult_t result, const char* call, ncclComm_t comm) const {
    if (result == ncclSuccess) return;
    const char* more = last_error(comm);
    fail(text("communication failed in ", call, " (NCCL: ", error_string(result),
              more && *more ? text("; ", more) : std::string(),
              "): look whether all ranks, GPUs and nodes are alive, then start the job again"),
         ExitCode::communication);
}

}  // namespace longlora::parallel
