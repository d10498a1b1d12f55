#!/usr/bin/env bash
# jobs_test.sh PROGRAM: what submit.sh refuses, and on a real Slurm the other kinds of jobs: prepare, sweep and
# evaluate, and the distribution of ranks and GPUs. Training is in restarts_test.sh and losses_test.sh.
# shellcheck source=tests/slurm/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# refused CODE WORDS ARGUMENTS: submit.sh ends with CODE and prints one sentence that contains WORDS (a job that does
# not fit also prints the plan); it creates and submits nothing.
refused() {
    local code=0 before said
    before=$(ls -R)
    said=$(x "$root/slurm/submit.sh" "${@:3}" 2>&1) || code=$?
    [ "$code" = "$1" ]
    grep -- "$2" <<< "$said"
    [ "$code" = 3 ] || [ "$(wc -l <<< "$said")" = 1 ]
    [ "$(ls -R)" = "$before" ]
}
small=(--model model --data data.h5)
refusals() {
    mkdir refusals
    cd refusals
    cp -r ../model ../data.h5 ../small.toml .
    refused 2 "train, sweep, evaluate or prepare"
    refused 2 "takes 2 words" train small.toml
    refused 2 "no preset 'nix'; there are llama2" train nix run -- "${small[@]}"
    refused 2 "no --data" train small.toml run -- --model model
    refused 2 "data nix.h5: there is no such file" train small.toml run -- --model model --data nix.h5
    refused 2 "model nix: there is no such file or folder" train small.toml run -- --model nix --data data.h5
    refused 2 "there is no option 'contxt'" train small.toml run -- "${small[@]}" --contxt 3
    refused 2 "'--lrr' is not\|no option 'lrr'" train small.toml run -- "${small[@]}" --lrr 1
    refused 2 "unknown setting '--lr'" train small.toml run --lr 1 -- "${small[@]}"
    refused 2 "--nodes is 'two'" train small.toml run --nodes two -- "${small[@]}"
    refused 2 "--launcher is 'ssh'" train small.toml run --launcher ssh -- "${small[@]}"
    refused 2 "no program '/nix'" train small.toml run --program /nix -- "${small[@]}"
    refused 2 "every rank needs one" train small.toml run --gpus-per-node 1 -- "${small[@]}"
    refused 2 "--elastic 3 is more than --nodes 2" train small.toml run --elastic 3 -- "${small[@]}"
    refused 2 "fewer than the 5 ranks of pipeline x sequence" train small.toml run -- "${small[@]}" --sequence 5
    refused 2 "the run folder and the preset are named before" train small.toml run -- "${small[@]}" --run other
    refused 3 "does not fit 2 node(s) of 2 rank(s); nothing was submitted" \
        train small.toml run -- "${small[@]}" --memory 1MB
    refused 2 "not group sizes" sweep small.toml run --groups 16,x -- "${small[@]}"
    refused 2 "has no effect with --attention dense" sweep small.toml run --groups 16 -- "${small[@]}" --attention dense
    refused 2 "no inputs" prepare out.h5
    refused 2 "no table" evaluate nix.txt out
    echo "modell base --model model" > table.txt
    refused 2 "table.txt, line 1: 'modell base --model model' is none of" evaluate table.txt out
    printf 'model base --model model\ndata one nix.h5\ncontext 32\n' > table.txt
    refused 2 "there is no file 'nix.h5'" evaluate table.txt out
    [ -z "$(other_jobs)" ]
}

prepared() {
    x "$root/slurm/submit.sh" prepare out.h5 -- documents.jsonl --vocabulary 256
    id=$(cat out.h5.job/jobs)
    ends COMPLETED
    cmp out.h5 data.h5
}

# Two group sizes, each with a run of its own; one run is asked to stop on the way and resumes.
sweep() {
    local tasks
    submit sweep small.toml sweep --groups 8,16 -- "${small[@]}"
    reaches sweep/group-16 10
    tasks=$(field "${id}_1" JobId)
    x scancel --batch --signal=USR1 "$tasks"
    wait_for 60 restarted "$tasks"
    id=$tasks
    ends COMPLETED
    wait_for 60 is_done sweep/group-8
    same sweep/group-16
    [ "$(losses sweep/group-8 | wc -l)" = 160 ]
    ! diff -q <(losses sweep/group-8) <(losses sweep/group-16)
}
is_done() { [ "$(status "$1" state)" = "done" ]; }

