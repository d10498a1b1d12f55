#!/usr/bin/env bash
# make_model.sh BOOKS [WORK=build/demo_model]: makes jobs/demo/model again. It trains the tokenizer, then a small Llama
# from random weights. BOOKS is a folder of .txt files (the training books of PG19). The script takes hours on two
# cores; the demo itself never calls it. When it is called again, it resumes the training.
#
# It reads these variables from the environment:
#   TOKENS=30000000   number of tokens to train on, all epochs together
#   RANKS=1           number of MPI ranks
#   TOKENIZER_ONLY=1  makes only the tokenizer
#   LONGLORA=FILE     uses this program instead of build/release/longlora
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
[ $# -ge 1 ] || fail "give the folder of the books: make_model.sh BOOKS [WORK]"
compgen -G "$1/*.txt" > /dev/null || fail "there are no .txt files in '$1'"
books=$(realpath "$1")
work=$(realpath -m "${2:-$root/build/demo_model}")
tokens=${TOKENS:-30000000} ranks=${RANKS:-1}
context=512 sequences=16  # 8,192 tokens a step
cd "$root" || exit
model=jobs/demo/model
mkdir -p "$work/books"

for book in "$books"/*.txt; do jobs/demo/strip_book.sh "$book" > "$work/books/$(basename "$book")"; done

# The tokenizer is of the same kind as Llama's: BPE, bytes for unknown characters, each digit a token, text and white
# space unchanged. File names are relative to $work, because SentencePiece writes them into the model, and its bytes
# should be the same wherever it is made.
(cd "$work" && spm_train --input="$(printf '%s\n' books/*.txt | paste -sd,)" --model_prefix=tokenizer \
    --model_type=bpe --vocab_size=4096 --byte_fallback=true --split_digits=true --normalization_rule_name=identity \
    --remove_extra_whitespaces=false --allow_whitespace_only_pieces=true --character_coverage=0.9999 \
    --max_sentence_length=16384 --num_threads=2 --minloglevel=1)
cp "$work/tokenizer.model" $model/tokenizer.model
[ -z "${TOKENIZER_ONLY:-}" ] || exit 0

program=${LONGLORA:-build/release/longlora}
[ -x "$program" ] || fail "there is no $program; run jobs/build.sh first"
on_ranks() { if [ "$ranks" = 1 ]; then "$@"; else mpirun -n "$ranks" "$@"; fi; }
[ -f "$work/books.h5" ] ||
    on_ranks "$program" prepare "$work/books.h5" "$work/books" --tokenizer "$work/tokenizer.model"
steps=$((tokens / context / sequences))
on_ranks "$program" train --method full --init jobs/demo/config.json --data "$work/books.h5" --run "$work/run" \
    --context $context --attention dense --steps "$steps" --global-batch $sequences --micro-batch 8 --recompute none \
    --lr 2e-3 --warmup 100 --schedule cosine --weight-decay 0.1 --clip 1 --checkpoint-minutes 10
rm -rf "$work/export"
"$program" export "$work/run" "$work/export" --format hf --dtype bfloat16
for file in "$work"/export/*; do
    case $(basename "$file") in config.json | *.safetensors) cp "$file" $model/ ;; esac
done
ls -l $model
