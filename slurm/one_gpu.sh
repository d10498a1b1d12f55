#!/usr/bin/env bash
# one_gpu.sh PROGRAM ...: runs the program with the GPU that belongs to this rank: of those in CUDA_VISIBLE_DEVICES the one whose place is the rank's number on its node. Does nothing where the
# variable is missing or names one (Slurm's --gpus-per-task has bound the rank already). Works under mpirun, which numbers ranks itself and hands on Slurm's number of its own process, and srun.
IFS=, read -ra devices <<< "${CUDA_VISIBLE_DEVICES:-}"
if [ ${#devices[@]} -gt 1 ]; then
    rank=${OMPI_COMM_WORLD_LOCAL_RANK:-${SLURM_LOCALID:-0}}
    if [ "$rank" -ge ${#devices[@]} ]; then
        echo "one_gpu.sh: rank $rank of node $(hostname) has no GPU of its own: CUDA_VISIBLE_DEVICES is $CUDA_VISIBLE_DEVICES; take fewer RANKS_PER_NODE or more GPUS_PER_NODE" >&2
        exit 2
    fi
    export CUDA_VISIBLE_DEVICES=${devices[rank]}
fi
exec "$@"
