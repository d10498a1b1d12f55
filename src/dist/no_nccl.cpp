// Stands for dist/nccl in builds without the CUDA toolkit, where no device exists that would need it (kernels/no_cuda.cpp). Nothing else.
#include "dist/communicator.h"

#include "core/error.h"

namespace longlora::dist {

namespace {
constexpr const char* kProblem = "this build has no NCCL, since nvcc or nccl.h was not found when it was configured; install the CUDA toolkit and NCCL and build again, or take --device cpu";
}

void require_nccl() { fail(kProblem); }
std::unique_ptr<Communicator> make_nccl_communicator(Device&, MPI_Comm, const CommunicatorOptions&) { fail(kProblem); }

}  // namespace longlora::dist
