#!/usr/bin/env bash
# install.sh [--tests] [--quiet | --check]: installs the packages of Debian 12 that building and the demo need, with apt
# alone. It prints each missing package and its purpose. If none is missing, it changes nothing and needs no root
# rights.
#   --tests  also the packages of Slurm, which some tests start
#   --quiet  prints only errors
#   --check  only prints the missing packages; exit code 1 if there are any
set -euo pipefail

packages="\
g++                     compiler
cmake                   configures the build
ninja-build             runs the build
pkg-config              finds MPI, HDF5, SentencePiece and the compression libraries
libopenmpi-dev          MPI: one process per device
openmpi-bin             mpirun
libhdf5-openmpi-dev     HDF5: token files and checkpoints
libsentencepiece-dev    Llama's tokenizer
sentencepiece           spm_train: makes the tokenizer of the demo model
libcli11-dev            command line and TOML options
nlohmann-json3-dev      config.json, safetensors headers, metrics
libdnnl-dev             oneDNN: matrix products on CPUs
ocl-icd-opencl-dev      OpenCL: CMake cannot find Debian's oneDNN without it; not used otherwise
libpcre2-dev            PCRE2: regular expressions of byte-level BPE tokenizers
libutf8proc-dev         utf8proc: normal forms and lower case of texts, for tokenizer.json
zlib1g-dev              reads .jsonl.gz
libzstd-dev             reads .jsonl.zst
libboost-test-dev       unit tests
gnuplot-nox             plots of runs and of the demo"
packages_for_tests="\
slurmctld               controller of Slurm, for tests of slurm/ on virtual nodes
slurmd                  node of Slurm
slurm-client            sbatch, srun, scancel, scontrol
munge                   credentials of Slurm
libpmix2                lets srun start MPI ranks
iproute2                finds free ports (ss)"

fail() { echo "install.sh: $1" >&2; exit 2; }

if [ "${1:-}" = --tests ]; then
    packages+=$'\n'$packages_for_tests
    shift
fi
mode=${1:-}
case $mode in
    '' | --quiet | --check) ;;
    *) fail "unknown option '$mode'; use --tests, --quiet, --check or nothing" ;;
esac
say() { [ "$mode" = --quiet ] || echo "$@"; }

command -v dpkg-query > /dev/null ||
    fail "this is not Debian; install these packages yourself: $(awk '{printf "%s ", $1}' <<< "$packages")"

missing=()
while read -r package reason; do
    # dpkg-query also lists a package that was removed but left its settings, so the status must be "installed".
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" != installed ]; then
        missing+=("$package")
        say "missing: $(printf '%-22s %s' "$package" "$reason")"
    fi
done <<< "$packages"

if [ ${#missing[@]} = 0 ]; then say "install.sh: everything is installed"; exit 0; fi
if [ "$mode" = --check ]; then exit 1; fi

as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null ||
        fail "installing needs root or sudo; ask an administrator for: apt-get install ${missing[*]}"
    as_root=(sudo)
fi
say "installing ${#missing[@]} packages with apt"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" > "$log" 2>&1 && return
    tail -20 "$log" >&2
    fail "'$*' failed; its last lines are above"
}
quietly apt-get update
quietly apt-get install -y --no-install-recommends "${missing[@]}"
say "install.sh: everything is installed"
