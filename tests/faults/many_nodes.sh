#!/usr/bin/env bash
# many_nodes.sh PROGRAM: trains and prepares on several ranks as if each rank ran on a node of its own with the files on
# NFS (node_cache.cpp): every rank has a page cache, and pages are written back whole. All checkpoints and token files
# must have the bytes that they have without this, and runs resume. Then bytes change on their way to the disk: what is
# read back shows it, and the file does not count. Last line: 'N passed, N failed'.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# = 1 ] || fail "usage: many_nodes.sh PROGRAM"
steps=6
workplace "$1"

# check NAME FUNCTION...: runs a case and counts it
check() {
    local name=$1 began=$SECONDS
    shift
    problems=""
    rm -rf run
    "$@"
    no_strays
    if [ -z "$problems" ]; then
        ok
    else
        wrong "$name$problems"
        tail -n 4 out err
    fi
    echo "$name: $((SECONDS - began)) s"
}
must() { "$@" > said 2>&1 || problems+="; this must hold but does not: $*: $(tail -n 1 said)"; }
says() { grep -qF -- "$1" out err || problems+="; does not say '$1'"; }
ends_with() { [ $code = "$1" ] || problems+="; exit code $code instead of $1: $(grep '^longlora: ' err | head -1)"; }
# on_nodes LIBRARIES RANKS WORDS...: launches with a page cache for each rank
on_nodes() {
    export LD_PRELOAD=$1
    shift
    launch "$@"
    unset LD_PRELOAD
}
nodes=$tools/libnode_cache.so
# words_for RUN MESH...: sets $words; the checkpoints have 5 MB, so every rank writes some blocks of 1 MiB
words_for() {
    train_words "$1" $steps 2
    shift
    words+=(--lora-rank 256 "$@")
}

# every_checkpoint_is_good RANKS MESH...: all checkpoints of a training on nodes equal those of one without
every_checkpoint_is_good() {
    local ranks=$1 step file
    shift
    rm -rf whole
    words_for whole "$@"
    launch "$ranks" "${words[@]}"
    ends_with 0
    words_for run "$@"
    on_nodes "$nodes" "$ranks" "${words[@]}"
    ends_with 0
    for step in 2 4 6; do
        file=$(printf checkpoints/step-%08d.h5 $step)
        must "$tools/compare_checkpoints" "whole/$file" "run/$file"
    done
    must "$program" inspect --verify run
    rm -f run/checkpoints/step-00000006.h5
    echo step-00000004.h5 > run/checkpoints/latest
    on_nodes "$nodes" "$ranks" "${words[@]}"
    ends_with 0
    says "resuming from run/checkpoints/step-00000004.h5"
    compare_runs whole run $steps
}

# every_token_file_is_good RANKS
every_token_file_is_good() {
    on_nodes "$nodes" "$1" prepare nodes.h5 books --vocabulary 65536 --verify all
    ends_with 0
    must cmp one.h5 nodes.h5
}

# a_changed_byte_is_found RANKS RANK POLICY: one write of one rank is not what reaches the disk. The first writes of
# rank 0 are those of HDF5, which writes some places twice.
a_changed_byte_is_found() {
    words_for run --zero 2 --verify-checkpoints "$3"
    export FAULT="rank=$2,call=write,path=*step-*.partial,nth=100,do=flip"
    FAULT+=",when=run/checkpoints/step-00000002.h5"
    export FAULT_LOG=$PWD/fault.log
    rm -f fault.log
    on_nodes "$nodes:$tools/libinject.so" "$1" "${words[@]}"
    unset FAULT FAULT_LOG
    must [ -s fault.log ]
    ends_with 0
    says "the checkpoint of step 4 was not saved: rank"
    says "run/checkpoints/step-00000004.h5"
    must [ ! -e run/checkpoints/step-00000004.h5 ]
    must [ -e run/checkpoints/step-00000002.h5 ]
    must "$program" inspect --verify run
    must [ -z "$(find run -name '*.partial')" ]
}

# a_changed_token_is_found RANKS RANK
a_changed_token_is_found() {
    export FAULT="rank=$2,call=write,path=*nodes.h5.[0-9a-f]*.partial,do=flip" FAULT_LOG=$PWD/fault.log
    rm -f fault.log
    cp one.h5 nodes.h5
    on_nodes "$nodes:$tools/libinject.so" "$1" prepare nodes.h5 books --vocabulary 65536 --verify all
    unset FAULT FAULT_LOG
    must [ -s fault.log ]
    ends_with 2
    says "cannot read back what rank $2 wrote"
    must cmp one.h5 nodes.h5
}

make_books() {
    local i
    mkdir books
    for ((i = 0; i < 7; i++)); do head -c $((1100002 + 2 * i)) /dev/urandom > books/$i.bin; done
    "$program" prepare one.h5 books --vocabulary 65536 > prepare.log 2>&1 ||
        fail "cannot prepare the books: $(cat prepare.log)"
}

make_books
for zero in 1 2 3; do check "two ranks, ZeRO $zero" every_checkpoint_is_good 2 --zero $zero; done
check "four ranks, ZeRO 3" every_checkpoint_is_good 4 --zero 3
check "four ranks, two stages" every_checkpoint_is_good 4 --pipeline 2 --sequence 2 --zero 2
for ranks in 2 4; do check "token file of $ranks ranks" every_token_file_is_good $ranks; done
for rank in 0 1; do check "changed byte of rank $rank" a_changed_byte_is_found 2 $rank sample; done
check "changed byte of rank 3" a_changed_byte_is_found 4 3 all
check "changed token of rank 1" a_changed_token_is_found 2 1
finish
