#!/usr/bin/env bash
# demo.sh [--quick] [--ranks N] [--steps N] [--program FILE] [FOLDER=build/demo]
#
# Shows everything on a bare Debian 12, and prints each command before it runs. It installs packages, builds, prepares
# the bundled books, extends the demo model's context from 512 to 4096 tokens, interrupts and resumes the training on
# purpose, and exports the result. At the end it compares three models on held-out books: base, base with position
# interpolation, and extended. It takes less than ten minutes on two cores after the installation.
#
#   --quick         a few steps and windows: shows that everything runs; the numbers in the table mean nothing
#   --ranks N       number of MPI ranks, which share the cores (default 2)
#   --steps N       number of training steps of 8,192 tokens (default 120)
#   --program FILE  uses this longlora instead of installing and building
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
if [ -n "$(ls -A "$work")" ] && [ ! -f "$work/.longlora-demo" ]; then
    fail "'$work' holds other files; name a new or empty folder, or the folder of an earlier demo"
fi
touch "$work/.longlora-demo"
rm -rf "$work"/{train.h5,heldout.h5,run,extended,adapter} "$work"/{base,linear,extended}.json "$work/table.txt" \
    "$work"/{perplexity,training}.png

started=$SECONDS
step() { printf '\n== %s  [%d s]\n' "$1" $((SECONDS - started)); }
show() { echo "\$ $*"; }
run() { show "$@"; "$@"; }
launch() { show "${launcher[@]}" "$@"; "${launcher[@]}" "$@"; }
launcher=(mpirun -n "$ranks")
export OMPI_MCA_orte_execute_quiet=1  # mpirun prints no explanation of exit code 75, which the interruption causes
[ "$ranks" != 1 ] || launcher=()

# finished_steps: prints how many steps the run has finished
finished_steps() {
    if [ -f "$work/run/metrics.jsonl" ]; then number_of loss < "$work/run/metrics.jsonl" | wc -l; else echo 0; fi
}

# wait_for_steps N PID: waits until the run has finished N steps or the program has ended
wait_for_steps() {
    while kill -0 "$2" 2> /dev/null; do
        [ "$(finished_steps)" -lt "$1" ] || return 0
        sleep 0.2
    done
}

# train_with_interruption: trains, and on the way stops the training by SIGUSR1, the signal that Slurm sends before the
# time limit. All ranks save a checkpoint and exit with code 75; then the same command resumes.
train_with_interruption() {
    local train=("$program" train --model jobs/demo/model --data "$work/train.h5" --run "$work/run" --context 4096
        --method longlora --global-batch 2 --steps "$steps" --lr 1e-3 --warmup $((steps > 5 ? 5 : steps / 2))
        --schedule cosine --seed 1)
    show "${launcher[@]}" "${train[@]}"
    "${launcher[@]}" "${train[@]}" &
    local pid=$! code=0
    wait_for_steps $((steps / 3)) "$pid"
    kill -USR1 "$pid" 2> /dev/null || true
    wait "$pid" || code=$?
    if [ "$code" = 0 ]; then
        echo "The training ended before it could be interrupted."
    elif [ "$code" = 75 ] || { [ -f "$work/run/status.json" ] &&  # mpirun may have replaced the exit code
        [ "$(number_of exit_code < "$work/run/status.json")" = 75 ]; }; then
        step "Interrupted after $(finished_steps) steps (exit code 75, checkpoint saved); the same command resumes"
        launch "${train[@]}"
    else
        fail "training ended with exit code $code"
    fi
}

# perplexity FILE CONTEXT: prints the perplexity at CONTEXT from a file of evaluate --json
perplexity() {
    tr -d '\n' < "$1" | grep -o '{[^{}]*"perplexity"[^{}]*}' | grep -E "\"context\" *: *$2\b" | number_of perplexity
}

# table: prints a table from the three --json files, with one line per model and one column per context
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
        for context in ${contexts//,/ }; do
            row=$(perplexity "$work/$name.json" "$context")
            printf '%10.1f' "$row"
        done
    done
    printf '\n'
}

# draw_table: plots the table with logarithmic axes, one line per model
draw_table() {
    local context name rows=''
    for context in ${contexts//,/ }; do
        rows+=$context
        for name in base linear extended; do rows+=" $(perplexity "$work/$name.json" "$context")"; done
        rows+=$'\n'
    done
    rows=${rows%$'\n'}
    gnuplot <<GNUPLOT
set terminal pngcairo size 1300,700 font "sans,16" background "white"
set output "$work/perplexity.png"
\$data <<END
$rows
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
set style line 1 linewidth 3 pointtype 7 linecolor "#d55e00"
set style line 2 linewidth 3 pointtype 5 linecolor "#999999"
set style line 3 linewidth 3 pointtype 9 pointsize 1.5 linecolor "#0072b2"
plot \$data using 1:2 with linespoints linestyle 1 title "base model", \
     \$data using 1:3 with linespoints linestyle 2 title "base + position interpolation", \
     \$data using 1:4 with linespoints linestyle 3 title "extended with LongLoRA"
GNUPLOT
}

if [ -z "$program" ]; then
    step "Install missing packages"
    run jobs/install.sh
    started=$SECONDS  # the time is counted from here
    step "Build"
    run jobs/build.sh release longlora
    program=build/release/longlora
fi
[ -f jobs/demo/model/model.safetensors ] || fail "jobs/demo/model has no weights; make them by jobs/demo/make_model.sh"

step "Prepare: make token files from texts"
launch "$program" prepare "$work/train.h5" jobs/demo/books/train --tokenizer jobs/demo/model/tokenizer.model
launch "$program" prepare "$work/heldout.h5" jobs/demo/books/heldout --tokenizer jobs/demo/model/tokenizer.model

step "Train: extend the context from 512 to 4096 tokens (position interpolation by 8, S2-Attn, LoRA, embeddings, norms)"
train_with_interruption
run jobs/plot_run.sh "$work/run" "$work/training.png"

step "Export: a merged Hugging Face model and a PEFT adapter"
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
$work/perplexity.png   plot of the table
$work/training.png     plot of loss, gradient norm and learning rate of the training
$work/run              run folder: checkpoints, metrics.jsonl, manifest.json
$work/extended         extended model, for any Hugging Face tool
$work/adapter          the same model as a PEFT adapter of jobs/demo/model
$((SECONDS - started)) seconds after installation
END
