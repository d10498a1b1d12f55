#!/usr/bin/env bash
# one_gpu.sh PROGRAM ...: runs the program with one GPU for this rank. Of the GPUs in CUDA_VISIBLE_DEVICES it takes
# the one whose position is the rank's number on its node. It changes nothing if the variable is not set or names one
# GPU (Slurm's --gpus-per-task has bound the rank already). It works under srun, and under mpirun, which numbers the
# ranks itself and passes on Slurm's number of its own process.
IFS=, read -ra devices <<< "${CUDA_VISIBLE_DEVICES:-}"
if [ ${#devices[@]} -gt 1 ]; then
    rank=${OMPI_COMM_WORLD_LOCAL_RANK:-${SLURM_LOCALID:-0}}
    if [ "$rank" -ge ${#devices[@]} ]; then
        echo "one_gpu.sh: rank $rank of node $(hostname) has no GPU of its own: CUDA_VISIBLE_DEVICES is" \
            "$CUDA_VISIBLE_DEVICES; give fewer RANKS_PER_NODE or more GPUS_PER_NODE" >&2
        exit 2
    fi
    export CUDA_VISIBLE_DEVICES=${devices[rank]}
fi
exec "$@"
