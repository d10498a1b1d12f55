#!/usr/bin/env bash
# demo_files.sh: the files bundled with the demo are small and have no lines with trademarks, and
# jobs/demo/strip_book.sh removes exactly these lines.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
failures=0
complain() { echo "error: $1"; failures=$((failures + 1)); }
bytes() { find "$1" -type f -exec cat {} + | wc -c; }

[ "$(bytes jobs/demo/books)" -le 3000000 ] || complain "the bundled books take more than 3 MB"
[ "$(bytes jobs/demo/model)" -le 8000000 ] || complain "the demo model takes more than 8 MB"
! grep -rliE 'gutenberg|distributed proofread' jobs/demo/books --include='*.txt' ||
    complain "the books above name Project Gutenberg"
for file in jobs/demo/books/*/*.txt; do
    grep -q "| ${file#jobs/demo/books/} |" jobs/demo/books/README.md ||
        complain "jobs/demo/books/README.md does not list $file"
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
printf '%b' '\n\nProduced by A. Person and PG Distributed\nProofreaders\n\n\n\nTITLE\n\n  indented\nline\n\n\n' \
    'This was produced by hand.\n\nEnd of the Project Gutenberg EBook of X\nby Y\n\n*** ' > "$scratch/book.txt"
printf 'TITLE\n\n  indented\nline\n\nThis was produced by hand.\n' > "$scratch/expected.txt"
jobs/demo/strip_book.sh "$scratch/book.txt" | diff - "$scratch/expected.txt" ||
    complain "strip_book.sh does not give the expected text"
[ $failures = 0 ]
