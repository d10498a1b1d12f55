#!/usr/bin/env bash
# plot_run.sh RUN [OUT.png]: plots loss, gradient norm and learning rate of each step of a run from its metrics.jsonl.
# The default of OUT.png is RUN/metrics.png.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -ge 1 ] || fail "give the run folder to plot: plot_run.sh RUN [OUT.png]"
[ -s "$1/metrics.jsonl" ] || fail "there is no $1/metrics.jsonl; give the --run folder of a training"
command -v gnuplot > /dev/null || fail "gnuplot is not installed; run jobs/install.sh"
out=${2:-$1/metrics.png}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
awk -v OFS='\t' '
    function number(name) {
        if (!match($0, "\"" name "\"[ ]*:[ ]*[-+.0-9eE]+")) return "nan"
        return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0
    }
    /"step"/ && /"loss"/ { print number("step"), number("loss"), number("grad_norm"), number("learning_rate") }
    ' "$1/metrics.jsonl" > "$scratch/steps.tsv"
[ -s "$scratch/steps.tsv" ] || fail "$1/metrics.jsonl has no finished step yet"

gnuplot <<GNUPLOT
set terminal pngcairo size 1200,1000 font "sans,14" background "white"
set output "$out"
set datafile separator "\t"
set multiplot layout 3,1 margins 0.11,0.97,0.08,0.94 spacing 0.06
unset key
set grid linecolor "#dddddd" linetype 1
set border 3; set tics nomirror
set style line 1 linecolor "#0072b2" linewidth 2
set title "$(basename "$(realpath "$1")")" noenhanced
set format x ""; unset xlabel
set ylabel "loss (nats per token)"; plot "$scratch/steps.tsv" using 1:2 with lines linestyle 1
unset title
set ylabel "gradient norm"; plot "" using 1:3 with lines linestyle 1
set format x "%g"; set format y "%.1e"; set xlabel "step"
set ylabel "learning rate"; plot "" using 1:4 with lines linestyle 1
unset multiplot
GNUPLOT
echo "$out"
