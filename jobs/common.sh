# common.sh: settings and functions that the project's shell scripts share. The scripts source it by its path in the
# repository. The job scripts for Slurm share slurm/common.sh instead.
# shellcheck shell=bash
set -euo pipefail
# shellcheck disable=SC2034  # used by the scripts that source this
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Open MPI on any machine: allow root (as in a container) and more ranks than cores, and do not bind ranks to cores
# (Open MPI would bind both ranks of a virtual host to one core).
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none

fail() { echo "$(basename "$0"): $1" >&2; exit 2; }

# num_compilers: prints how many compilers may run at once: one per core, but no more than fit into memory at 1.5 GiB
# each. The memory limit of a container counts as well.
num_compilers() {
    local cores kib limit
    cores=$(nproc)
    kib=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
    limit=$(cat /sys/fs/cgroup/memory.max 2> /dev/null || echo max)
    if [ "$limit" != max ] && [ $((limit / 1024)) -lt "$kib" ]; then kib=$((limit / 1024)); fi
    local by_memory=$((kib / 1572864))
    echo $((by_memory < 1 ? 1 : by_memory < cores ? by_memory : cores))
}

# number_of NAME: reads one JSON object per line from stdin, and prints the number under NAME of every object that has
# one. It needs no JSON program.
number_of() { sed -n "s/.*\"$1\"[[:space:]]*:[[:space:]]*\\(-\\{0,1\\}[0-9][-+.0-9eE]*\\).*/\\1/p"; }
