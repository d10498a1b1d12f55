#!/usr/bin/env bash
# layout.sh: lines have at most 120 columns and code files at most 400 lines. C++ and CUDA files look as clang-format
# leaves them, where version 14 is installed. Tables of Markdown and lists of test data may have longer lines.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
failures=0
complain() { echo "error: $1"; failures=$((failures + 1)); }

# files PATTERN...: the files with such names that people write; golden values, models and books are data.
files() {
    local names=(-name "$1")
    for pattern in "${@:2}"; do names+=(-o -name "$pattern"); done
    find . \( -path ./build -o -path ./.git -o -path ./tests/golden -o -path ./jobs/demo/books \
        -o -path ./jobs/demo/model \) -prune -o -type f \( "${names[@]}" \) -print
}
cpp=('*.h' '*.cpp' '*.cu' '*.cuh')
code=("${cpp[@]}" '*.c' '*.sh' '*.awk' '*.sbatch' '*.py')

while read -r line; do
    complain "$line columns; 120 are allowed"
done < <(files "${code[@]}" '*.md' '*.toml' CMakeLists.txt .clang-format site.env.example | xargs awk '
    length > 120 && !(FILENAME ~ /[.]md$/ && /^ *[|]/) { print FILENAME ":" FNR " has " length }')

while read -r lines file; do
    [ "$lines" -le 400 ] || [ "$file" = total ] || complain "$file has $lines lines; 400 are allowed"
done < <(files "${code[@]}" | xargs wc -l)

if command -v clang-format > /dev/null && clang-format --version | grep -q 'version 14\.'; then
    while read -r file; do
        complain "$file: 'clang-format -i $file' changes it"
    done < <(files "${cpp[@]}" | xargs clang-format --dry-run 2>&1 |
        sed -nE 's/^([^:]+):[0-9]+:[0-9]+: warning.*/\1/p' | sort -u)
else
    echo "skipped: the layout of C++ files, since clang-format 14 is not installed"
fi
[ $failures = 0 ]
