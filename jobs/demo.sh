#!/usr/bin/env bash
# demo.sh [--quick] [--ranks N] [--steps N] [--program FILE] [FOLDER=build/demo]: the whole path on a bare Debian 12, each command shown before it runs.
# Installs, builds, prepares the bundled books, extends the demo model's context from 512 to 4096 tokens, is interrupted and resumed on purpose, exports,
# and compares base, base with position interpolation, and extended model on held-out books. Made to take less than ten minutes on two cores.
#   --quick    a few steps and windows: shows that everything runs, the table means nothing
#   --ranks N  MPI ranks that share the cores (default 2)        --steps N  training steps of 8,192 tokens (default 120)
#   --program FILE  this longlora instead of installing and building
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

quick='' ranks=2 steps=120 program='' work=build/demo
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=yes ;;
        --ranks | --steps | --program) [ $# -ge 2 ] || fail "$1 needs a value"; declare "${1#--}=$2"; shift ;;
        -*) fail "unknown option '$1'; see the first lines of jobs/demo.sh" ;;
        *) work=$(realpath -m "$1") ;;
    esac
    shift
done
[ -z "$quick" ] || steps=6
[ -z "$program" ] || program=$(realpath "$program")
cd "$root" || exit
contexts=512,1024,2048,4096
mkdir -p "$work"
if [ -n "$(ls -A "$work")" ] && [ ! -f "$work/.longlora-demo" ]; then fail "'$work' holds other things; name a new or empty folder, or one of an earlier demo"; fi
touch "$work/.longlora-demo"
rm -rf "$work"/{train.h5,heldout.h5,run,extended,adapter,base.json,linear.json,extended.json,table.txt,perplexity.png,training.png}

started=$SECONDS
step() { printf '\n== %s  [%d s]\n' "$1" $((SECONDS - started)); }
show() { echo "\$ $*"; }
run() { show "$@"; "$@"; }
launch() { show "${launcher[@]}" "$@"; "${launcher[@]}" "$@"; }
launcher=(mpirun -n "$ranks")
export OMPI_MCA_orte_execute_quiet=1  # the exit code 75 of the interruption is no accident that mpirun should explain
[ "$ranks" != 1 ] || launcher=()

finished_steps() { if [ -f "$work/run/metrics.jsonl" ]; then number_of loss < "$work/run/metrics.jsonl" | wc -l; else echo 0; fi; }

# wait_for_steps N PID: until the run has finished N steps, or the program has ended
wait_for_steps() {
    while kill -0 "$2" 2> /dev/null; do
        [ "$(finished_steps)" -lt "$1" ] || return 0
        sleep 0.2
    done
}

# Training is stopped on purpose by SIGUSR1, what Slurm sends before the time limit: all ranks save a checkpoint and leave with code 75.
train_with_interruption() {
    local train=("$program" train --model jobs/demo/model --data "$work/train.h5" --run "$work/run" --context 4096 --method longlora --global-batch 2
        --steps "$steps" --lr 1e-3 --warmup 5 --schedule cosine --seed 1)
    show "${launcher[@]}" "${train[@]}"
    "${launcher[@]}" "${train[@]}" &
    local pid=$! code=0
    wait_for_steps $((steps / 3)) "$pid"
    kill -USR1 "$pid" 2> /dev/null || true
    wait "$pid" || code=$?
    if [ "$code" = 0 ]; then
        echo "The training was faster than the interruption."
    elif [ "$code" = 75 ] || { [ -f "$work/run/status.json" ] && [ "$(number_of exit_code < "$work/run/status.json")" = 75 ]; }; then  # mpirun may replace the code
        step "Interrupted after $(finished_steps) steps (exit code 75, checkpoint saved); the same command goes on from there"
        launch "${train[@]}"
    else
        fail "training ended with exit code $code"
    fi
}

# perplexity FILE CONTEXT: that number of an evaluate --json file
perplexity() { tr -d '\n' < "$1" | grep -o '{[^{}]*"perplexity"[^{}]*}' | grep -E "\"context\" *: *$2\b" | number_of perplexity; }

