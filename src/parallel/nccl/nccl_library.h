// NcclLibrary: the functions of NCCL that this program calls, found by name when the first communicator is made, and
// the errors of NCCL as one sentence. Communication is in parallel/nccl/nccl_communicator.cpp.
#pragma once

#include <nccl.h>

#include "kernels/cuda/shared_library.h"

namespace longlora::parallel {

struct NcclLibrary {
    cuda::SharedLibrary file{"libnccl.so.2"};
    decltype(ncclGetUniqueId)* get_unique_id = file.function<decltype(ncclGetUniqueId)>("ncclGetUniqueId");
    decltype(ncclCommInitRankConfig)* init_rank =
        file.function<decltype(ncclCommInitRankConfig)>("ncclCommInitRankConfig");
    decltype(ncclCommDestroy)* destroy = file.function<decltype(ncclCommDestroy)>("ncclCommDestroy");
    decltype(ncclCommAbort)* abort = file.function<decltype(ncclCommAbort)>("ncclCommAbort");
    decltype(ncclCommGetAsyncError)* get_async_error =
        file.function<decltype(ncclCommGetAsyncError)>("ncclCommGetAsyncError");
    decltype(ncclGroupStart)* group_start = file.function<decltype(ncclGroupStart)>("ncclGroupStart");
    decltype(ncclGroupEnd)* group_end = file.function<decltype(ncclGroupEnd)>("ncclGroupEnd");
    decltype(ncclSend)* send = file.function<decltype(ncclSend)>("ncclSend");
    decltype(ncclRecv)* receive = file.function<decltype(ncclRecv)>("ncclRecv");
    decltype(ncclGetErrorString)* error_string = file.function<decltype(ncclGetErrorString)>("ncclGetErrorString");
    decltype(ncclGetLastError)* last_error = file.function<decltype(ncclGetLastError)>("ncclGetLastError");

    /// Throws Error(communication) unless `result` is ncclSuccess. call: the name of the NCCL function. comm: the
    /// communicator of the call, nullptr while there is none.
    void check(ncclResult_t result, const char* call, ncclComm_t comm) const;
};

}  // namespace longlora::parallel
