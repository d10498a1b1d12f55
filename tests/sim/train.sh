#!/usr/bin/env bash
# train.sh SIMULATED REAL: tests the program on the simulated device as a user sees it. Training on one and two ranks
# has the CPU's losses, a stopped run resumes with the same bits, and impossible requests are refused in one sentence.
# SIMULATED is longlora-sim. REAL is the program with NVIDIA's runtime, which finds no GPU on a machine without one.
# The last line is 'N passed, N failed'.
source "$(dirname "${BASH_SOURCE[0]}")/../../jobs/common.sh"
cd "$root" || exit
simulated=$(realpath "$1") real=$(realpath "$2") work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1
passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "error: $1"; }
# holds SENTENCE CONDITION...: passes if the command CONDITION succeeds; otherwise SENTENCE is the error
holds() {
    if "${@:2}"; then ok; else bad "$1"; fi
}
# expect NAME CODE WORDS COMMAND...: passes if the command ends with exit code CODE and its output matches WORDS
expect() {
    local name=$1 code=$2 words=$3 got=0
    shift 3
    "$@" > "$work/out.txt" 2>&1 || got=$?
    if [ $got = "$code" ] && grep -q -- "$words" "$work/out.txt"; then
        ok
    else
        bad "$name: exit code $got instead of $code, or no '$words': $(tail -3 "$work/out.txt")"
    fi
}
losses() { number_of loss < "$work/$1/metrics.jsonl"; }
# close_losses A B BUDGET: passes if runs A and B have the same number of losses, with relative differences of at most
# BUDGET
close_losses() {
    paste <(losses "$1") <(losses "$2") > "$work/pairs.txt"
    # shellcheck disable=SC2016  # the variables are awk's
    holds "losses of $1 and $2 differ: $(tr '\n' ';' < "$work/pairs.txt")" \
        awk -v budget="$3" '
            { d = $1 / $2 - 1; if (!($2 > 0) || d > budget || d < -budget) bad = 1 }
            END { exit bad || NR == 0 }' "$work/pairs.txt"
}
# train RANKS PROGRAM RUN OPTIONS...
train() {
    mpirun -n "$1" "$2" train --init "$work/config.json" --method full --data "$work/data.h5" --run "$work/$3" \
        --context 128 --group 32 --global-batch 2 --lr 1e-3 --warmup 1 "${@:4}"
}

# A model like the demo's, but smaller.
sed -E -e 's/"vocab_size": [0-9]+/"vocab_size": 512/' -e 's/"num_hidden_layers": [0-9]+/"num_hidden_layers": 2/' \
    -e 's/"hidden_size": [0-9]+/"hidden_size": 64/' -e 's/"intermediate_size": [0-9]+/"intermediate_size": 96/' \
    jobs/demo/model/config.json > "$work/config.json"
awk 'BEGIN {
    srand(1)
    for (d = 0; d < 4; ++d) {
        printf "{\"tokens\": ["
        for (i = 0; i < 700; ++i) printf "%s%d", i ? ", " : "", int(512 * rand() * rand())
        print "]}"
    }
}' > "$work/data.jsonl"
expect prepare 0 tokens "$simulated" prepare "$work/data.h5" "$work/data.jsonl" --vocabulary 512

expect 'cpu, float32' 0 'done' train 1 "$simulated" cpu --steps 3 --dtype float32 --device cpu
expect 'one rank' 0 'simulated GPU' train 1 "$simulated" gpu-1 --steps 3 --dtype float32 --device cuda
expect 'two ranks, sequence 2, ZeRO 3' 0 'simulated GPU' \
    train 2 "$simulated" gpu-2 --steps 3 --dtype float32 --device cuda --sequence 2 --zero 3
close_losses gpu-1 cpu 1e-5
close_losses gpu-2 cpu 1e-5
expect 'auto takes GPUs' 0 'simulated GPU.*bfloat16' train 1 "$simulated" narrow --steps 3 --offload activations
close_losses narrow cpu 2e-2
holds "the arena was not as large as planned" [ "$(grep -c 'fault of the plan' "$work/out.txt")" = 0 ]

# A run that stops after two steps and resumes has the same losses as a run without a stop.
expect 'two steps' 0 'done' train 1 "$simulated" parts --steps 2 --device cuda --dtype float32
expect 'and one more' 0 'done' train 1 "$simulated" parts --steps 3 --device cuda --dtype float32
holds "a resumed run has other losses: $(losses parts | tr '\n' ' ')" [ "$(losses parts)" = "$(losses gpu-1)" ]

# A network that fails during the run: NCCL reports it only when it is asked. The job ends at once with one sentence,
# and resumes from its checkpoint to the same losses.
sequences() {
    train 2 "$simulated" "$1" --steps 3 --dtype float32 --device cuda --sequence 2 --zero 3 --checkpoint-every 1
}
SIM_NCCL_FAULT=1:60 expect 'a message that never arrives' 5 \
    'in a message under way (NCCL: remote process exited.*(on rank 1)' sequences lost
holds "a lost message is not reported in one sentence: $(cat "$work/out.txt")" \
    [ "$(grep -c '^longlora: ' "$work/out.txt")" = 1 ]
