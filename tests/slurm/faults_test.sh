#!/usr/bin/env bash
# faults_test.sh PROGRAM: runs every failure of tests/faults/points.txt with ranks on two nodes of a real Slurm,
# started by srun. The same failures under mpirun are a test of their own (tests/faults/failure_matrix.sh).
# shellcheck source=tests/slurm/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
x env OMPI_MCA_btl=self,tcp OMPI_MCA_mpi_event_tick_rate=1 SLURM_PMIX_FENCE=ring \
    bash "$root/tests/faults/failure_matrix.sh" "$program" srun --mpi=pmix -K1 -N2 --overcommit
