#!/usr/bin/env bash
# make_model.sh BOOKS [WORK=build/demo_model]: makes jobs/demo/model anew: tokenizer, then a small Llama from random weights. BOOKS is a folder of .txt
# (the training books of PG19). For whoever changes the demo model: it takes hours on two cores, the demo itself never calls it.
# TOKENS=30000000 (in all), RANKS=1, TOKENIZER_ONLY=1 are read from the environment. Called again, it goes on where it was stopped.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
[ $# -ge 1 ] || fail "say where the books are: make_model.sh BOOKS [WORK]"
compgen -G "$1/*.txt" > /dev/null || fail "there are no .txt files in '$1'"
books=$(realpath "$1")
work=$(realpath -m "${2:-$root/build/demo_model}")
tokens=${TOKENS:-30000000} ranks=${RANKS:-1}
context=512 sequences=16  # 8,192 tokens a step
cd "$root" || exit
model=jobs/demo/model
mkdir -p "$work/books"

for book in "$books"/*.txt; do jobs/demo/strip_book.sh "$book" > "$work/books/$(basename "$book")"; done

# As Llama's own: BPE, bytes for what is unknown, digits one by one, text and its white space as they are.
# Names relative to $work: SentencePiece writes them into the model, which should be the same bytes wherever it is made.
(cd "$work" && spm_train --input="$(printf '%s\n' books/*.txt | paste -sd,)" --model_prefix=tokenizer --model_type=bpe --vocab_size=4096 \
    --byte_fallback=true --split_digits=true --normalization_rule_name=identity --remove_extra_whitespaces=false --allow_whitespace_only_pieces=true \
    --character_coverage=0.9999 --max_sentence_length=16384 --num_threads=2 --minloglevel=1)
cp "$work/tokenizer.model" $model/tokenizer.model
[ -z "${TOKENIZER_ONLY:-}" ] || exit 0

program=${LONGLORA:-build/release/longlora}
[ -x "$program" ] || fail "there is no $program; run jobs/build.sh first"
on_ranks() { if [ "$ranks" = 1 ]; then "$@"; else mpirun -n "$ranks" "$@"; fi; }
[ -f "$work/books.h5" ] || on_ranks "$program" prepare "$work/books.h5" "$work/books" --tokenizer "$work/tokenizer.model"
steps=$((tokens / context / sequences))
on_ranks "$program" train --method full --init jobs/demo/config.json --data "$work/books.h5" --run "$work/run" --context $context --attention dense \
    --steps "$steps" --global-batch $sequences --micro-batch 8 --recompute none --lr 2e-3 --warmup 100 --schedule cosine --weight-decay 0.1 --clip 1 \
    --checkpoint-minutes 10
rm -rf "$work/export"
"$program" export "$work/run" "$work/export" --format hf --dtype bfloat16
for file in "$work"/export/*; do
    case $(basename "$file") in config.json | *.safetensors) cp "$file" $model/ ;; esac
done
ls -l $model
