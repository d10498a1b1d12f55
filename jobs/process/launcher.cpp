// The variables are those of Slurm 22.05, Open MPI 4.1 and 5, MVAPICH2, IBM JSM, MPICH and PMIx.
#include "jobs/process/launcher.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace longlora {
namespace {

/// Slurm gives steps that srun did not start as steps of their own (batch, interactive, extern, pending) numbers from
/// here on (SLURM_MAX_NORMAL_STEP_ID in slurm.h).
constexpr std::int64_t kFirstReservedStep = 0xfffffff0;

/// Variables with the number of ranks that a launcher started, and the launcher.
constexpr std::pair<const char*, const char*> kSizes[] = {{"OMPI_COMM_WORLD_SIZE", "mpirun"},
                                                          {"MV2_COMM_WORLD_SIZE", "mpirun of MVAPICH"},
                                                          {"JSM_NAMESPACE_SIZE", "jsrun"},
                                                          {"PMI_SIZE", "a launcher with PMI"}};

std::optional<std::int64_t> number_of(const char* value) {
    if (!value) return std::nullopt;
    const std::string_view digits = value;
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || end != digits.data() + digits.size() || number < 0) return std::nullopt;
    return number;
}

std::optional<std::int64_t> first_number(const Variable& variable, const char* name, const char* older_name) {
    const auto number = number_of(variable(name));
    return number ? number : number_of(variable(older_name));
}

Launch launch_by(const char* launcher, std::int64_t ranks) {
    return {launcher, static_cast<int>(std::clamp<std::int64_t>(ranks, 1, std::numeric_limits<int>::max()))};
}

bool is_task_of_srun(const Variable& variable) {
    const auto step = first_number(variable, "SLURM_STEP_ID", "SLURM_STEPID");
    return step && *step < kFirstReservedStep && number_of(variable("SLURM_PROCID"));
}

}  // namespace

Launch launch_of_environment(const Variable& variable) {
    for (const auto& [name, launcher] : kSizes)
        if (const auto size = number_of(variable(name))) return launch_by(launcher, *size);
    if (is_task_of_srun(variable))
        return launch_by("srun", first_number(variable, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS").value_or(1));
    if (const auto rank = number_of(variable("PMIX_RANK"))) return launch_by("a launcher with PMIx", *rank + 1);
    return {};
}

std::string launch_problem(const Launch& launch, int ranks) {
    if (launch.ranks <= ranks) return "";
    return text(launch.launcher, " started ", launch.ranks, " processes, but MPI sees ", ranks,
                " rank(s), so each process would work alone and spoil the files of the others; start them with 'srun "
                "--mpi=pmix', or with the mpirun of the MPI that this program was built with");
}

}  // namespace longlora
