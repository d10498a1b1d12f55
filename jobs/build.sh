#!/usr/bin/env bash
# build.sh [PRESET [TARGET...]]: configures and builds (preset release, everything). Use cmake and ninja directly for anything else.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
preset=${1:-release}
cd "$root" || exit
output=$(cmake --preset "$preset" 2>&1) || { echo "$output" >&2; fail "configuring failed; its output is above"; }
targets=("${@:2}")
cmake --build "build/$preset" -j "$(num_compilers)" ${targets[@]+--target "${targets[@]}"}
