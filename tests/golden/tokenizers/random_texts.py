#!/usr/bin/env python3
"""Writes texts, the ids that the library `tokenizers` gives them, more ids, and the texts of all these ids, for
tests/bench/tokenizer_bench.cpp.

  pip install tokenizers numpy
  random_texts.py TOKENIZER.json OUT_FOLDER COUNT|FILE...
  tokenizer_bench TOKENIZER.json OUT_FOLDER/texts OUT_FOLDER/ids OUT_FOLDER/decoded

COUNT random texts, or the texts of files. Behind the ids of random texts stand as many records of random ids.
"""
import os, random, struct, sys
import numpy
from tokenizers import Tokenizer

PARTS = ["a", "b", "c", "ab", "bc", "abc", " ", "  ", "\n", "\r\n", "\t", "'s", "'S", "'ll", "\u017f", "'\u017f",
         "\u212a", "<s>",
         "</s>", "<unk>", "<|begin_of_text|>", "<|im_start|>", "<|endoftext|>", "[INST]", "Hello", "hello", "1", "12",
         "1234", "\u0663", "\u2167", "\u00bd", "\u00b2", "\u00e9", "e\u0301", "\u65e5\u672c", "\u8a9e", "\U0001f642",
         "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u200d", "\u200b", "\u00a0", "\u180e", "\u0085", "\u2028",
         "\u3000", "\x1c", "\x00",
         "_", "-", "...", "!?", "\u00df", "\ufb01", "\u0130", "\u01c6", "\u03a3", "\ufffd", "\ufeff", "\u0627",
         "\u0915\u094d\u0937",
         "\u0e44\u0e17\u0e22", "Word", "HTTP", " the", " of", "\u0301", "\u0323", "\u20dd", "\U0001d538",
         "\U000e0001", "\u2581",
         "x\u2581y", "<0x0A>", "<0xE2>", "\u0120", "\u1100\u1161\u11a8", "\ud55c", "\u212b", "\u0344", "\u0958",
         "\u2126"]


def random_text(r):
    kind = r.random()
    if kind < 0.45:
        top = r.choice([0x300, 0x3000, 0x11000, 0x20000, 0x110000])
        codes = (r.randrange(top) for _ in range(r.randrange(1, 30)))
        return "".join(chr(c) for c in codes if not 0xd800 <= c < 0xe000)
    if kind < 0.95:
        return "".join(r.choice(PARTS) for _ in range(r.randrange(1, 25)))
    return r.choice(PARTS) * r.randrange(1, 60)


def write(path, records):
    with open(path, "wb") as file:
        for record in records:
            file.write(struct.pack("<I", len(record)) + bytes(record))


def main():
    path, folder, what = sys.argv[1], sys.argv[2], sys.argv[3:]
    tokenizer, r = Tokenizer.from_file(path), random.Random(1)
    count = int(what[0]) if len(what) == 1 and what[0].isdigit() else 0
    texts = [random_text(r) for _ in range(count)] or [open(f, encoding="utf-8", errors="replace").read() for f in what]
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    size = tokenizer.get_vocab_size()
    ids += [[r.choice(ids[i] or [0]) if r.random() < 0.5 else r.randrange(size) for _ in range(10)]
            for i in range(count)]
    os.makedirs(folder, exist_ok=True)
    write(os.path.join(folder, "texts"), [text.encode() for text in texts])
    with open(os.path.join(folder, "ids"), "wb") as file:
        for record in ids:
            file.write(struct.pack("<I", len(record)) + numpy.asarray(record, "<i4").tobytes())
    write(os.path.join(folder, "decoded"), [tokenizer.decode(record).encode() for record in ids])


main()
