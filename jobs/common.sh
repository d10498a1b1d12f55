# common.sh: what the project's shell scripts share; to be sourced. Not a program, and no script of its own needs it to be installed anywhere.
# shellcheck shell=bash
set -euo pipefail
# shellcheck disable=SC2034  # used by the scripts that source this
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Open MPI on any machine: root in a container, more ranks than cores, and no binding (it would bind both ranks of a virtual host to one core).
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none

fail() { echo "$(basename "$0"): $1" >&2; exit 2; }

# Compilers at once: one per core, but no more than memory allows at 1.5 GB each; a container's limit counts as well.
num_compilers() {
    local cores kib limit
    cores=$(nproc)
    kib=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
    limit=$(cat /sys/fs/cgroup/memory.max 2> /dev/null || echo max)
    if [ "$limit" != max ] && [ $((limit / 1024)) -lt "$kib" ]; then kib=$((limit / 1024)); fi
    local by_memory=$((kib / 1572864))
    echo $((by_memory < 1 ? 1 : by_memory < cores ? by_memory : cores))
}

# number_of NAME: that number of every JSON object on stdin that has it (one object a line), one a line, without a JSON program.
number_of() { sed -n "s/.*\"$1\"[[:space:]]*:[[:space:]]*\\(-\\{0,1\\}[0-9][-+.0-9eE]*\\).*/\\1/p"; }
