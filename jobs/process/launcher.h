// What the launcher of this process (srun, mpirun) says about the number of ranks. If MPI found fewer, each process is
// a job of its own, and the jobs would overwrite each other's files: so they are refused before they touch any.
#pragma once

#include <functional>
#include <string>

namespace longlora {

struct Launch {
    std::string launcher{};  ///< as people know it; "" if there is none
    int ranks = 1;           ///< the number of processes that it started; at least 1
};

/// The value of an environment variable; nullptr if it is not set.
using Variable = std::function<const char*(const char*)>;

/// Call it before MPI_Init, which may set such variables for this process. Only what started this very process counts:
/// - A rank of mpirun has OMPI_COMM_WORLD_SIZE, also inside a Slurm job, whose variables it inherits.
///   This holds even if Slurm's step has more tasks, for these can be the daemons that mpirun itself started by srun.
/// - MVAPICH's mpirun and IBM's jsrun have such variables, too.
/// - PMI_SIZE comes from a launcher that speaks PMI: that of MPICH, or srun --mpi=pmi2.
/// - A task of srun has the number of a step in SLURM_STEP_ID. The batch script of a job and the shell of salloc have
///   no such number (or one of those that Slurm reserves), although SLURM_NTASKS is set there.
/// - PMIX_RANK, if there is nothing else, is below the number of ranks.
Launch launch_of_environment(const Variable& variable);

/// The sentence that refuses a launch of which MPI sees only `ranks`; "" if nothing is wrong.
std::string launch_problem(const Launch& launch, int ranks);

}  // namespace longlora
