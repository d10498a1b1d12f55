#!/usr/bin/env python3
"""Makes the small tokenizers in this folder, and expected.json: the token ids that Hugging Face's `tokenizers` and
SentencePiece give for a list of texts, and the texts that `tokenizers` makes of its ids.

  pip install tokenizers sentencepiece
  make_tokenizers.py        (run in the repository; writes beside this file)
"""
import json, os
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
import sentencepiece

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..", "..")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
PRE = {
    "llama3": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
    "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                       pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "prefix": pre_tokenizers.ByteLevel(add_prefix_space=True),
}
TEXTS = ["", " ", "Hello world", "  two  spaces\n\n\nand lines\r\n\tand tabs ", "It's we'll THEY'RE I'd x'S",
         "1234567890 12,345.67 \u0663\u0664 x2y", "caf\u00e9 na\u00efve \u00fcber stra\u00dfe",
         "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 "
         "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
         "<|begin|>in<|end|><|end|> out <|end", "a" * 300, "the the the " * 40,
         "nul\0byte \u0085 \u00a0 \u2028 \u3000 end", "!!!??? ... --- ((())) \u201cquoted\u201d \u2014 dash",
         "\u00ad\u0301 e\u0301 \ufffd\ufeff", "ends with space ", "\n", "<s> is text </s>",
         "under_score camelCase HTTPServer"]


def main():
    books = os.path.join(ROOT, "jobs/demo/books/train")
    book = open(os.path.join(books, sorted(os.listdir(books))[0]), encoding="utf-8").read()[:200000]
    expected = {"texts": TEXTS}
    for name, pre in PRE.items():
        t = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
        t.pre_tokenizer = pre
        t.decoder = decoders.ByteLevel()
        t.train_from_iterator([book], trainers.BpeTrainer(
            vocab_size=640, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        if name == "llama3":  # a word that no merge makes, which only ignore_merges finds
            data = json.loads(t.to_str())
            data["model"]["vocab"]["Hello"] = 640
            t = Tokenizer.from_str(json.dumps(data))
        t.add_special_tokens([AddedToken("<|begin|>", special=True), AddedToken("<|end|>", special=True)])
        data = json.loads(t.to_str())
        if name == "digits":  # the older spelling of merges
            data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "tokenizer.json")
        json.dump(data, open(path, "w"), ensure_ascii=False)
        json.dump({"bos_token": "<|begin|>", "eos_token": {"content": "<|end|>"}},
                  open(os.path.join(folder, "tokenizer_config.json"), "w"))
        t = Tokenizer.from_file(path)
        expected[name] = [t.encode(x).ids for x in TEXTS]
        expected["decoded"] = expected.get("decoded", {})
        expected["decoded"][name] = [t.decode(ids) for ids in expected[name]]
    os.makedirs(os.path.join(HERE, "sentencepiece"), exist_ok=True)
    path = os.path.join(HERE, "sentencepiece", "tokenizer.model")
    # As Llama's tokenizer: BPE, bytes for unknown characters, single digits, no normalisation.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(book.splitlines()), model_writer=open(path, "wb"), vocab_size=600, model_type="bpe",
        byte_fallback=True, split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2)
    sp = sentencepiece.SentencePieceProcessor(model_file=path)
    expected["sentencepiece"] = [sp.encode(x) for x in TEXTS]
    json.dump(expected, open(os.path.join(HERE, "expected.json"), "w"))


main()