expect 'and started again' 0 'done' sequences lost
holds "a run that lost a message and was resumed has other losses: $(losses lost | tr '\n' ' ')" \
    [ "$(losses lost)" = "$(losses gpu-2)" ]

expect 'fewer GPUs than ranks' 2 'GPU' \
    env SIM_DEVICES=1 mpirun -n 2 "$simulated" train --init "$work/config.json" --method full --data "$work/data.h5" \
    --run "$work/none" --context 128 --steps 1 --device cuda
expect 'no GPU' 2 'no GPU is visible' \
    env SIM_DEVICES=0 "$simulated" train --init "$work/config.json" --method full --data "$work/data.h5" \
    --run "$work/none" --context 128 --steps 1 --device cuda
expect 'an old GPU' 2 'compute capability 7.5' \
    env SIM_COMPUTE_CAPABILITY=7.5 "$simulated" train --init "$work/config.json" --method full --data "$work/data.h5" \
    --run "$work/none" --context 128 --steps 1 --device cuda
expect 'an old driver' 2 'driver' \
    env SIM_DRIVER_VERSION=11000 "$simulated" train --init "$work/config.json" --method full --data "$work/data.h5" \
    --run "$work/none" --context 128 --steps 1 --device cuda
expect 'a driver that does not know the PTX' 2 'GPU 0 .*update the driver' \
    env SIM_JIT=no SIM_COMPUTE_CAPABILITY=12.0 "$simulated" train --init "$work/config.json" --method full \
    --data "$work/data.h5" --run "$work/none" --context 128 --steps 1 --device cuda
expect 'a full GPU' 3 'device memory' \
    "$simulated" train --init "$work/config.json" --method full --data "$work/data.h5" \
    --run "$work/none" --context 128 --steps 1 --memory 66MB --device cuda
expect 'a GPU with hardly any memory' 3 '32.0 MiB free of 32.0 MiB' \
    env SIM_DEVICE_MEMORY=32M "$simulated" train --init "$work/config.json" --method full --data "$work/data.h5" \
    --run "$work/none" --context 128 --steps 1 --device cuda
# The program measures the memory that NCCL takes when ranks connect. On this GPU one rank may use the last MiB, two
# ranks may not: they end with exit code 3 instead of failing during the run.
#
# train_on RANKS MEMORY
train_on() {
    SIM_DEVICE_MEMORY=$2 train "$1" "$simulated" "memory-$1" --steps 1 --device cuda --dtype float32 --sequence "$1"
}
expect 'a GPU that one rank fills' 0 'done' train_on 1 336M
expect 'a GPU without room for connections' 3 'device memory' train_on 2 336M
expect 'auto without a GPU' 0 'done' env SIM_DEVICES=0 \
    mpirun -n 1 "$simulated" train --init "$work/config.json" --method full --data "$work/data.h5" --run "$work/auto" \
    --context 128 --group 32 --global-batch 2 --steps 1
if [ ! -e /dev/nvidiactl ]; then
    expect 'the real program without a GPU' 2 '--device cuda' \
        "$real" train --init "$work/config.json" --method full --data "$work/data.h5" --run "$work/none" \
        --context 128 --device cuda
fi

# Heads that GPUs do not support: all ranks together give one sentence before anything is created, or compute on CPUs.
sed 's/"head_dim": 32/"head_dim": 20/' "$work/config.json" > "$work/odd-heads.json"
# odd_heads RANKS RUN OPTIONS...
odd_heads() {
    mpirun -n "$1" "$simulated" train --init "$work/odd-heads.json" --method full --data "$work/data.h5" \
        --run "$work/$2" --context 128 --group 32 --global-batch 2 --steps 1 "${@:3}"
}
expect 'heads that GPUs do not support' 2 'head_dim of 20' odd_heads 2 none --device cuda
holds "heads that GPUs do not support are not refused in one sentence: $(cat "$work/out.txt")" \
    [ "$(grep -c 'head_dim' "$work/out.txt")" = 1 ]
expect 'auto with such heads' 0 'computing on CPUs: a head_dim of 20' odd_heads 1 odd
expect 'a plan for a GPU with such heads' 2 'head_dim of 20' \
    "$simulated" plan --init "$work/odd-heads.json" --method full --context 128 --machine h100
expect 'a plan for a CPU with such heads' 0 'fits: yes' \
    "$simulated" plan --init "$work/odd-heads.json" --method full --context 128 --machine cpu
expect 'a model with such heads' 0 'odd-hf' "$simulated" export "$work/odd" "$work/odd-hf" --format hf
expect 'evaluating such heads' 2 'head_dim of 20' \
    mpirun -n 2 "$simulated" evaluate --model "$work/odd-hf" --data "$work/data.h5" --context 128 --windows 1 \
    --device cuda
expect 'auto evaluating such heads' 0 'computing on CPUs: a head_dim of 20' \
    "$simulated" evaluate --model "$work/odd-hf" --data "$work/data.h5" --context 128 --windows 1
holds "a refused run left its folder behind" [ ! -e "$work/none" ]
echo "$passed passed, $failed failed"
[ $failed = 0 ]
