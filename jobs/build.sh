#!/usr/bin/env bash
# build.sh [PRESET [TARGET...]]: configures and builds. Without arguments it builds everything with preset "release".
# For anything else use cmake and ninja directly.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
preset=${1:-release}
cd "$root" || exit
output=$(cmake --preset "$preset" 2>&1) || {
    echo "$output" >&2
    fail "configuring failed; the output of cmake is above"
}
targets=("${@:2}")
cmake --build "build/$preset" -j "$(num_compilers)" ${targets[@]+--target "${targets[@]}"}
