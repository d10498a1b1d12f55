// Replaces parallel/nccl in builds without the CUDA toolkit. No device that needs NCCL exists there
// (kernels/no_cuda.cpp).
#include "parallel/communicator.h"

#include "core/error.h"
#include "kernels/no_cuda.h"

namespace longlora::parallel {

void require_nccl() { fail(kNoCuda); }
std::unique_ptr<Communicator> make_nccl_communicator(Device&, MPI_Comm, const CommunicatorOptions&) { fail(kNoCuda); }

}  // namespace longlora::parallel
