#!/usr/bin/env bash
# losses_test.sh PROGRAM: what a training on two nodes of a real Slurm loses without warning - a rank, a node, the power while it saves - and that it goes on from its newest checkpoint and ends with
# the bits of the undisturbed one; on fewer nodes if asked. What gets nowhere is given up. Signals are in restarts_test.sh.
# shellcheck source=tests/slurm/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

goes_on() {
    wait_for 90 restarted "$id"
    ends COMPLETED
    same "$1"
    says "$1" 'start 1 on'
    says "$1" 'resuming from .* after step'
}

power_cut() {
    training power
    reaches power 20
    node kill-node n2
    goes_on power
    says power 'start 1 on n\[1,3\]'
}

# Of the node with rank 0 and the job script, between the creation of a checkpoint and its rename: frozen as soon as a .partial is seen, until one is there
power_cut_while_saving() {
    training saving -- --checkpoint-every 1
    reaches saving 20
    wait_for 60 frozen_while_saving saving
    node kill-node n1
    goes_on saving
}
frozen_while_saving() {
    compgen -G "$1/checkpoints/*.partial" > /dev/null || return 1
    signal_ranks STOP "$1"
    compgen -G "$1/checkpoints/*.partial" > /dev/null || { signal_ranks CONT "$1"; return 1; }
}

killed_rank() {
    training "$@"
    reaches "$1" 20
    kill -KILL "$(ranks_of "$1" | tail -1)"
    goes_on "$1"
    says "$1" 'a rank or its node is lost'
}
killed_rank_srun() { killed_rank killed; }
killed_rank_mpirun() { killed_rank killed_mpirun --launcher mpirun; }

stopped_rank() {
    training "$@" -- --timeout 10
    reaches "$1" 20
    kill -STOP "$(ranks_of "$1" | tail -1)"
    goes_on "$1"
    says "$1" 'a rank or its node is lost'
}
stopped_rank_srun() { stopped_rank stopped; }
stopped_rank_mpirun() { stopped_rank stopped_mpirun --launcher mpirun; }

# Asked to stop, the ranks cannot finish their step: requeued before the time limit would lose the job
late() {
    training late --lead 4
    reaches late 20
    signal_ranks STOP late
    x scancel --batch --signal=USR1 "$id"
    goes_on late
    says late 'the ranks did not stop in time; requeued'
}

elastic() {
    x scontrol update NodeName='n[3-5]' State=DRAIN Reason=test
    training elastic --elastic 1
    reaches elastic 20
    says elastic ': 4 ranks by srun'
    node kill-node n2
    wait_for 60 restarted "$id"
    ends COMPLETED
    says elastic 'start 1 on n1: 2 ranks by srun'
    [ "$(status elastic state)" = "done" ]
    [ "$(losses elastic | wc -l)" = 120 ]
    paste <(losses undisturbed) <(losses elastic) | awk '{ d = $2 / $5 - 1; if (d < 0) d = -d; if ($1 != $4 || d > worst) worst = $1 == $4 ? d : 1 } END { print worst; exit !(worst < 1e-5) }'
}

# Ranks that are killed before the first checkpoint, each time anew
given_up() {
    training nowhere -- --checkpoint-every 0
    for start in 0 1 2; do
        wait_for 60 says nowhere "start $start on"
        wait_for 60 has_ranks nowhere
        signal_ranks KILL nowhere
    done
    ends FAILED
    says nowhere 'in 3 allocations: given up'
    [ "$(field "$id" Restarts)" = 2 ]
    [ "$(field "$id" ExitCode)" = 5:0 ]
}
has_ranks() { [ "$(ranks_of "$1" | wc -l)" = 4 ]; }

# Two jobs, submitted past submit.sh, which would refuse the second
second_job() {
    local first code=0
    training twice
    first=$id
    reaches twice 5
    signal_ranks STOP twice   # still there, whatever the machine's speed
    x "$root/slurm/submit.sh" train small.toml twice -- --model model --data data.h5 2> second.txt || code=$?
    [ "$code" = 2 ]
    grep "job $first, submitted before, still has" second.txt
    signal_ranks CONT twice
    x twice/job/again.sh
    id=$(tail -1 twice/job/jobs)
    ends FAILED
    [ "$(field "$id" ExitCode)" = 2:0 ]
    id=$first
    ends COMPLETED
    same twice
}

check "undisturbed" undisturbed
check "power cut of a node in mid-step: goes on on another" power_cut
check "power cut of rank 0's node while it saves" power_cut_while_saving
check "a killed rank, srun" killed_rank_srun
check "a killed rank, mpirun" killed_rank_mpirun
check "a stopped rank, srun" stopped_rank_srun
check "a stopped rank, mpirun" stopped_rank_mpirun
check "ranks that do not stop in time" late
check "elastic: goes on with the node that is left" elastic
check "no progress in three allocations: given up" given_up
check "second job on the same run folder" second_job
finish
