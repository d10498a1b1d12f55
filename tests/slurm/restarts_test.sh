#!/usr/bin/env bash
# restarts_test.sh PROGRAM: a training on two nodes of a real Slurm is signalled, moved, preempted, cancelled and
# reaches its time limit, under srun and under mpirun. It must resume and end with the bits of the undisturbed run.
# Losses of ranks and nodes are in losses_test.sh.
# shellcheck source=tests/slurm/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mpirun_alone() {
    training by_mpirun --launcher mpirun
    ends COMPLETED
    same by_mpirun
    says by_mpirun ': 4 ranks by mpirun$'
}

# signalled RUN SETTINGS: the run is asked to stop as Slurm does ahead of the time limit.
signalled() {
    training "$@"
    reaches "$1" 10
    x scancel --batch --signal=USR1 "$id"
    wait_for 60 restarted "$id"
    ends COMPLETED
    same "$1"
    says "$1" 'USR1: the ranks are asked to save and stop'
    says "$1" 'stopped after step .*; requeued'
    says "$1" 'resuming from .* after step'
    [ "$(field "$id" Restarts)" = 1 ]
}
signalled_srun() { signalled signalled; }
signalled_mpirun() { signalled signalled_mpirun --launcher mpirun; }

# Where a site does not let jobs call scontrol, it sets RequeueExit=75.
requeue_by_exit_code() {
    echo RequeueExit=75 >> "$sandbox/slurm.conf"
    x scontrol reconfigure
    mkdir bin
    printf '#!/bin/sh\necho not here >&2\nexit 1\n' > bin/scontrol
    chmod +x bin/scontrol
    PATH=$work/bin:$PATH training by_exit_code --sbatch-options --export=ALL
    signal_20 by_exit_code
    wait_for 60 restarted "$id"
    ends COMPLETED
    same by_exit_code
}
signal_20() {
    reaches "$1" 10
    x scancel --batch --signal=USR1 "$id"
}

other_node() {
    local node
    # The case that runs at the same time needs n3 and n4, so this one must not drain one of them.
    training moved --sbatch-options '--exclude=n[3-4]'
    reaches moved 10
    node=$(last_node "$id")
    x scontrol update NodeName="$node" State=DRAIN Reason=test
    x scancel --batch --signal=USR1 "$id"
    wait_for 60 restarted "$id"
    ends COMPLETED
    same moved
    [ "$(last_node "$id")" != "$node" ]
}

# preempted RUN SETTINGS: a job of a partition with higher priority takes the nodes.
preempted() {
    local urgent
    training "$@"
    reaches "$1" 10
    urgent=$(x sbatch --parsable -p urgent -w "$(field "$id" NodeList)" --exclusive -o /dev/null --wrap true)
    wait_for 60 is "$urgent" COMPLETED
    wait_for 60 restarted "$id"
    ends COMPLETED
    same "$1"
    says "$1" 'TERM: Slurm ends this start'
    says "$1" 'stopped after step'   # the ranks have saved: no step is done twice
    [ ! -e "$1/metrics.discarded.jsonl" ]
}
preempted_srun() { preempted preempted; }
preempted_mpirun() { preempted preempted_mpirun --launcher mpirun "${apart[@]}"; }

# cancelled RUN SETTINGS: scancel ends the job for good, with a checkpoint of the last step. The run resumes when the
# job is submitted again.
cancelled() {
    training "$@"
    reaches "$1" 10
    x scancel "$id"
    wait_for 60 is "$id" CANCELLED
    wait_for 60 says "$1" 'TERM: Slurm'
    wait_for 60 says "$1" 'stopped after step .*[0-9]$'
    [ "$(status "$1" state)" = stopped ]
    says "$1" 'stopped after step'
    [ "$(field "$id" Restarts)" = 0 ]
    x "$1/job/again.sh"
    id=$(tail -1 "$1/job/jobs")
    ends COMPLETED
    same "$1"
    [ ! -e "$1/metrics.discarded.jsonl" ]
}
cancelled_srun() { cancelled cancelled; }
cancelled_mpirun() { cancelled cancelled_mpirun --launcher mpirun; }

# The two commands that submit.sh prints for it
stopped_by_hand() {
    training stopped
    reaches stopped 10
    x scontrol update JobId="$id" Requeue=0
    x scancel --batch --signal=USR1 "$id"
    ends FAILED
    [ "$(status stopped state)" = stopped ]
    says stopped 'not requeued, since the job has Requeue=0'
}

chain() {
    local ids
    training chain --chain 3 "${apart[@]}"
    mapfile -t ids < chain/job/jobs
    [ ${#ids[@]} = 3 ]
    id=${ids[0]}
    signal_20 chain
    ends FAILED
    id=${ids[1]}
    ends COMPLETED
    same chain
    id=${ids[2]}
    ends COMPLETED   # the third job finds nothing to do
    same chain
}

# A real time limit of one minute. Slurm's signal may come up to 30 s early; until then the ranks are frozen, so that
# the other cases have the cores.
begin_time_limit() {
    training limit --time 1 --lead 1 --sbatch-options '--nodelist=n[5-6]'
    reaches limit 10
    signal_ranks STOP limit
}
time_limit() {
    id=$(cat limit/job/jobs)
    wait_for 60 says limit 'USR1: the ranks are asked'
    signal_ranks CONT limit || true
    wait_for 60 restarted "$id"
    ends COMPLETED
    same limit
}

check "undisturbed, srun" undisturbed
(set -e; begin_time_limit) > limit.txt 2>&1 || cat limit.txt
background=$(cat limit/job/jobs)
check "undisturbed, mpirun: the same bits" mpirun_alone \
    "signal ahead of the limit, srun: requeued, resumes" signalled_srun \
    "signal ahead of the limit, mpirun" signalled_mpirun
check "preempted, srun" preempted_srun \
    "preempted, mpirun" preempted_mpirun
check "time limit of a minute, Slurm's own signal" time_limit \
    "scancel ends for good, with a checkpoint; srun" cancelled_srun \
    "scancel ends for good, with a checkpoint; mpirun" cancelled_mpirun
check "requeued on another node" other_node \
    "a chain of jobs ends when the steps are done" chain \
    "stopped by hand, not requeued" stopped_by_hand \
    "requeued by exit code 75" requeue_by_exit_code
finish
