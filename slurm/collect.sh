#!/usr/bin/env bash
# collect.sh FOLDER: prints the perplexities in a folder of evaluate.sbatch, one table of models and contexts for each
# data set; '-' where a result does not exist yet.
set -euo pipefail
table=${1:?name the folder}/job/table.txt
read -ra contexts <<< "$(sed -n 's/^context  *//p' "$table" | tr '\n' ' ')"
while read -r data; do
    printf '%-24s' "$data"
    printf '%12s' "${contexts[@]}"
    while read -r model; do
        printf '\n%-24s' "$model"
        for context in "${contexts[@]}"; do
            result=$1/$model-$data-$context.json
            [ -e "$result" ] || { printf '%12s' -; continue; }
            printf '%12.3f' "$(tr -d '\n' < "$result" | sed -n 's/.*"perplexity" *: *\([0-9.eE+-]*\).*/\1/p')"
        done
    done < <(sed -n 's/^model  *\([^ ]*\).*/\1/p' "$table")
    printf '\n\n'
done < <(sed -n 's/^data  *\([^ ]*\).*/\1/p' "$table")
