#!/usr/bin/env bash
# save_bench.sh [--ranks 4] [--mesh "--pipeline 2 --sequence 2 --zero 3"] [--hidden 384] [--context 256] [--steps 24]
#               [--every 8] [FOLDER=build/save_bench]
# Measures what checkpoints cost a training run. It trains all weights of a model with random weights, so a checkpoint
# is three times as large as the weights. For each save it prints the bytes, the seconds, and how long training stood
# still; then the median step time during a save and otherwise. This is a benchmark, not a test: it checks nothing.
source "$(dirname "${BASH_SOURCE[0]}")/../../jobs/common.sh"
ranks=4 mesh='--pipeline 2 --sequence 2 --zero 3' hidden=384 context=256 steps=24 every=8 work=build/save_bench
while [ $# -gt 0 ]; do
    case $1 in
        --ranks | --mesh | --hidden | --context | --steps | --every) declare "${1#--}=$2"; shift ;;
        *) work=$1 ;;
    esac
    shift
done
cd "$root" || exit
program=build/release/longlora
mkdir -p "$work"

cat > "$work/config.json" << JSON
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": $hidden,
 "intermediate_size": $((3 * hidden)), "num_hidden_layers": 8, "num_attention_heads": 6, "num_key_value_heads": 6,
 "vocab_size": 8192, "tie_word_embeddings": true, "max_position_embeddings": 8192, "rms_norm_eps": 1e-05}
JSON
if [ ! -f "$work/tokens.h5" ]; then
    awk 'BEGIN { srand(1)
        for (d = 0; d < 8; ++d) {
            printf "{\"tokens\": [%d", rand() * 8192
            for (i = 1; i < 8192; ++i) printf ",%d", rand() * 8192
            print "]}" } }' > "$work/tokens.jsonl"
    "$program" prepare "$work/tokens.h5" "$work/tokens.jsonl" --vocabulary 8192 > "$work/prepare.log"
fi

rm -rf "$work/run"
# shellcheck disable=SC2086  # $mesh holds several options
mpirun -n "$ranks" "$program" train --init "$work/config.json" --method full --data "$work/tokens.h5" \
    --run "$work/run" --context "$context" --steps "$steps" --global-batch 4 --dtype float32 \
    --checkpoint-every "$every" --keep 1 $mesh > "$work/train.log"

echo "$ranks rank(s), ${mesh:-no mesh}, context $context"
# The run writes a checkpoint's event line when its save ends. The steps between the saved one and that line ran during
# the save.
awk '
function value(name,    found) {
    found = match($0, "\"" name "\":[-+.0-9eE]+")
    return found ? substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0 : 0 }
function median(list, n,    i, j, t) {
    for (i = 2; i <= n; ++i)
        for (j = i; j > 1 && list[j] < list[j - 1]; --j) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
    return n ? (n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2) : 0 }
/"event":"checkpoint"/ {
    step = value("step"); meanwhile = last - step
    for (i = step + 1; i <= last; ++i) busy[i] = 1
    printf "  save of step %3d: %6.1f MB, at most %5.1f MB by one rank, %6.3f s", step, value("bytes") / 1e6,
        value("most_bytes_of_a_rank") / 1e6, value("seconds")
    printf ", training stood still %6.3f s, %d steps during the save%s\n", value("stalled_seconds"), meanwhile,
        step == steps ? " (the last save, in the foreground)" : "" }
/"loss":/ { last = value("step"); seconds[last] = value("seconds") }
END {
    for (i = 2; i <= last; ++i) if (i in busy) during[++d] = seconds[i]; else quiet[++q] = seconds[i]
    printf "  median step: %.3f s (%d steps), during a save %.3f s (%d steps)\n", median(quiet, q), q,
        median(during, d), d }' steps="$steps" "$work/run/metrics.jsonl"