# 2 models x 2 data sets x 2 contexts; a result that exists is not computed again.
evaluation() {
    cat > table.txt <<'END'
# models, data sets and contexts
model base    --model model
model adapted --model model --adapter model/trained-adapter
data  one     data.h5
data  two     other.h5
context 32 64
END
    cp data.h5 other.h5
    x "$root/slurm/submit.sh" evaluate table.txt results --nodes 1 -- --score all --windows 8
    id=$(cat results/job/jobs)
    wait_for 60 no_jobs_of "$id"
    ls results/*.json
    [ "$(find results -name '*.json' | wc -l)" = 8 ]
    [ -z "$(find results -name '*.partial')" ]
    results/job/collect.sh results > collected.txt
    cat collected.txt
    [ "$(grep -cE '^(base|adapted) +[0-9.]+ +[0-9.]+$' collected.txt)" = 4 ]
    [ "$(awk '$1 == "base"' collected.txt | sort -u | wc -l)" = 1 ]   # two copies of the same data
    rm results/base-two-64.json
    touch before_again
    x results/job/again.sh
    id=$(tail -1 results/job/jobs)
    wait_for 60 no_jobs_of "$id"
    [ "$(find results -name '*.json' -newer before_again)" = results/base-two-64.json ]
}
no_jobs_of() { [ -z "$(x squeue -h -j "$1")" ]; }

# Each rank gets one GPU, by its position on the node, under both launchers. CONTAINER may also be any other command
# line before the program.
gpus() {
    local launcher
    cat > device.sh <<'END'
#!/bin/sh
echo "$(hostname) has $CUDA_VISIBLE_DEVICES of $THING" >> devices.txt
exec "$@"
END
    chmod +x device.sh
    for launcher in srun mpirun; do
        rm -f devices.txt
        CUDA_VISIBLE_DEVICES=4,7 THING=$launcher training "gpus_$launcher" --sbatch-options '--nodelist=n[1-2]' \
            --launcher "$launcher" --container "./device.sh" -- --steps 2
        ends COMPLETED
        diff <(sort devices.txt) - <<END
n1 has 4 of $launcher
n1 has 7 of $launcher
n2 has 4 of $launcher
n2 has 7 of $launcher
END
    done
    [ "$(CUDA_VISIBLE_DEVICES=5 SLURM_LOCALID=3 "$root/slurm/one_gpu.sh" printenv CUDA_VISIBLE_DEVICES)" = 5 ]
    CUDA_VISIBLE_DEVICES=5,6 SLURM_LOCALID=2 "$root/slurm/one_gpu.sh" true 2>&1 |
        grep 'rank 2 of node .* has no GPU of its own' || [ "${PIPESTATUS[1]}" = 0 ]
}

# A job with GPUs insists on them, unless its options name a device. Nothing is submitted: the sandbox has no GPUs.
insists_on_gpus() {
    local dry=(--dry-run --gpus-per-node 2)
    x "$root/slurm/submit.sh" train small.toml dry/cpu --dry-run -- "${small[@]}"
    ! grep '^device' dry/cpu/job/train.toml
    x "$root/slurm/submit.sh" train small.toml dry/gpu "${dry[@]}" -- "${small[@]}"
    [ "$(grep '^device' dry/gpu/job/train.toml)" = 'device = "cuda"' ]
    x "$root/slurm/submit.sh" train small.toml dry/auto "${dry[@]}" -- "${small[@]}" --device auto
    [ "$(grep '^device' dry/auto/job/train.toml)" = 'device = "auto"' ]
    x "$root/slurm/submit.sh" sweep small.toml dry/sweep --groups 8 "${dry[@]}" -- "${small[@]}"
    [ "$(grep '^device' dry/sweep/job/train.toml)" = 'device = "cuda"' ]
    printf 'model base --model model\ndata one data.h5\ncontext 32\n' > dry/table.txt
    mkdir dry/bin
    printf '#!/bin/sh\necho "$@" > "%s/dry/words.txt"\nexit 2\n' "$work" > dry/bin/srun
    chmod +x dry/bin/srun
    evaluates_with "--device cuda" "${dry[@]}"
    evaluates_with "--device cpu" "${dry[@]}" -- --device cpu
    ! evaluates_with "--device" --dry-run
}
# evaluates_with WORDS SETTINGS [-- OPTIONS]: whether the job script calls the program with WORDS
evaluates_with() {
    rm -rf dry/results
    x "$root/slurm/submit.sh" evaluate dry/table.txt dry/results "${@:2}"
    SLURM_ARRAY_TASK_ID=0 SLURM_JOB_NUM_NODES=1 PATH=$work/dry/bin:$PATH \
        bash dry/results/job/evaluate.sbatch "$work/dry/results" || true
    [ "$(grep -c -- "$1" dry/words.txt)" = 1 ] && [ "$(grep -o -- --device dry/words.txt | wc -l)" = 1 ]
}

# srun without PMIx starts processes that do not see each other; one sentence each, and nothing is created. The shell
# of a job starts the program alone, whatever SLURM_NTASKS says; mpirun starts other numbers of ranks.
launches() {
    local words=(prepare alone.h5 documents.jsonl --vocabulary 256) code=0
    x srun -n 2 --mpi=none env -u SLURM_NODELIST -u SLURM_JOB_NODELIST "$program" "${words[@]}" \
        > singletons.txt 2>&1 || code=$?
    [ "$code" != 0 ]
    [ ! -e alone.h5 ]
    grep 'srun started 2 processes, but MPI sees 1 rank' singletons.txt || grep -i 'direct launched' singletons.txt
    cat > alone.sbatch <<END
#!/bin/bash
env | grep ^SLURM_ | sort
"$program" ${words[*]}
mpirun -n 2 --bind-to none "$program" prepare two.h5 documents.jsonl --vocabulary 256
END
    id=$(x sbatch --parsable -n 4 --output=alone.log alone.sbatch)
    ends COMPLETED
    cat alone.log
    cmp alone.h5 data.h5
    cmp two.h5 data.h5
}

# Three ranks share a sequence, so one of four ranks is not used.
whole_meshes() {
    training meshes "${apart[@]}" -- --sequence 3 --steps 3
    ends COMPLETED
    says meshes ': 3 ranks by srun, of 4, rounded down to a multiple of pipeline x sequence = 3'
}

check "refuses wrong input and jobs that do not fit" refusals
check "undisturbed" undisturbed "prepare" prepared
check "sweep over group sizes, one of them signalled" sweep \
    "evaluation over models x data x contexts" evaluation
check "a GPU for every rank, srun and mpirun" gpus \
    "ranks rounded down to whole meshes" whole_meshes
check "a job with GPUs insists on them" insists_on_gpus \
    "srun without PMIx, the shell of a job, mpirun" launches
finish
