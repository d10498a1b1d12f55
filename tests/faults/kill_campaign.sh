#!/usr/bin/env bash
# kill_campaign.sh PROGRAM [--nodes] [N] [SEED]: kills a random rank with kill -9 at a random moment, N times (20):
# while starting, loading, in a step, in a save. After each kill the same command resumes the run. A run is killed up
# to five times and then ends undisturbed; its tensors and metrics must be those of a run that was never killed, bit
# for bit. The meshes take turns. The last line is 'N passed, N failed', counted in kills; the line before it says what
# the kills hit. 20 kills take a minute; 200 are meant for a run by hand. With --nodes every rank has a page cache of
# its own, as on nodes with NFS (node_cache.cpp), and checkpoints are so large that all ranks write blocks of them.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -ge 1 ] || fail "usage: kill_campaign.sh PROGRAM [--nodes] [N] [SEED]"
program_given=$1 nodes='' wide=()
shift
if [ "${1:-}" = --nodes ]; then nodes=yes wide=(--lora-rank 256); shift; fi
num_kills=${1:-20} RANDOM=${2:-1}
kills_of_a_run=5 steps=60
workplace "$program_given"
[ -z "$nodes" ] || export LD_PRELOAD=$tools/libnode_cache.so
declare -A hits=([start]=0 [load]=0 [step]=0 [save]=0 [rename]=0 [end]=0)

meshes=("2" "2 --sequence 2" "4 --pipeline 2 --sequence 2 --zero 3" "4 --sequence 2 --zero 2" "2 --pipeline 2 --zero 1")
# words_for RUN MESH: sets $ranks and $words
words_for() {
    train_words "$1" $steps 2 8
    read -r -a mesh <<< "$2"
    ranks=${mesh[0]}
    words+=("${mesh[@]:1}" "${wide[@]}")
}

# what_was_hit: prints what the kill hit, judged by the files and the output that the killed run left
what_was_hit() {
    local newest latest
    newest=$(cd run/checkpoints 2> /dev/null && ls step-*.h5 2> /dev/null | tail -n 1)
    latest=$(cat run/checkpoints/latest 2> /dev/null)
    if [ -n "$newest" ] && [ "$newest" != "$latest" ]; then echo rename
    elif compgen -G 'run/checkpoints/*.partial' > /dev/null; then echo save
    elif grep -q '^step ' out; then echo step
    elif grep -q '^resuming' out; then echo load
    else echo start
    fi
}

# kill_a_rank: starts the training, and after a random time kills a random rank
kill_a_rank() {
    local pid delay pids
    "${launcher[@]}" -n "$ranks" "$program" "${words[@]}" > out 2> err < /dev/null &
    pid=$!
    # Half of the delays are counted from the start, half from the first step on, where saves happen.
    if [ $((RANDOM % 2)) = 0 ]; then
        delay=$((RANDOM % 600))
    else
        wait_for_step $pid
        delay=$((RANDOM % 400))
    fi
    sleep "$(printf '0.%03d' $delay)"
    mapfile -t pids < <(strays)
    [ ${#pids[@]} -gt 0 ] && kill -9 "${pids[RANDOM % ${#pids[@]}]}" 2> /dev/null
    await_launcher $pid
    [ $code != 124 ] || problems+="; hangs after the kill"
}

# wait_for_step PID: waits until the training prints its first step, or ends
wait_for_step() {
    local i
    for ((i = 0; i < 12000; i++)); do
        grep -q '^step ' out && return
        kill -0 "$1" 2> /dev/null || return
        sleep 0.01
    done
}

# disturbed_run MESH KILLS: disturbs a run and counts its kills as passed or failed
disturbed_run() {
    local kill hit
    problems=""
    rm -rf run
    words_for run "$1"
    for ((kill = 0; kill < $2; kill++)); do
        kill_a_rank
        no_strays
        hit=end
        [ $code = 0 ] || hit=$(what_was_hit)
        hits[$hit]=$((hits[$hit] + 1))
    done
    launch "$ranks" "${words[@]}"
    [ $code = 0 ] || problems+="; does not resume: code $code, $(grep '^longlora: ' err | head -1)"
    compare_runs whole run $steps
    [ -z "$(find run -name '*.damaged' -o -name '*.partial')" ] ||
        problems+="; leaves $(find run -name '*.damaged' -o -name '*.partial')"
    if [ -z "$problems" ]; then
        passed=$((passed + $2))
    else
        failed=$((failed + $2))
        printf 'error: %s ranks%s\n' "$1" "$problems"
        tail -n 5 out err
    fi
}

for ((done_kills = 0, round = 0; done_kills < num_kills; done_kills += count, round++)); do
    count=$((num_kills - done_kills < kills_of_a_run ? num_kills - done_kills : kills_of_a_run))
    mesh_now=${meshes[round % ${#meshes[@]}]}
    rm -rf whole
    words_for whole "$mesh_now"
    launch "$ranks" "${words[@]}"
    [ $code = 0 ] || fail "the undisturbed run of '$mesh_now' ended with code $code: $(tail -n 1 out) $(cat err)"
    disturbed_run "$mesh_now" $count
done
echo "kills hit: start ${hits[start]}, load ${hits[load]}, step ${hits[step]}, save ${hits[save]}," \
    "rename ${hits[rename]}; after the end ${hits[end]}"
finish
