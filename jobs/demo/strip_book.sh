#!/usr/bin/env bash
# strip_book.sh FILE: prints a text of Project Gutenberg without the paragraphs that name Project Gutenberg, and without
# the credit of the transcribers at its top. Project Gutenberg's trademark terms ask for that when a text is passed on
# without its licence. The script does not parse the text: it keeps or drops whole paragraphs.
set -euo pipefail
if [ $# != 1 ] || [ ! -r "$1" ]; then echo "strip_book.sh: give one readable text file" >&2; exit 2; fi
exec perl -0777 -ne '
    s/\r\n/\n/g;
    s/\s*\*\*\*\s*\z/\n/;                                  # the rest of the end marker
    my @paragraphs = split /\n{2,}/;
    my $number = 0;
    print join("\n\n", grep {
        my $credit = $number++ < 12 && /^\s*\[?(Produced by|E-?text prepared by|Transcribed|This e-?(book|text) was)/i;
        /\S/ && !/gutenberg|pgdp|distributed proofread/i && !$credit
    } @paragraphs), "\n";' "$1"
