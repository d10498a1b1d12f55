#!/usr/bin/env bash
# other_files.sh PROGRAM: the last rank reads other files than the others, as if an old copy lay on the disk of its
# node: model, config, adapter, token file, checkpoint, tokenizer, documents. Each time the program must refuse the
# start with one sentence that names file and node. Where the last rank does not load what differs, the numbers must be
# those of rank 0's files. Last line: 'N passed, N failed'.
if [ "${FAULTS_MOUNTS:-}" = "" ]; then
    if unshare -m true 2> /dev/null; then FAULTS_MOUNTS=own exec unshare -m "$BASH" "$0" "$@"; fi
    FAULTS_MOUNTS=none
fi
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# = 1 ] || fail "usage: other_files.sh PROGRAM"
workplace "$1"

# launch_two RANKS FIRST... -- LAST...: the ranks get the words $words and FIRST, the last rank $words and LAST. $last
# is the program of the last rank.
last=("$program")
launch_two() {
    local ranks=$1 first=()
    shift
    while [ "$1" != -- ]; do first+=("$1"); shift; done
    shift
    "${launcher[@]}" -n $((ranks - 1)) "$program" "${words[@]}" "${first[@]}" : \
        -n 1 "${last[@]}" "${words[@]}" "$@" > out 2> err < /dev/null &
    await_launcher $!
}

# judge NAME: counts a case
judge() {
    no_strays
    if [ -z "$problems" ]; then ok; else wrong "$1$problems"; tail -n 6 out err; fi
    rm -rf run
}
# refused WORDS...: exit code 2, one sentence with all WORDS, and no run folder
refused() {
    local word sentence
    sentence=$(grep '^longlora: ' err)
    [ $code = 2 ] || problems+="; exit code $code instead of 2"
    [ "$(grep -c '^longlora: ' err)" = 1 ] || problems+="; $(grep -c '^longlora: ' err) sentences instead of one"
    for word in "$@"; do
        case $sentence in *"$word"*) ;; *) problems+="; does not say '$word'" ;; esac
    done
    [ ! -e run ] || problems+="; a run folder was made"
}
# case_of NAME RANKS WORDS -- FIRST... -- LAST...: must be refused with the WORDS
case_of() {
    local name=$1 ranks=$2 wanted=()
    shift 2
    while [ "$1" != -- ]; do wanted+=("$1"); shift; done
    shift
    problems=""
    launch_two "$ranks" "$@"
    refused "${wanted[@]}"
    judge "$name"
}

# copy_model FOLDER [PERCENT]: a copy of the model, in which one bit of the byte after PERCENT of the values differs
copy_model() {
    local file=$1/model.safetensors header at byte
    cp -r model "$1"
    [ -n "${2:-}" ] || return
    header=$(od -An -t u8 -N 8 "$file")
    at=$((8 + header + ($(stat -c %s "$file") - 8 - header) * $2 / 100))
    byte=$(od -An -t u1 -j $at -N 1 "$file")
    printf '%b' "\\x$(printf %02x $((byte ^ 1)))" | dd of="$file" bs=1 seek=$at conv=notrunc status=none
}

# train_of WORDS...: sets $words to a training of two steps without a model
train_of() {
    words=(train --data data.h5 --run run --steps 2 --context 64 --global-batch 4 --lr 1e-3 --dtype float32)
    words+=(--warmup 2 --timeout 60 "$@")
}

# A byte of the model differs. What a rank does not load cannot be seen, and does not matter.
meshes=("2" "2 --sequence 2" "2 --pipeline 2" "2 --zero 3" "4 --pipeline 2 --zero 3" "4 --pipeline 2 --sequence 2"
    "4 --sequence 2 --zero 3")
places=(8 30 60 99)   # 8: the last half of lm_head, which the last rank loads on every mesh
copy_model same
for place in "${places[@]}"; do copy_model "other-$place" "$place"; done
for mesh in "${meshes[@]}"; do
    read -r -a parts <<< "$mesh"
    ranks=${parts[0]}
    train_of "${parts[@]:1}"
    problems=""
    launch_two "$ranks" --model model -- --model same
    [ $code = 0 ] || problems+="; exit code $code with the same model: $(cat err)"
    steps_of run > steps.right
    tr -d ' \n' < run/manifest.json | grep -o '"model_tensors":{[^}]*}' > tensors
    [ -e tensors.right ] || cp tensors tensors.right
    [ -s tensors ] && cmp -s tensors tensors.right || problems+="; the manifest has other checksums of the model"
    judge "the same model on $mesh"
    num_refused=0
    for place in "${places[@]}"; do
        problems=""
        launch_two "$ranks" --model model -- --model "other-$place"
        if [ $code = 0 ]; then
            steps_of run > steps.now
            cmp -s steps.right steps.now || problems+="; other numbers, silently"
        else
            num_refused=$((num_refused + 1))
            refused "' has other values in other-$place/model.safetensors on node $(hostname)" \
                "than in model/model.safetensors on node $(hostname) (rank 0)" "give all ranks the same files"
        fi
        judge "a byte at $place % on $mesh"
    done
    problems=""
    [ $num_refused -gt 0 ] || problems="; no place was refused"
    judge "$mesh"
