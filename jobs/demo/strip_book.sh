#!/usr/bin/env bash
# strip_book.sh FILE: a Project Gutenberg text on stdout without the lines that name Project Gutenberg and without the transcribers' credit at
# its top. Its trademark terms ask for that when a text travels without its licence. Not a parser: paragraphs are kept or dropped whole.
set -euo pipefail
if [ $# != 1 ] || [ ! -r "$1" ]; then echo "strip_book.sh: give one readable text file" >&2; exit 2; fi
exec perl -0777 -ne '
    s/\r\n/\n/g;
    s/\s*\*\*\*\s*\z/\n/;                                  # what is left of the end marker
    my @paragraphs = split /\n{2,}/;
    my $number = 0;
    print join("\n\n", grep {
        my $credit = $number++ < 12 && /^\s*\[?(Produced by|E-?text prepared by|Transcribed|This e-?(book|text) was)/i;
        /\S/ && !/gutenberg|pgdp|distributed proofread/i && !$credit
    } @paragraphs), "\n";' "$1"
