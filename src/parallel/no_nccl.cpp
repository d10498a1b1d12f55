// Stands for parallel/nccl in builds without the CUDA toolkit, where no device exists that would need it
// (kernels/no_cuda.cpp). Nothing else.
#include "parallel/communicator.h"

#include "core/error.h"
#include "kernels/no_cuda.h"

namespace longlora::parallel {

void require_nccl() { fail(kNoCuda); }
std::unique_ptr<Communicator> make_nccl_communicator(Device&, MPI_Comm, const CommunicatorOptions&) { fail(kNoCuda); }

}  // namespace longlora::parallel
