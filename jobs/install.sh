#!/usr/bin/env bash
# install.sh [--tests] [--quiet | --check]: installs from Debian 12 what building and the demo need, and says what and why. Nothing but apt is used;
# when all is there it changes nothing and asks for no rights. --tests: also the Slurm that tests start. --check only says what is missing (exit code 1 if anything is).
set -euo pipefail

packages="\
g++                     compiler
cmake                   build description
ninja-build             build tool
pkg-config              finds MPI, HDF5, SentencePiece and the compression libraries
libopenmpi-dev          MPI: one process per device
openmpi-bin             mpirun
libhdf5-openmpi-dev     HDF5: token files and checkpoints
libsentencepiece-dev    Llama's tokenizer
sentencepiece           spm_train, for the demo model's tokenizer
libcli11-dev            command line and TOML options
nlohmann-json3-dev      config.json, safetensors headers, metrics
libdnnl-dev             oneDNN: matrix products on CPUs
ocl-icd-opencl-dev      OpenCL: Debian's oneDNN cannot be found without it; unused
libpcre2-dev            regular expressions of byte-level BPE tokenizers
zlib1g-dev              reads .jsonl.gz
libzstd-dev             reads .jsonl.zst
libboost-test-dev       unit tests
gnuplot-nox             plots of runs and of the demo"
packages_for_tests="\
slurmctld               Slurm's controller, for tests of slurm/ on virtual nodes
slurmd                  a node of it
slurm-client            sbatch, srun, scancel, scontrol
munge                   Slurm's credentials
libpmix2                how srun starts MPI ranks
iproute2                finds free ports (ss)"

fail() { echo "install.sh: $1" >&2; exit 2; }

if [ "${1:-}" = --tests ]; then
    packages+=$'\n'$packages_for_tests
    shift
fi
mode=${1:-}
case $mode in '' | --quiet | --check) ;; *) fail "unknown option '$mode'; use --tests, --quiet, --check or nothing" ;; esac
say() { [ "$mode" = --quiet ] || echo "$@"; }

command -v dpkg-query > /dev/null || fail "this is not Debian; install these by your own means: $(awk '{printf "%s ", $1}' <<< "$packages")"

missing=()
while read -r package reason; do
    # "installed", not merely known: a removed package whose settings remain is still listed
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" != installed ]; then
        missing+=("$package")
        say "missing: $(printf '%-22s %s' "$package" "$reason")"
    fi
done <<< "$packages"

if [ ${#missing[@]} = 0 ]; then say "install.sh: everything is installed"; exit 0; fi
if [ "$mode" = --check ]; then exit 1; fi

as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || fail "neither root nor sudo; ask an administrator for: apt-get install ${missing[*]}"
    as_root=(sudo)
fi
say "installing ${#missing[@]} packages with apt"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" > "$log" 2>&1 || { tail -20 "$log" >&2; fail "'$*' failed; its last lines are above"; }; }
quietly apt-get update
quietly apt-get install -y --no-install-recommends "${missing[@]}"
say "install.sh: everything is installed"
