# common.sh: functions and settings that the job scripts in this folder share. They source it inside a Slurm job, from
# the folder of copies that submit.sh made. Login nodes do not need it.
# shellcheck shell=bash
set -euo pipefail
job=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034
arguments=() groups='' MESH=1  # submit.sh has written these into site.env, too
# shellcheck source=slurm/site.env.example
source "$job/site.env"

say() { echo "[$(date -u +%FT%TZ) job ${SLURM_JOB_ID:-none}] $1"; }
give_up() { say "$1"; exit "$2"; }

# Open MPI 4.1 over TCP may start to check its sockets only every 10 ms. Slurm's default PMIx fence makes one in a
# hundred starts on several nodes crash, and so does "tree" on a busy machine.
export OMPI_MCA_mpi_event_tick_rate=1 SLURM_PMIX_FENCE=ring
# When a rank leaves early or mpirun gets SIGTERM (which Slurm sends to all processes of a job), mpirun kills the
# ranks after one to two times this many seconds. Open MPI's default of 1 s is too short to save a checkpoint.
export OMPI_MCA_odls_base_sigkill_timeout=${MPIRUN_GRACE:-10}
# The number of cores of a rank is set, not detected, so that a requeued run computes the same bits on any nodes.
export OMP_NUM_THREADS=${THREADS:?}
[ -z "${NETWORK:-}" ] || export OMPI_MCA_btl_tcp_if_include=$NETWORK OMPI_MCA_oob_tcp_if_include=$NETWORK
if [ -n "${MODULES:-}" ]; then
    module purge
    # shellcheck disable=SC2086  # names, one word each
    module load $MODULES
fi

# launch RANKS ARGUMENTS: starts the program in the background as process $launcher. With -K1, srun ends all ranks
# when one is lost; without it the others would wait for ever.
launch() {
    local ranks=$1
    shift
    # shellcheck disable=SC2206  # CONTAINER is a command line
    local line=("$job/one_gpu.sh" ${CONTAINER:-} "$PROGRAM" "$@")
    if [ "$LAUNCHER" = mpirun ]; then
        # mpirun's default binding would put the threads of a rank, or the ranks of a small node, on one core. mpirun
        # reads the slots of a node from SLURM_TASKS_PER_NODE, as an elastic job has no number of tasks.
        SLURM_TASKS_PER_NODE="$RANKS_PER_NODE(x$SLURM_JOB_NUM_NODES)" \
            mpirun -n "$ranks" --bind-to none "${line[@]}" &
    else
        srun --mpi=pmix -K1 --ntasks="$ranks" --ntasks-per-node="$RANKS_PER_NODE" \
            --cpus-per-task="$THREADS" --cpu-bind=cores "${line[@]}" &
    fi
    launcher=$!
}

# choose_device OPTIONS: sets the array $device to '--device cuda' if the job has GPUs and OPTIONS name no device. With
# --device auto, one rank without a working GPU would turn the whole job into one on CPUs.
choose_device() {
    local word
    device=()
    [ "$GPUS_PER_NODE" != 0 ] || return 0
    for word in "$@"; do case $word in --device | --device=*) return 0 ;; esac; done
    # shellcheck disable=SC2034
    device=(--device cuda)
}

# try RANKS ARGUMENTS: runs a command of the program that has nothing to resume from, and waits for its end. A crash
# is tried again, since a few of a thousand starts on several nodes die in MPI_Init with any fence.
try() {
    local attempt code
    for attempt in 1 2 3; do
        launch "$@"
        code=0
        wait "$launcher" || code=$?
        case $code in 0 | 2 | 3 | 4) break ;; esac
        say "attempt $attempt of 3 ended with exit code $code"
    done
    return $code
}

# count_ranks: sets $ranks to the ranks on the nodes of this allocation, rounded down to a multiple of pipeline x
# sequence.
count_ranks() {
    local all=$((SLURM_JOB_NUM_NODES * RANKS_PER_NODE)) nodes="$SLURM_JOB_NUM_NODES node(s) of $RANKS_PER_NODE rank(s)"
    ranks=$((all / MESH * MESH))
    [ "$ranks" -gt 0 ] || give_up "$nodes are fewer than the $MESH ranks of pipeline x sequence" 2
    say "start ${SLURM_RESTART_COUNT:-0} on $SLURM_JOB_NODELIST: $ranks ranks by $LAUNCHER$(
        [ "$ranks" = "$all" ] || echo ", of $all, rounded down to a multiple of pipeline x sequence = $MESH")"
}

# status NAME: prints the value of NAME in the run's status.json.
status() {
    sed -n "s/.*\"$1\":\\(\"\\([^\"]*\\)\"\\|\\([^,}]*\\)\\).*/\\2\\3/p" "$run/status.json" 2> /dev/null || true
}

