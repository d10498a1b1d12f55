#!/usr/bin/env bash
# losses_test.sh PROGRAM: a training on two nodes of a real Slurm loses a rank or a node without warning, also while it
# saves. It must resume from its newest checkpoint and end with the same bits as the undisturbed run. With --elastic it
# resumes on fewer nodes, and its losses are nearly the same. The job script must give up a run that makes no progress.
# tests/slurm/restarts_test.sh tests signals.
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

# The node with rank 0 and the job script loses its power after a checkpoint file was created and before it is renamed.
# The node comes back later. To hit that moment, the test freezes the ranks as soon as it sees a .partial file; if the
# file is gone by then, the ranks continue and the test tries again.
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

# In both allocations, mpirun does not end when its ranks are gone.
hanging_mpirun() {
    mkdir bin
    printf '#!/bin/sh\n%s "$@"\nsleep 1000\n' "$(command -v mpirun)" > bin/mpirun
    chmod +x bin/mpirun
    PATH=$work/bin:$PATH LOOK_SECONDS=8 training hanging --launcher mpirun --sbatch-options '--nodelist=n[5-6]'
    reaches hanging 10
    kill -KILL "$(ranks_of hanging | tail -1)"
    goes_on hanging
    [ "$(grep -c 'mpirun hangs although no rank lives' hanging/job/slurm-*.log)" = 2 ]
}

# The job's environment makes rank 0 die at the rename of a finished checkpoint (tests/faults/inject.c), as long as
# the file `armed` exists.
killed_before_rename() {
    touch armed
    FAULT="rank=0,call=rename,path=*step-00000050.h5,when=$work/armed,do=kill" FAULT_LOG=$work/struck \
        LD_PRELOAD=$(dirname "$program")/tests/libinject.so training renaming
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

# The ranks are asked to stop but cannot finish their step. The job script requeues the job before the time limit ends
# it for good.
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
    paste <(losses undisturbed) <(losses elastic) | awk '
        {
            d = $2 / $5 - 1
            if (d < 0) d = -d
            if ($1 != $4 || d > worst) worst = $1 == $4 ? d : 1
        }
        END { print worst; exit !(worst < 1e-5) }'
}

# No program starts, as on nodes that are set up wrongly.
given_up() {
    printf '#!/bin/sh\nexit 9\n' > broken.sh
    chmod +x broken.sh
    training nowhere --container ./broken.sh
    ends FAILED
    # Three times in each of three allocations, and once at each requeue and at the end
    [ "$(grep -c 'the program did not start' nowhere/job/slurm-*.log)" = 12 ]
    says nowhere 'in 3 allocations: given up'
    [ "$(field "$id" Restarts)" = 2 ]
    [ "$(field "$id" ExitCode)" = 5:0 ]
}

# Two jobs on one run folder; submit.sh refuses the second, so the test submits it by again.sh.
second_job() {
    local first code=0
    training twice "${apart[@]}" -- --steps 100000
    first=$id
    reaches twice 10
    x "$root/slurm/submit.sh" train small.toml twice -- --model model --data data.h5 2> second.txt || code=$?
    [ "$code" = 2 ]
    grep "job $first, submitted before, still uses" second.txt
    x twice/job/again.sh
    id=$(tail -1 twice/job/jobs)
    ends FAILED
    [ "$(field "$id" ExitCode)" = 2:0 ]
    reaches twice 120   # the first job continues undisturbed
    is "$first" RUNNING
    diff <(losses undisturbed | head -120) <(losses twice | head -120)
}

check "undisturbed" undisturbed
check "power cut of a node in mid-step: resumes on another node" power_cut \
    "power cut of rank 0's node while it saves" power_cut_while_saving
check "a killed rank, srun" killed_rank_srun \
    "a killed rank, mpirun" killed_rank_mpirun \
    "no progress in three allocations: given up" given_up
check "a stopped rank, srun" stopped_rank_srun \
    "a stopped rank, mpirun" stopped_rank_mpirun \
    "ranks that do not stop in time" late \
    "killed between .partial and the rename" killed_before_rename
check "an mpirun that hangs at its end" hanging_mpirun \
    "elastic: resumes on the remaining node" elastic \
    "second job on the same run folder" second_job
finish
