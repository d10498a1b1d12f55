#!/usr/bin/env bash
# demo.sh PROGRAM (test): runs jobs/demo.sh with few steps. The training is interrupted and resumed, and the demo writes
# the table, the pictures and the exports. Exit code 77: skipped.
set -uo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/../.." || exit
[ -f jobs/demo/model/model.safetensors ] || { echo "skipped: demo (jobs/demo/model has no weights yet)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
complain() { echo "error: $1"; failures=$((failures + 1)); }

if ! jobs/demo.sh --quick --program "$program" "$work/demo" > "$work/log" 2>&1; then
    cat "$work/log"
    complain "demo.sh failed"
    exit 1
fi
grep -q 'Interrupted after [1-5] steps (exit code 75' "$work/log" ||
    complain "the training was not interrupted and resumed"
if [ "$(grep -cE '^(base|extended).*( +[0-9]+\.[0-9]){4}$' "$work/demo/table.txt")" != 3 ]; then
    cat "$work/demo/table.txt"
    complain "the table does not have three rows of four numbers"
fi
[ "$(grep -c '"loss"' "$work/demo/run/metrics.jsonl")" = 6 ] ||
    complain "metrics.jsonl does not have each of the 6 steps once"
for picture in perplexity.png training.png; do
    [ "$(head -c 4 "$work/demo/$picture" | tail -c 3)" = PNG ] || complain "$picture is not a PNG file"
done
for file in extended/config.json extended/model.safetensors extended/tokenizer.model \
    adapter/adapter_config.json adapter/adapter_model.safetensors; do
    [ -s "$work/demo/$file" ] || complain "the demo did not write $file"
done
[ $failures = 0 ]
