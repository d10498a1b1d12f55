#!/usr/bin/env bash
# demo.sh PROGRAM (test): the whole demo with few steps: runs through, is interrupted and resumed, and leaves table, pictures and exports.
set -uo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/../.." || exit
[ -f jobs/demo/model/model.safetensors ] || { echo "skipped: demo (jobs/demo/model has no weights yet)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
complain() { echo "error: $1"; failures=$((failures + 1)); }

jobs/demo.sh --quick --program "$program" "$work/demo" > "$work/log" 2>&1 || { cat "$work/log"; complain "demo.sh failed"; exit 1; }
grep -q 'Interrupted after [1-5] steps (exit code 75' "$work/log" || complain "the training was not interrupted and resumed"
[ "$(grep -cE '^(base|extended).*( +[0-9]+\.[0-9]){4}$' "$work/demo/table.txt")" = 3 ] || { cat "$work/demo/table.txt"; complain "the table is not whole"; }
[ "$(grep -c '"loss"' "$work/demo/run/metrics.jsonl")" = 6 ] || complain "metrics.jsonl does not have each of the 6 steps once"
for picture in perplexity.png training.png; do
    [ "$(head -c 4 "$work/demo/$picture" | tail -c 3)" = PNG ] || complain "$picture is no PNG"
done
for file in extended/config.json extended/model.safetensors extended/tokenizer.model adapter/adapter_config.json adapter/adapter_model.safetensors; do
    [ -s "$work/demo/$file" ] || complain "the demo left no $file"
done
[ $failures = 0 ]
