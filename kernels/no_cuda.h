// The message of builds without the CUDA toolkit. The files that replace CUDA and NCCL throw it.
#pragma once

namespace longlora {

inline constexpr const char* kNoCuda =
    "this build has no CUDA backend, since nvcc (of CUDA 12.8 or newer) or nccl.h (of NCCL 2.17 or newer) was not "
    "found when it was configured; install the CUDA toolkit and NCCL and build again, or take --device cpu";

}  // namespace longlora
