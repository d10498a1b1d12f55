#!/usr/bin/env bash
# train_bench.sh [--peer "COMMAND"] [--contexts 2048,4096] [--memory 1.65GB] [--steps 3] [--rounds 2] [--dtype float32]
#                [FOLDER=build/bench]
# Measures tokens/s and peak memory of a LongLoRA training step of a model shaped like SmolLM2-135M, with random weights
# and tokens. --peer names another program to compare with: it takes --context N --steps N --threads N and prints one
# JSON line with tokens_per_second and peak_rss_mib. The two programs run in turns, so both see the same machine.
# This is a benchmark, not a test: it checks nothing.
source "$(dirname "${BASH_SOURCE[0]}")/../../jobs/common.sh"
peer='' contexts=2048,4096 memory=1.65GB steps=3 rounds=2 dtype=float32 work=build/bench
while [ $# -gt 0 ]; do
    case $1 in
        --peer | --contexts | --memory | --steps | --rounds | --dtype) declare "${1#--}=$2"; shift ;;
        *) work=$1 ;;
    esac
    shift
done
cd "$root" || exit
program=build/release/longlora
mkdir -p "$work"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}

if [ ! -d "$work/model" ]; then
    cat > "$work/config.json" <<JSON
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 576,
 "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
 "vocab_size": 49152, "tie_word_embeddings": true, "rope_theta": 100000.0, "max_position_embeddings": 8192,
 "rms_norm_eps": 1e-05, "initializer_range": 0.0417, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16"}
JSON
    awk 'BEGIN { srand(1)
        for (d = 0; d < 8; ++d) {
            printf "{\"tokens\": [%d", rand() * 49152
            for (i = 1; i < 8192; ++i) printf ",%d", rand() * 49152
            print "]}" } }' > "$work/tokens.jsonl"
    "$program" prepare "$work/tokens.h5" "$work/tokens.jsonl" --vocabulary 49152
    "$program" train --init "$work/config.json" --method full --data "$work/tokens.h5" --run "$work/random" \
        --context 64 --steps 1 --global-batch 1 --lr 0 --dtype float32
    "$program" export "$work/random" "$work/model" --format hf --dtype bfloat16
    rm -rf "$work/random"
fi

# ours CONTEXT: prints the median tokens/s of all steps but the first, and the peak memory of the process.
ours() {
    rm -rf "$work/run"
    /usr/bin/time -o "$work/rss" -f '%M' "$program" train --model "$work/model" --data "$work/tokens.h5" \
        --run "$work/run" --context "$1" --steps $((steps + 1)) --global-batch 1 --dtype "$dtype" \
        --memory "$memory" > "$work/train.log"
    local rate
    rate=$(number_of tokens_per_second < "$work/run/metrics.jsonl" | tail -n "$steps" | sort -n |
        awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}')
    printf 'context %5d  longlora %8.1f tokens/s  %5d MiB  (%s)\n' "$1" "$rate" $(($(cat "$work/rss") / 1024)) \
        "$(grep '^memory' "$work/train.log")"
}

grep -m1 'model name' /proc/cpuinfo
for context in ${contexts//,/ }; do
    for _ in $(seq "$rounds"); do
        ours "$context"
        [ -z "$peer" ] || { json=$($peer --context "$context" --steps "$steps" --threads "$OMP_NUM_THREADS")
            printf 'context %5d  peer     %8.1f tokens/s  %5d MiB\n' "$context" \
                "$(number_of tokens_per_second <<< "$json")" "$(number_of peak_rss_mib <<< "$json")"; }
    done
done