# furthest_step: prints the step of the newest checkpoint or of the last start, whichever is later.
furthest_step() {
    local newest reached
    newest=$(sed -n 's/.*step-\([0-9]*\).*/\1/p' "$run/checkpoints/latest" 2> /dev/null || true)
    reached=$(status step)
    newest=$((10#0$newest)) reached=$((10#0${reached//[^0-9]/}))
    echo $((newest > reached ? newest : reached))
}

# A run that makes no progress in three allocations in a row is given up. The file $progress holds the furthest step
# of all starts and the number of allocations that began at that step.
# count_vain: sets $best to that step and $vain to the number of allocations without progress so far.
count_vain() {
    local now
    now=$(furthest_step)
    read -r best vain 2> /dev/null < "$progress" || { best=-1 vain=0; }
    [ "$now" -le "$best" ] || { best=$now vain=0; }
    [ "$vain" -lt 3 ] ||
        give_up "${1:-}no step beyond $best in $vain allocations: given up; see the log; $job/again.sh tries again" 5
}
begin_allocation() {
    progress=$job/progress-$(basename "$run")
    count_vain
    echo "$best $((vain + 1))" > "$progress"
}

# requeue WHY: requeues the job by scontrol. Where a site forbids that, exits with the code for which the site has
# Slurm requeue a job (RequeueExit=75 in slurm.conf). A job with Requeue=0 ends.
requeue() {
    count_vain "$1; "
    if [[ $(scontrol show job --oneliner "$SLURM_JOB_ID" 2> /dev/null) == *" Requeue=0 "* ]]; then
        give_up "$1; not requeued, since the job has Requeue=0; $job/again.sh resumes it" 1
    fi
    say "$1; requeued"
    trap 'exit 0' TERM
    scontrol requeue "$SLURM_JOB_ID" || exit 75
    sleep 600 &
    wait $!  # Slurm ends this start meanwhile
}

# outcome LAUNCHED: prints how the run ended, as an exit code of the program: by status.json if this start has written
# it, else by the launcher's exit code LAUNCHED; "none" if the program did not get so far.
outcome() {
    local launched=$1
    if [ "$(status job)" = "$SLURM_JOB_ID" ] && [ "$(status restart)" = "${SLURM_RESTART_COUNT:-0}" ]; then
        case $(status state) in
            done) echo 0 ;;
            stopped) echo 75 ;;
            failed) status exit_code ;;
            *) echo 5 ;;  # still "running": the program was killed
        esac
    else
        case $launched in 2 | 3 | 4) echo "$launched" ;; *) echo none ;; esac
    fi
}

# Signals to the batch shell. USR1 comes ahead of the time limit: the ranks save and leave. If they have not left
# shortly before the limit, the job is requeued all the same, since the limit would end it for good.
# TERM comes from scancel, from preemption or from the limit itself: Slurm ends this start and decides whether the job
# starts again. Slurm has sent TERM to the ranks as well; in case mpirun has not passed it on, on_term sends mpirun
# USR1, which mpirun passes on.
on_usr1() {
    say "USR1: the ranks are asked to save and stop"
    [ -z "$launcher" ] || kill -USR1 "$launcher" 2> /dev/null || true
    [ -n "$timer" ] || { sleep $((LEAD > 40 ? LEAD - 20 : LEAD / 2)) & timer=$!; }
}
on_term() {
    ended_by_slurm=yes
    say "TERM: Slurm ends this start"
    if [ "$LAUNCHER" = mpirun ] && [ -n "$launcher" ]; then kill -USR1 "$launcher" 2> /dev/null || true; fi
}

# begun_and_still: whether this start has written its status and rank 0 has not advanced the lock since the last call.
# Then the ranks have ended or are dead.
begun_and_still() {
    local before=$seen_lock
    [ "$(status job)" = "$SLURM_JOB_ID" ] && [ "$(status restart)" = "${SLURM_RESTART_COUNT:-0}" ] || return 1
    seen_lock=$(cat "$run/lock" 2> /dev/null || true)
    [ "$seen_lock" = "$before" ]
}
# Open MPI 4.1's mpirun may hang at its own end after a rank was killed. The time between two looks is longer than
# --timeout, within which ranks that make no progress leave by themselves.
look_later() { sleep "${LOOK_SECONDS:-900}" & looker=$!; }

# watch: returns when the launcher has ended; $launched is its exit code.
watch() {
    local looker='' seen_lock=none
    [ "$LAUNCHER" != mpirun ] || look_later
    while kill -0 "$launcher" 2> /dev/null; do
        # This also returns when a signal comes.
        wait -n "$launcher" ${timer:+"$timer"} ${looker:+"$looker"} 2> /dev/null || true
        if [ -n "$looker" ] && ! kill -0 "$looker" 2> /dev/null; then
            look_later
            if begun_and_still; then say "mpirun hangs although no rank lives: killing it"; kill -KILL "$launcher"; fi
        fi
        if [ -n "$timer" ] && ! kill -0 "$timer" 2> /dev/null; then
            timer=''
            if [ -z "$ended_by_slurm" ] && kill -0 "$launcher" 2> /dev/null; then
                requeue "the ranks did not stop in time"
            fi
        fi
    done
    launched=0
    wait "$launcher" || launched=$?
    [ -z "$looker" ] || kill "$looker" 2> /dev/null || true
}

# train RUN OPTIONS: does one allocation's part of a run, with OPTIONS in addition to those in train.toml. Ends the
# script.
train() {
    run=$1 launcher='' timer='' ended_by_slurm=''
    shift
    local code=none launched=0 how
    trap on_usr1 USR1
    trap on_term TERM
    begin_allocation
    count_ranks
    for _ in 1 2 3; do  # a few of a thousand starts on several nodes die in MPI_Init with any fence
        [ -z "$timer$ended_by_slurm" ] || break
        launch "$ranks" train --config "$job/train.toml" --run "$run" "$@"
        watch
        code=$(outcome "$launched")
        [ "$code" = none ] || break
        say "the program did not start (the launcher's exit code: $launched)"
    done
    [ -z "$timer" ] || kill "$timer" 2> /dev/null || true
    case $code in
        0) give_up "done: $(status steps) steps" 0 ;;
        2 | 3 | 4) give_up "ended with exit code $code, which another start would not change" "$code" ;;
        75) how="stopped after step $(status step)" ;;
        none) how="the program did not start" ;;
        *) how="a rank or its node is lost (the launcher's exit code: $launched): $(status message)" ;;
    esac
    [ -z "$ended_by_slurm" ] || give_up "$how" 143
    requeue "$how"
}
