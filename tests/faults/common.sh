# common.sh: what the fault tests share: a work folder with a tiny model and data, launching the program with a time
# limit, comparing runs, and leaving nothing behind. To be sourced; not a test.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/../../jobs/common.sh"
set +e        # a test checks exit codes itself
ulimit -c 0   # no core files, as processes are killed on purpose

passed=0 failed=0
ok() { passed=$((passed + 1)); }
wrong() { failed=$((failed + 1)); printf 'error: %s\n' "$1"; }
finish() { echo "$passed passed, $failed failed"; [ $failed = 0 ] || exit 1; exit 0; }

# workplace PROGRAM [LAUNCHER...]: enters a new folder with model/ and data.h5. To start the program, '-n RANKS
# program arguments' is appended to LAUNCHER.
workplace() {
    program=$(realpath "$1")
    shift
    tools=$(dirname "$program")/tests
    launcher=("$@")
    [ $# -gt 0 ] || launcher=(mpirun --allow-run-as-root --oversubscribe --bind-to none -q)
    for tool in "$program" "$tools/compare_checkpoints" "$tools"/lib{inject,node_cache}.so; do
        [ -e "$tool" ] || fail "there is no $tool; build first"
    done
    work=$(mktemp -d "${TMPDIR:-/tmp}/longlora-faults-XXXXXX")
    trap leave EXIT
    trap 'exit 1' INT TERM HUP
    # Every process started from here has this variable in its environment, so that strays() finds those that are
    # left.
    export LONGLORA_FAULTS=$work OMP_NUM_THREADS=1
    # All ranks run on one machine: Open MPI need not look for networks, and mpirun ends the survivors of a killed
    # rank at once instead of after a second.
    export OMPI_MCA_pml=ob1 OMPI_MCA_btl=${OMPI_MCA_btl:-self,vader} OMPI_MCA_odls_base_sigkill_timeout=0
    cd "$work" || exit
    mkdir model
    cp "$root"/tests/golden/mha/{config.json,model.safetensors} model/
    make_tokens | split -l 10 --additional-suffix=.jsonl - text-
    "$program" prepare data.h5 text-*.jsonl --vocabulary 256 > prepare.log 2>&1 ||
        fail "cannot prepare the data: $(cat prepare.log)"
}

# make_tokens: prints 40 documents of 300 tokens, from which a model can learn something.
make_tokens() {
    awk 'BEGIN { for (d = 0; d < 40; d++) {
        line = "{\"tokens\": ["
        for (t = 0; t < 300; t++) line = line (t ? ", " : "") (7 * t + 13 * d + (t * t * 31 + d * 17) % 5) % 250
        print line "]}" } }'
}

# strays: prints the ids of the longlora processes that were started from here and still live.
strays() {
    local name
    for name in $(grep -lx longlora /proc/[0-9]*/comm 2> /dev/null); do
        name=${name%/comm}
        grep -qzxF "LONGLORA_FAULTS=$work" "$name/environ" 2> /dev/null && echo "${name#/proc/}"
    done
}

leave() {
    local pid
    for pid in $(strays); do kill -9 "$pid" 2> /dev/null; done
    cd / && rm -rf "$work"
}

# train_words RUN STEPS [EVERY [BATCH]]: sets $words to the arguments of the training that is disturbed. Twelve steps
# take about a second.
# shellcheck disable=SC2034  # for the caller
train_words() {
    words=(train --model model --data data.h5 --run "$1" --steps "$2" --context 64 --global-batch "${4:-4}" --lr 1e-3)
    words+=(--warmup 2 --dtype float32 --checkpoint-every "${3:-3}" --timeout 10)
}

limit=240   # seconds; generous, since ranks that share their cores communicate slowly
# launch RANKS WORDS...: runs the program; its output is in the files out and err, the exit code in $code (124 if it
# took longer than $limit seconds). If $launcher is `alone`, starts one rank without a launcher.
launch() {
    local ranks=$1
    shift
    if [ "${launcher[0]}" = alone ]; then
        OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_btl=self "$program" "$@" > out 2> err < /dev/null &
    else
        "${launcher[@]}" -n "$ranks" "$program" "$@" > out 2> err < /dev/null &
    fi
    await_launcher $!
}

# await_launcher PID: waits for the launcher; its exit code is in $code (124 if it had to be killed after $limit
# seconds). mpirun of Open MPI 4.1.4 may hang at its own end when its ranks are gone (a deadlock in
# PMIx_server_finalize, seen 3 times in some 700 kills). That is no fault of the program, so an mpirun without ranks
# is killed after 15 s.
# shellcheck disable=SC2034  # for the caller
await_launcher() {
    local i alone=0 late=''
    for ((i = 1; ; i++)); do
        kill -0 "$1" 2> /dev/null || break
        [ $i -lt $((limit * 20)) ] || { late=yes; kill -9 "$1"; break; }
        if [ $((i % 20)) = 0 ] && [ "${launcher[0]}" = mpirun ]; then
            if [ -n "$(strays)" ]; then alone=0; else alone=$((alone + 1)); fi
            [ $alone -lt 15 ] || { echo "mpirun hangs after the end of its ranks" >> out; kill -9 "$1"; break; }
        fi
        sleep 0.05
    done
    wait "$1" 2> /dev/null
    code=$?
    [ -z "$late" ] || code=124
}

# no_strays: checks that no process is left. A launcher may end a moment before its last rank, so this waits 15 s;
# then it kills the processes and counts them as a problem.
no_strays() {
    local pids i
    for ((i = 0; i < 300; i++)); do
        pids=$(strays)
        [ -n "$pids" ] || return 0
        sleep 0.05
    done
    # shellcheck disable=SC2086  # a list of numbers
    kill -9 $pids 2> /dev/null
    problems+="; processes were left: $pids"
}

# steps_of RUN: prints the lines of steps in metrics.jsonl without the values that depend on the clock.
steps_of() { grep '"loss"' "$1/metrics.jsonl" | sed -E 's/"(seconds|tokens_per_second)":[^,}]*,?//g'; }

# compare_runs A B STEPS: adds to $problems unless both runs ended with the same tensors and the same steps, each step
# once.
compare_runs() {
    local name said
    name=checkpoints/$(printf 'step-%08d.h5' "$3")
    said=$("$tools/compare_checkpoints" "$1/$name" "$2/$name" 2>&1) || problems+="; tensors: $said"
    steps_of "$1" > steps.a
    steps_of "$2" > steps.b
    [ "$(wc -l < steps.b)" = "$3" ] || problems+="; metrics.jsonl has $(wc -l < steps.b) steps instead of $3"
    said=$(diff steps.a steps.b | head -2) || true
    [ -z "$said" ] || problems+="; metrics differ: $said"
}
