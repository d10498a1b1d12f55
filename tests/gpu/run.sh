#!/usr/bin/env bash
# run.sh [--simulated] [--no-build] [--work FOLDER] [--machine NAME]
# Runs the checks that need a real GPU. slurm/gpu-check.sbatch runs this script under Slurm. The checks are:
#   - the tests of operations, models, training and ranks on the device;
#   - the tests of operations again under each of the four tools of compute-sanitizer, and once more under memcheck with
#     the bounds of the tensors;
#   - a benchmark table, with the range that the machine model expects for each operation;
#   - training with the program on one rank, on two ranks over NCCL, and with activations in host memory; the losses are
#     compared with the CPU's losses.
# A check that cannot run on this machine is printed as skipped. The last line is 'N passed, N failed'; the exit code is
# 0 when no check failed. All output goes to FOLDER (build/gpu-check), the benchmark table to FOLDER/bench.txt.
#   --simulated      runs a small part of each check on the simulated device (tests/sim), to test this script, not a GPU
#   --no-build       uses the programs in build/release as they are
#   --work FOLDER    the folder for logs and runs
#   --machine NAME   the machine model of the benchmark table (default: a100-80g or h100, by the name of the first GPU)
source "$(dirname "${BASH_SOURCE[0]}")/../../jobs/common.sh"
cd "$root" || exit
kind=gpu build=yes work=build/gpu-check machine=''
while [ $# -gt 0 ]; do
    case $1 in
        --simulated) kind=sim ;;
        --no-build) build='' ;;
        --work | --machine) [ $# -ge 2 ] || fail "$1 needs a value"; declare "${1#--}=$2"; shift ;;
        *) fail "unknown option '$1'; see the first lines of tests/gpu/run.sh" ;;
    esac
    shift
done
release=build/release passed=0 failed=0
mkdir -p "$work"
# result NAME CODE SECONDS: counts a check and prints its result.
result() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    printf '%-7s %-34s %5d s\n' "$([ "$2" = 0 ] && echo ok || echo FAILED)" "$1" "$3"
}
# check NAME COMMAND...: runs one check; its output goes to FOLDER/NAME.log.
check() {
    local name=$1 began=$SECONDS code=0
    shift
    "$@" > "$work/$name.log" 2>&1 || code=$?
    result "$name" "$code" $((SECONDS - began))
    [ "$code" = 0 ] || { tail -5 "$work/$name.log" | sed 's/^/        /'; echo "        full output: $work/$name.log"; }
}
skip() { printf 'skipped %-34s %s\n' "$1" "$2"; }
# visible_gpus COUNT: prints how many of the node's COUNT GPUs this process may use. CUDA_VISIBLE_DEVICES lists numbers
# or names of GPUs; CUDA ignores the list from the first entry that is neither.
visible_gpus() {
    local entries=() entry visible=0
    [ -n "${CUDA_VISIBLE_DEVICES+set}" ] || { echo "$1"; return; }
    IFS=, read -ra entries <<< "$CUDA_VISIBLE_DEVICES"
    for entry in "${entries[@]}"; do
        case ${entry// /} in [0-9]* | GPU-* | MIG-*) visible=$((visible + 1)) ;; *) break ;; esac
    done
    echo $((visible < $1 ? visible : $1))
}
launch() { mpirun -n "$1" "${@:2}"; }

program=$release/longlora gpus=0
if [ $kind = gpu ]; then
    command -v nvidia-smi > /dev/null ||
        fail "no nvidia-smi on PATH, so no NVIDIA driver; run this script on a node with a GPU, or with --simulated"
    gpus=$(nvidia-smi --query-gpu=name --format=csv,noheader | wc -l)
    [ "$gpus" -gt 0 ] || fail "nvidia-smi shows no GPU; ask Slurm for one, as slurm/gpu-check.sbatch does"
    gpus=$(visible_gpus "$gpus")
    [ "$gpus" -gt 0 ] ||
        fail "CUDA_VISIBLE_DEVICES='$CUDA_VISIBLE_DEVICES' hides all GPUs from this process; unset it or name a GPU"
    nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv,noheader | tee "$work/gpus.txt"
    [ -n "$machine" ] || case $(head -1 "$work/gpus.txt") in *A100*) machine=a100-80g ;; *) machine=h100 ;; esac
else
    program=$release/longlora-sim gpus=4
    [ -n "$machine" ] || machine=h100
fi
if [ -n "$build" ]; then
    if [ $kind = gpu ]; then targets=(longlora gpu_bench); else targets=(longlora-sim gpu_bench_sim); fi
    for name in kernels model train mpi; do targets+=("test_${name}_$kind"); done
    jobs/build.sh release "${targets[@]}" > "$work/build.log" 2>&1 ||
        fail "the build failed; its output is in $work/build.log"
fi

tests=$release/tests
# From the tests of training, only the suites that compute on a device. --simulated takes a small part of all tests;
# tests/run.sh runs a larger part of them on the simulated device.
model=() training=('--run_test=golden_*,equalities,activation_offload') ranks_2=() ranks_4=() steps=3 context=1024
if [ $kind = sim ]; then
    model=('--run_test=golden_models*') training=('--run_test=activation_offload')
    ranks_2=('--run_test=communicator,zero') ranks_4=('--run_test=zero/open*')
    steps=2 context=256
fi
check operations "$tests/test_kernels_$kind"
check model "$tests/test_model_$kind" "${model[@]}"
check training "$tests/test_train_$kind" "${training[@]}"
export OMP_NUM_THREADS=1
if [ "$gpus" -ge 2 ]; then
    check ranks_2 launch 2 "$tests/test_mpi_$kind" "${ranks_2[@]}"