done

# Evaluation reads models, adapters and checkpoints in the same way.
evaluate_of() { words=(evaluate --data data.h5 --context 64 --dtype float32 --timeout 60 "$@"); }
adapter=$root/tests/golden/mha/adapter
for mesh in "2" "2 --pipeline 2" "4 --sequence 2 --zero 3"; do
    read -r -a parts <<< "$mesh"
    evaluate_of "${parts[@]:1}"
    case_of "evaluate on $mesh" "${parts[0]}" "other-8/model.safetensors" -- --model model -- --model other-8
done
evaluate_of
cp -r "$adapter" adapter
cp -r "$adapter" other-adapter
size=$(stat -c %s adapter/adapter_model.safetensors)
printf '\x55' | dd of=other-adapter/adapter_model.safetensors bs=1 seek=$((size - 3)) conv=notrunc status=none
case_of "an adapter's value" 2 "has other values in other-adapter/adapter_model.safetensors" -- \
    --model model --adapter adapter -- --model model --adapter other-adapter
cp -r adapter other-alpha
sed -i -E 's/"lora_alpha": *[0-9.]+/"lora_alpha": 5/' other-alpha/adapter_config.json
case_of "an adapter's alpha" 2 "adapter_config.json in other-alpha on node" -- \
    --model model --adapter adapter -- --model model --adapter other-alpha
case_of "an adapter on one rank only" 2 "--adapter" -- --model model -- --model model --adapter adapter

# Small files
copy_model other-config
sed -i -E 's/"rms_norm_eps": *[^,]+/"rms_norm_eps": 0.5/' other-config/config.json
make_tokens | sed -E 's/, [0-9]+, /, 99, /' > other.jsonl
"$program" prepare other.h5 other.jsonl --vocabulary 256 > prepare.log 2>&1 || fail "$(cat prepare.log)"
for ranks in 2 4; do
    train_of
    case_of "config.json" "$ranks" "config.json in other-config on node" -- --model model -- --model other-config
    words=(train --model model --run run --steps 2 --context 64 --global-batch 4 --dtype float32 --timeout 60)
    case_of "a token file" "$ranks" "other.h5 on node" -- --data data.h5 -- --data other.h5
    words=(evaluate --model model --context 64 --dtype float32 --timeout 60)
    case_of "a token file of evaluate" "$ranks" "other.h5 on node" -- --data data.h5 -- --data other.h5
done
train_of --method full
case_of "a model here and none there" 2 "--init" -- --model model -- --init model/config.json

# Checkpoints
train_of --model model
launch 2 "${words[@]}"
[ $code = 0 ] || fail "cannot train: $(cat err)"
mv run one
train_of --model model --seed 3
launch 2 "${words[@]}"
mv run two
train_of --model model
case_of "a checkpoint" 2 "two/checkpoints/step-00000002.h5" "differs from that on rank 0" -- \
    --resume one/checkpoints/step-00000002.h5 -- --resume two/checkpoints/step-00000002.h5
evaluate_of
case_of "a checkpoint of evaluate" 2 "step-00000002.h5" "differs from that on rank 0" -- \
    --checkpoint one -- --checkpoint two

# prepare: tokenizers, and documents on a disk of the last rank's node
tokenizers=$root/tests/golden/tokenizers
mkdir texts
for i in 1 2 3 4 5 6; do seq $i $((i + 60000)) > texts/$i.txt; done
words=(prepare out.h5 texts)
case_of "a tokenizer" 2 "$tokenizers/prefix" -- \
    --tokenizer "$tokenizers/digits" -- --tokenizer "$tokenizers/prefix"
case_of "an option of prepare" 2 "--eos" -- \
    --tokenizer "$tokenizers/digits" -- --tokenizer "$tokenizers/digits" --eos false
if [ "$FAULTS_MOUNTS" = own ]; then
    cp -r texts old-texts
    for i in 1 2 3 4 5 6; do sed -i '1s/^[0-9]/7/' old-texts/$i.txt; done
    # shellcheck disable=SC2016  # for the inner shell
    last=(unshare -m sh -c 'mount --bind old-texts texts && exec "$@"' sh "$program")
    words=(prepare out.h5 texts --tokenizer "$tokenizers/digits")
    for ranks in 2 4; do
        case_of "documents on $ranks ranks" "$ranks" "texts/" "has other bytes than when it was hashed" -- --
        [ ! -e out.h5 ] || wrong "a token file of two versions was made"
    done
else
    echo "skipped: documents on another disk need the right to mount"
fi
finish
