// Stands for dist/nccl in builds without the CUDA toolkit, where no device exists that would need it (kernels/no_cuda.cpp). Nothing else.
#include "dist/communicator.h"

#include "core/error.h"
#include "kernels/no_cuda.h"

namespace longlora::dist {

void require_nccl() { fail(kNoCuda); }
std::unique_ptr<Communicator> make_nccl_communicator(Device&, MPI_Comm, const CommunicatorOptions&) { fail(kNoCuda); }

}  // namespace longlora::dist