# table: one line a model, one column a context, from the three --json files
table() {
    local context name title row
    printf '%-34s' "perplexity at context"
    for context in ${contexts//,/ }; do printf '%10s' "$context"; done
    for name in base linear extended; do
        case $name in
            base) title="base model (context 512)" ;;
            linear) title="base + position interpolation" ;;
            *) title="extended with LongLoRA" ;;
        esac
        printf '\n%-34s' "$title"
        for context in ${contexts//,/ }; do row=$(perplexity "$work/$name.json" "$context"); printf '%10.1f' "$row"; done
    done
    printf '\n'
}

# draw_table: the three lines of table.txt as a plot with logarithmic axes
draw_table() {
    gnuplot <<GNUPLOT
set terminal pngcairo size 1300,700 font "sans,16" background "white"
set output "$work/perplexity.png"
\$data <<END
$(for context in ${contexts//,/ }; do echo "$context $(perplexity "$work/base.json" "$context") $(perplexity "$work/linear.json" "$context") $(perplexity "$work/extended.json" "$context")"; done)
END
stats \$data using 2:4 nooutput name "a"; stats \$data using 2:3 nooutput name "b"
low = (a_min_x < a_min_y ? a_min_x : a_min_y); low = (b_min_y < low ? b_min_y : low)
high = (a_max_x > a_max_y ? a_max_x : a_max_y); high = (b_max_y > high ? b_max_y : high)
set title "Perplexity of the demo model on held-out books"
set xlabel "context length (tokens)"; set ylabel "perplexity"
set logscale x 2; set logscale y
set xrange [460:4600]; set xtics (${contexts//,/, })
set yrange [low / 1.1:high * 1.1]
set ytics (10, 15, 20, 25, 30, 35, 40, 50, 60, 80, 100, 150, 200, 300, 500, 700, 1000, 2000, 3000, 5000, 10000)
set grid linecolor "#dddddd" linetype 1
set border 3; set tics nomirror; set key outside right center vertical reverse Left samplen 2 spacing 1.3 width -6
plot \$data using 1:2 with linespoints linewidth 3 pointtype 7 linecolor "#d55e00" title "base model", \
     \$data using 1:3 with linespoints linewidth 3 pointtype 5 linecolor "#999999" title "base + position interpolation", \
     \$data using 1:4 with linespoints linewidth 3 pointtype 9 pointsize 1.5 linecolor "#0072b2" title "extended with LongLoRA"
GNUPLOT
}

if [ -z "$program" ]; then
    step "Install what is missing"
    run jobs/install.sh
    started=$SECONDS  # the ten minutes count from here
    step "Build"
    run jobs/build.sh release longlora
    program=build/release/longlora
fi
[ -f jobs/demo/model/model.safetensors ] || fail "jobs/demo/model has no weights; jobs/demo/make_model.sh makes them"

step "Text to token files"
launch "$program" prepare "$work/train.h5" jobs/demo/books/train --tokenizer jobs/demo/model/tokenizer.model
launch "$program" prepare "$work/heldout.h5" jobs/demo/books/heldout --tokenizer jobs/demo/model/tokenizer.model

step "Extend the context from 512 to 4096 tokens: position interpolation by 8, shifted sparse attention, LoRA with embeddings and norms"
train_with_interruption
run jobs/plot_run.sh "$work/run" "$work/training.png"

step "Export: a whole Hugging Face model, and an adapter for PEFT"
run "$program" export "$work/run" "$work/extended" --format hf --dtype float32
run "$program" export "$work/run" "$work/adapter" --format peft

step "Evaluate on held-out books, always with dense attention"
evaluate=(evaluate --data "$work/heldout.h5" --context "$contexts" ${quick:+--windows 2})
launch "$program" "${evaluate[@]}" --model jobs/demo/model --json "$work/base.json"
launch "$program" "${evaluate[@]}" --model jobs/demo/model --rope linear --rope-factor 8 --json "$work/linear.json"
launch "$program" "${evaluate[@]}" --model "$work/extended" --json "$work/extended.json"

step "Result${quick:+ (--quick: too little training and too few windows to mean anything)}"
table | tee "$work/table.txt"
draw_table
cat <<END

$work/table.txt        this table
$work/perplexity.png   the table drawn
$work/training.png     loss, gradient norm and learning rate of the training
$work/run              the run: checkpoints, metrics.jsonl, manifest.json
$work/extended         the extended model, for any Hugging Face tool
$work/adapter          the same as a PEFT adapter of jobs/demo/model
$((SECONDS - started)) seconds after installation
END
