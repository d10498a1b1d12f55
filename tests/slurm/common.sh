# common.sh: what the tests in this folder share: a sandbox of six nodes, a small training, the undisturbed result of
# it, and the running of cases. A test sources it with the program as first argument.
# shellcheck shell=bash
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
program=$(realpath "${1:?name the program}")
compare=${COMPARE_CHECKPOINTS:-$(dirname "$program")/tests/compare_checkpoints}

skip() { echo "skipped: $1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "starting a Slurm for the test needs root"
for needed in /usr/sbin/slurmctld /usr/sbin/slurmd /usr/sbin/munged sbatch srun mpirun ss nsenter; do
    command -v "$needed" > /dev/null || skip "there is no $needed"
done
unshare --mount --pid --fork true 2> /dev/null || skip "this machine does not allow new namespaces"

work=$(mktemp -d /tmp/slurm-test.XXXXXX)
sandbox=''
cases=()
clean_up() {
    local group
    for group in "${cases[@]}"; do kill -KILL -- "-$group" 2> /dev/null; done  # cases that an interrupted test has left
    [ -z "$sandbox" ] || "$root/tests/slurm/sandbox.sh" stop "$sandbox"
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM
cd "$work" || exit
sandbox=$("$root/tests/slurm/sandbox.sh" start -n 6 -c 4) || exit 1
node() { "$root/tests/slurm/sandbox.sh" "$1" "$sandbox" "$2"; }
x() { "$root/tests/slurm/sandbox.sh" exec "$sandbox" "$@"; }

# ---- cases ----

passed=0 failed=0
# check NAME FUNCTION [NAME FUNCTION ...]: runs the cases at the same time, since they mostly wait for Slurm. Each
# runs in a subshell, which ends at the first command that fails; the trace of a failed case is shown.
check() {
    local names=("$@") i
    cases=()
    touch begun
    set -m  # gives each case a process group of its own
    for ((i = 1; i < $#; i += 2)); do
        (run_case "${names[i]}") &
        cases[i]=$!
    done
    set +m
    for ((i = 1; i < $#; i += 2)); do judge "${names[i - 1]}" "${names[i]}" "${cases[i]}"; done
    cases=()
    tidy
}
run_case() {
    local began=$EPOCHREALTIME code
    trap - EXIT
    exec 8>> "$work/$1.trace"
    (BASH_XTRACEFD=8; set -ex; "$1") >> "$work/$1.trace" 2>&1
    code=$?
    awk "BEGIN { printf \"%5.1f s\", $EPOCHREALTIME - $began }" > "$work/$1.time"
    return $code
}
judge() {
    if wait "$3"; then passed=$((passed + 1)); echo "ok      $(cat "$2.time")  $1"; return; fi
    failed=$((failed + 1))
    echo "FAILED  $(cat "$2.time")  $1"
    echo "error: $1"
    tail -30 "$2.trace" | sed 's/^/    /'
    find "$work" -name 'slurm-*.log' -newer begun -exec tail -v -n 15 {} + | cut -c -300 | sed 's/^/        /'
}
# tidy: ends all jobs in the queue except $background, and starts all nodes again.
tidy() {
    local n
    other_jobs | while read -r n; do x scancel "$n"; done
    wait_for 30 no_other_jobs
    for n in n1 n2 n3 n4 n5 n6; do node start-node $n > /dev/null 2>&1; done
    x scontrol update NodeName='n[1-6]' State=RESUME 2> /dev/null
}
background=none
other_jobs() { x squeue -h -o %A | sort -u | grep -vx $background; }
no_other_jobs() { [ -z "$(other_jobs)" ]; }
finish() { echo "$passed passed, $failed failed"; [ $failed = 0 ]; exit; }

# wait_for SECONDS CONDITION: waits until the condition holds. On a busy machine nothing takes a fixed time.
wait_for() {
    local limit=$((SECONDS + $1)) traced=$-
    shift
    { set +x; } 2> /dev/null
    until "$@"; do
        if [ $SECONDS -ge $limit ]; then echo "did not become true in time: $*"; x squeue; return 1; fi
        sleep 0.05
    done
    [[ $traced != *x* ]] || set -x
}

# ---- jobs ----

# submit KIND WORDS: calls submit.sh; sets $id to the job.
submit() {
    x "$root/slurm/submit.sh" "$@"
    id=$(tail -1 "$(realpath -m "$3")/job/jobs")
}
field() { x scontrol show job --oneliner "$1" | tr ' ' '\n' | sed -n "s/^$2=//p" | head -1; }
is() { [ "$(field "$1" JobState)" = "$2" ]; }
last_node() { x scontrol show hostnames "$(field "$1" NodeList)" | tail -1; }
restarted() { [ "$(field "$1" Restarts)" -ge "${2:-1}" ]; }
ends() { wait_for 90 is "$id" "$1"; }  # ends COMPLETED
says() { grep -qs -- "$2" "$1"/job/slurm-*.log; }
# Settings of a job that must not share its nodes with another job
# shellcheck disable=SC2034
apart=(--sbatch-options '--nodelist=n[3-4]')

# ---- the training ----

export LONGLORA_SITE=$work/site.env
cat > site.env <<END
PROGRAM=$program
NODES=2
RANKS_PER_NODE=2
THREADS=1
TIME=5
NETWORK=lo
MPIRUN_GRACE=2
END
cat > small.toml <<'END'
context = 64
global-batch = 4
lr = 1e-3
warmup = 2
dtype = "float32"
steps = 160
checkpoint-every = 10
END
cp -r "$root/tests/golden/mha" model
awk 'BEGIN {
    for (d = 0; d < 20; ++d) {
        printf "{\"tokens\":["
        for (t = 0; t < 300; ++t) printf "%s%d", t ? "," : "", (7 * t + 13 * d + (t * t * 31 + d * 17) % 5) % 250
        print "]}"
    }
}' > documents.jsonl
"$program" prepare data.h5 documents.jsonl --vocabulary 256 > /dev/null || exit 1

# training RUN [SETTINGS] [-- OPTIONS]: submits the small training.
training() {
    local run=$1 settings=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do settings+=("$1"); shift; done
    submit train small.toml "$run" "${settings[@]}" -- --model model --data data.h5 "${@:2}"
}
status() { sed -n "s/.*\"$2\":\\(\"\\([^\"]*\\)\"\\|\\([^,}]*\\)\\).*/\\2\\3/p" "$1/status.json" 2> /dev/null; }
steps_of() { grep -c '"loss"' "$1/metrics.jsonl"; }
has_steps() { [ -e "$1/checkpoints/latest" ] && [ "$(steps_of "$1")" -ge "$2" ]; }  # and a checkpoint to resume from
reaches() { wait_for 60 has_steps "$1" "$2"; }
losses() { sed -n 's/.*"grad_norm":\([^,]*\).*"loss":\([^,]*\).*"step":\([0-9]*\).*/\3 \2 \1/p' "$1/metrics.jsonl"; }

# ranks_of RUN: the process ids of the ranks as this machine numbers them
ranks_of() { pgrep -f "^$program train .*--run $(realpath "$1")( |\$)"; }
signal_ranks() { ranks_of "$2" | xargs kill "-$1"; }

# same RUN: fails unless RUN ended as the undisturbed run on this mesh did: the same bits in every tensor, the same
# digits in every metric
same() {
    [ "$(status "$1" state)" = "done" ]
    "$compare" "undisturbed/checkpoints/$(cat undisturbed/checkpoints/latest)" \
        "$1/checkpoints/$(cat "$1/checkpoints/latest")"
    diff <(losses undisturbed) <(losses "$1")
}
undisturbed() {
    training undisturbed
    ends COMPLETED
    [ "$(status undisturbed state)" = "done" ]
    [ "$(losses undisturbed | wc -l)" = 160 ]
    says undisturbed ': 4 ranks by srun$'
}
