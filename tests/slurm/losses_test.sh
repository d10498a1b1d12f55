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
    local node
    training power
    reaches power 10
    node=$(last_node "$id")
    node kill-node "$node"
    goes_on power
    [ "$(last_node "$id")" != "$node" ]
}

# Of the node with rank 0 and the job script, which comes back, between the creation of a checkpoint and its rename: frozen as soon as a .partial is seen, until one is there
power_cut_while_saving() {
    training saving "${apart[@]}" -- --checkpoint-every 3
    reaches saving 10
    wait_for 60 frozen_while_saving saving
    node kill-node n3
    compgen -G "saving/checkpoints/*.partial"
    node start-node n3
    goes_on saving
}
frozen_while_saving() {
    compgen -G "$1/checkpoints/*.partial" > /dev/null || return 1
    signal_ranks STOP "$1"
    compgen -G "$1/checkpoints/*.partial" > /dev/null || { signal_ranks CONT "$1"; return 1; }
}

killed_rank() {
    training "$@"
    reaches "$1" 10
    kill -KILL "$(ranks_of "$1" | tail -1)"
    goes_on "$1"
    says "$1" 'a rank or its node is lost'
}
killed_rank_srun() { killed_rank killed; }
killed_rank_mpirun() { killed_rank killed_mpirun --launcher mpirun; }

# An mpirun that does not end when its ranks are gone, in both allocations
hanging_mpirun() {
    mkdir bin
    printf '#!/bin/sh\n%s "$@"\nsleep 1000\n' "$(command -v mpirun)" > bin/mpirun
    chmod +x bin/mpirun
    PATH=$work/bin:$PATH LOOK_SECONDS=8 training hanging --launcher mpirun --sbatch-options '--nodelist=n[5-6]'
    reaches hanging 10
    kill -KILL "$(ranks_of hanging | tail -1)"
    goes_on hanging
    [ "$(grep -c 'mpirun hangs though no rank lives' hanging/job/slurm-*.log)" = 2 ]
}

# The job's environment makes rank 0 die at the rename of a finished checkpoint (tests/faults/inject.c), as long as the file `armed` is there
killed_before_rename() {
    touch armed
    FAULT="rank=0,call=rename,path=*step-00000050.h5,when=$work/armed,do=kill" FAULT_LOG=$work/struck LD_PRELOAD=$(dirname "$program")/tests/libinject.so training renaming
    wait_for 60 test -s struck
    rm armed
    compgen -G "renaming/checkpoints/*.partial"
    [ ! -e renaming/checkpoints/step-00000050.h5 ]
    goes_on renaming
    says renaming 'after step 40$'
    [ -z "$(compgen -G "renaming/checkpoints/*.partial")" ]
}

stopped_rank() {
    training "$@" -- --timeout 10
    reaches "$1" 10
    kill -STOP "$(ranks_of "$1" | tail -1)"
    goes_on "$1"
    says "$1" 'a rank or its node is lost'
}
stopped_rank_srun() { stopped_rank stopped; }
stopped_rank_mpirun() { stopped_rank stopped_mpirun --launcher mpirun; }

# Asked to stop, the ranks cannot finish their step: requeued before the time limit would lose the job
late() {
    training late --lead 4
    reaches late 10
    signal_ranks STOP late
    x scancel --batch --signal=USR1 "$id"
    goes_on late
    says late 'the ranks did not stop in time; requeued'
}

elastic() {
    training elastic --elastic 1 --sbatch-options '--exclude=n[3-6]'
    reaches elastic 10
    says elastic ': 4 ranks by srun'
    node kill-node n2
    wait_for 60 restarted "$id"
    ends COMPLETED
    says elastic 'start 1 on n1: 2 ranks by srun'
    [ "$(status elastic state)" = "done" ]
    [ "$(losses elastic | wc -l)" = 160 ]
    paste <(losses undisturbed) <(losses elastic) | awk '{ d = $2 / $5 - 1; if (d < 0) d = -d; if ($1 != $4 || d > worst) worst = $1 == $4 ? d : 1 } END { print worst; exit !(worst < 1e-5) }'
}

# A node set up badly, say: nothing starts there
given_up() {
    printf '#!/bin/sh\nexit 9\n' > broken.sh
    chmod +x broken.sh
    training nowhere --container ./broken.sh
    ends FAILED
    [ "$(grep -c 'the program did not start' nowhere/job/slurm-*.log)" = 12 ]   # three times in each of three allocations, and once a requeue or the end
    says nowhere 'in 3 allocations: given up'
    [ "$(field "$id" Restarts)" = 2 ]
    [ "$(field "$id" ExitCode)" = 5:0 ]
}

# Two jobs, one of them submitted past submit.sh, which refuses it
second_job() {
    local first code=0
    training twice "${apart[@]}" -- --steps 100000
    first=$id
    reaches twice 10
    x "$root/slurm/submit.sh" train small.toml twice -- --model model --data data.h5 2> second.txt || code=$?
    [ "$code" = 2 ]
    grep "job $first, submitted before, still has" second.txt
    x twice/job/again.sh
    id=$(tail -1 twice/job/jobs)
    ends FAILED
    [ "$(field "$id" ExitCode)" = 2:0 ]
    reaches twice 120   # the first does not notice
    is "$first" RUNNING
    diff <(losses undisturbed | head -120) <(losses twice | head -120)
}

check "undisturbed" undisturbed
check "power cut of a node in mid-step: goes on on another" power_cut \
    "power cut of rank 0's node while it saves" power_cut_while_saving
check "a killed rank, srun" killed_rank_srun \
    "a killed rank, mpirun" killed_rank_mpirun \
    "no progress in three allocations: given up" given_up
check "a stopped rank, srun" stopped_rank_srun \
    "a stopped rank, mpirun" stopped_rank_mpirun \
    "ranks that do not stop in time" late \
    "killed between .partial and the rename" killed_before_rename
check "an mpirun that hangs at its end" hanging_mpirun \
    "elastic: goes on with the node that is left" elastic \
    "second job on the same run folder" second_job
finish