else skip ranks_2 "only one GPU"; fi
if [ "$gpus" -ge 4 ]; then
    check ranks_4 launch 4 "$tests/test_mpi_$kind" "${ranks_4[@]}"
else skip ranks_4 "fewer than four GPUs"; fi

# sanitized TOOL ARGUMENT...: runs the tests of operations under a tool of compute-sanitizer, for half an hour at most,
# since the tools make the tests many times slower.
# memcheck reports no API errors: it would count a query of an event that is not ready, which is not an error; and the
# program itself reports a call that fails.
# TOOL "tensors" is memcheck with the bounds of the tensors. NVTX tells a tool of a tensor when the host makes or frees
# it (kernels/cuda/heap_notes.h), while earlier kernels may still run. So "tensors" waits for each kernel before the
# next call, and the other tools ignore NVTX.
sanitized() {
    local options=(--error-exitcode 1 --target-processes application-only)
    case $1 in memcheck | tensors) options+=(--report-api-errors no) ;; esac
    case $1 in
        tensors)
            CUDA_LAUNCH_BLOCKING=1 timeout 30m compute-sanitizer --tool memcheck --nvtx yes "${options[@]}" \
                "$tests/test_kernels_gpu" "${@:2}" ;;
        *) timeout 30m compute-sanitizer --tool "$1" --nvtx no "${options[@]}" "$tests/test_kernels_gpu" "${@:2}" ;;
    esac
}
# finds_an_overrun COMMAND...: succeeds when the tool finds a write beyond the end of a tensor that stays inside the
# arena. Otherwise the tool does not know the tensors.
finds_an_overrun() {
    local said code=0
    said=$("$@" --run_test=for_tools/an_overrun 2>&1) || code=$?
    echo "$said"
    [ $code != 0 ] && grep -qE 'Invalid __global__ write|out of bounds' <<< "$said"
}
for tool in memcheck racecheck initcheck synccheck; do
    if [ $kind = sim ]; then skip "$tool" "the simulation checks every access itself"
    elif command -v compute-sanitizer > /dev/null; then check "$tool" sanitized "$tool"
    else skip "$tool" "no compute-sanitizer on PATH; it comes with the CUDA toolkit"; fi
done
if grep -q '^NVTX_MEMORY:.*NOTFOUND' "$release/CMakeCache.txt"; then
    skip tensors "the CUDA toolkit of this build has no nvtx3/nvToolsExtMem.h"
elif [ $kind = sim ]; then check overrun finds_an_overrun "$tests/test_kernels_sim"
elif command -v compute-sanitizer > /dev/null; then
    check overrun finds_an_overrun sanitized tensors
    check tensors sanitized tensors
else skip tensors "no compute-sanitizer on PATH; it comes with the CUDA toolkit"; fi

size=()
[ $kind = gpu ] || size=(small)
bench=$tests/gpu_bench
[ $kind = gpu ] || bench=$tests/gpu_bench_sim
check bench "$bench" "$machine" "${size[@]}"
cp "$work/bench.log" "$work/bench.txt"

# Trains from the demo model and compares the GPU's losses with the CPU's, in float32, on one rank and on two over NCCL.
# The GPU adds the same numbers in another order, so losses may differ by 1e-4 of their value. With activations in host
# memory no bit may differ from the run that keeps them on the GPU; bfloat16 has the budget of tests/sim/train.sh.
rm -rf "$work"/run-* "$work/data.h5"
losses() { number_of loss < "$1/metrics.jsonl" | head -$steps; }
# train NAME RANKS DEVICE OPTIONS...: trains $steps steps into FOLDER/run-NAME.
train() {
    launch "$2" "$program" train --model jobs/demo/model --data "$work/data.h5" --run "$work/run-$1" \
        --context $context --group $((context / 4)) --global-batch 2 --steps $steps --device "$3" "${@:4}"
}
# same_losses RUN_A RUN_B BUDGET: succeeds when the losses of both runs agree within BUDGET, relative to RUN_B.
same_losses() {
    [ "$(losses "$work/run-$1" | wc -l)" = $steps ] || { echo "the run $1 does not have $steps losses"; return 1; }
    paste <(losses "$work/run-$1") <(losses "$work/run-$2") |
        awk -v most="$3" '{ print; d = $1 / $2 - 1; if (!($2 > 0) || d > most || d < -most) bad = 1 }
            END { exit bad || NR == 0 }'
}
if launch 1 "$program" prepare "$work/data.h5" jobs/demo/books/train --tokenizer jobs/demo/model/tokenizer.model \
    > "$work/prepare.log" 2>&1; then
    check train_cpu train cpu 1 cpu --dtype float32
    for ranks in 1 2; do
        if [ "$ranks" -gt "$gpus" ]; then skip "train_$ranks" "only one GPU"; continue; fi
        check "train_$ranks" train "cuda-$ranks" "$ranks" cuda --dtype float32
        check "losses_$ranks" same_losses "cuda-$ranks" cpu 1e-4
    done
    check train_offload train offload 1 cuda --dtype float32 --offload activations
    check losses_offload same_losses offload cuda-1 0
    check train_bfloat16 train bfloat16 1 cuda --dtype bfloat16 --offload activations
    check losses_bfloat16 same_losses bfloat16 cpu 2e-2
else
    result prepare 1 0
fi
cat "$work/bench.txt"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
