#!/usr/bin/env python3
"""Makes bytes/tokenizer.json, a byte-level tokenizer without merges; fallback/tokenizer.json, the SentencePiece model
of this folder as converters write it; and details.json: changes to the tokenizers of this folder and to the files
beside them, texts, the token ids that other programs give, and the text that they make of these ids.

  pip install tokenizers transformers sentencepiece protobuf
  make_details.py        (writes beside this file; make_tokenizers.py comes first)

A case has "base", a folder here; "set", new values in its tokenizer.json by JSON pointer; "files", the files beside it;
"texts"; "ids", with those around the texts; "decoded", their text without special tokens; "source", the program that
gave both.
"""
import copy, json, os, random, shutil, tempfile
import sentencepiece, tokenizers, transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))


def token(content, id=None, **flags):
    flags = dict(dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=False), **flags)
    return dict({} if id is None else {"id": id}, content=content, **flags)


def template(*pieces, **ids):
    return {"type": "TemplateProcessing", "pair": [],
            "single": [{"Sequence": {"id": "A", "type_id": 0}} if p == "$A" else
                       {"SpecialToken": {"id": p, "type_id": 0}} for p in pieces],
            "special_tokens": {name: {"id": name, "ids": value, "tokens": [name] * len(value)}
                               for name, value in ids.items()}}


def split(pattern):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}


def normalizer(*parts):
    return {"/normalizer": {"type": "Sequence", "normalizers": list(parts)}}


def random_texts(seed, count):
    """Texts of characters that normal forms, cases and classes treat differently, and of any characters."""
    r = random.Random(seed)
    some = ["a", "B", "e\u0301", "\u00e9", "\u0323", "\u0301", "\u212b", "\u2126", "\ufb01", "\u00bd", "\u2163",
    "\u1e9b",
            "\u0130", "\u03a3", "\u01c5", "\u1100", "\u1161", "\u11a8", "\uac01", "\u0958", "\u0344", "\u2adc",
            "\U0001d538",
            " ", "  ", "\n", "\u00a0", "\u3000", "\u2581", "<0x41>", "</s>", "the ", " of", "1", "\u0663", "!",
            "\u65e5",
            "\U0001f642", "\u200d", "\u07fd", "\u0d3b", "\u32ff", "\U00011938", "\U00011935\U00011930", "\U0001e130",
            "\u1c89", "\ua7dc", "\U00010d50", "\U00016ea0", "\U000105c9\u0307"]
    texts = []
    for _ in range(count):
        top = r.choice([0x300, 0x3000, 0x11000, 0x20000, 0x110000])
        anything = [chr(c) for c in (r.randrange(top) for _ in range(8)) if not 0xd800 <= c < 0xe000]
        texts.append("".join(r.choice(some if r.random() < 0.7 else anything or some) for _ in range(r.randrange(14))))
    return texts


AB_BC = {"/model/vocab/ab": 256, "/model/vocab/bc": 257, "/model/merges": [["a", "b"], ["b", "c"]]}
LATIN = {"/model/vocab/b": None}  # the vocabulary has no byte "b"
ENDS = {"/added_tokens": [token("<bos>", 256, special=True), token("<eos>", 257, special=True)]}
BOS = dict(ENDS, **{"/post_processor": template("<bos>", "$A", **{"<bos>": [256]})})
METASPACE = {"/normalizer": None, "/pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581",
                                                     "prepend_scheme": "first", "split": False}}
CHATML = {"added_tokens_decoder": {"600": token("<|im_start|>", special=True),
                                   "601": token("<|im_end|>", special=True)}}
CHAT = ["<|im_start|>user hello<|im_end|>out", "a<|im_start|>", "<|im_end|><|im_end|>x <|im_end|>", "<s>a</s>b", "no"]


def added(*tokens, texts):
    return ("bytes", {"/added_tokens": list(tokens)}, {}, texts)


def llama(texts=CHAT, added_file=None, **config):
    files = {"tokenizer_config.json": dict({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                                            "tokenizer_class": "LlamaTokenizer"}, **config)}
    if added_file:
        files["added_tokens.json"] = added_file
    return ("sentencepiece", {}, files, texts)


def config(**values):
    return {"tokenizer_config.json": values}


CASES = {
    # fields of the model
    "unknown token": ("bytes", {**LATIN, "/model/unk_token": "u", "/model/vocab/u": 117}, {}, ["abc", "bb", "b", "bu"]),
    "unknown tokens fused": ("bytes", {**LATIN, "/model/unk_token": "u", "/model/fuse_unk": True}, {},
                             ["abbbc", "bb bb", "b"]),
    "no unknown token": ("bytes", LATIN, {}, ["abc", "bb", "a"]),
    "merges": ("bytes", AB_BC, {}, ["abc", "bcabc"]),
    "a merge listed twice": ("bytes", {**AB_BC, "/model/merges": [["a", "b"], ["b", "c"], ["a", "b"]]}, {}, ["abc"]),
    "old merges with a version": ("bytes", {**AB_BC, "/model/merges": ["#version: 0.2", "a b", "b c"]}, {}, ["abc"]),
    "ignore_merges and a literal entry": ("bytes", {"/model/vocab/\u65e5\u672c": 256, "/model/vocab/abc": 257,
                                                    "/model/ignore_merges": True}, {}, ["\u65e5\u672c", "abc", "abcd"]),
    # pre-tokenizers
    "split at a literal with \\E": ("bytes", {"/pre_tokenizer": split({"String": "\\E"}), "/model/vocab/a\\": 256,
                                              "/model/merges": [["a", "\\"]]}, {}, ["a\\Eb", "a\\b"]),
    "split at nothing": ("bytes", {**AB_BC, "/pre_tokenizer": split({"String": ""})}, {}, ["ab", "\u65e5ab"]),
    "empty matches cut": ("bytes", {**AB_BC, "/pre_tokenizer": split({"Regex": "x*"})}, {}, ["abxxab", "xab", "abx"]),
    "white space of Oniguruma": ("bytes", {**AB_BC, "/pre_tokenizer": split({"Regex": "a\\s"})}, {},
                                 ["a\u180eb", "a\u0085b", "a\u3000b", "a\x1cb"]),
    # added tokens
    "leftmost, then longest": added(token("abc", 256), token("ab", 257), token("bcd", 258), token("cdef", 259),
                                    texts=["abcd", "xabcdef", "bcdef", "abab", "ab"]),
    "normalized tokens come second": added(token("ab", 256, normalized=True), token("bc", 257), token("cc", 258,
                                           normalized=True), texts=["abc", "abab", "abccc", "ccbcc"]),
    "single words": added(token("ab", 256, single_word=True), token("bb", 257),
                          texts=["ab", "xab ab", "ab.ab_", "\u00e9ab", "ab\u0301",
                                 "ab\u200d", "(ab)", "5ab ab5", "abb"]),
    "a discarded word hides shorter tokens": added(token("abc", 256, single_word=True), token("ab", 257),
                                                   texts=["abcd", "abc", "ab"]),
    "white space on the left": added(token("ab", 256, lstrip=True),
                                    texts=["x  ab", "  ab ab", "\u3000\tab", "\u180eab"]),
    "white space on the right": added(token("ab", 256, rstrip=True), token(" c", 257),
                                      texts=["ab  x", "ab ab", "ab  c", "ab c", "ab\u2028\n"]),
    "white space on both sides": added(token("ab", 256, lstrip=True, rstrip=True), token("cd", 257, lstrip=True),
                                       texts=[" ab ab ", "ab   cd", "cd  ab", "x cd ab"]),
    "white space that two tokens take": added(token("ab", 256, rstrip=True), token("  ", 257), token("\n\n", 258,
                                              lstrip=True), texts=["ab  x", "ab    x", "ab   ", "ab\n\nx", "x \n\n"]),
    "an added token of the vocabulary": added(token("a", 97, special=True), texts=["aXa"]),
    "named tokens of the vocabulary": ("bytes", {"/model/vocab/<pad>": 256}, config(pad_token="<pad>"), ["a<pad>b"]),
    "decoder beside tokenizer.json": ("bytes", {}, config(added_tokens_decoder={"256": token("ab", lstrip=True),
                                                                                "257": token("cd", special=True)}),
                                      ["x ab", "abcd", " cd"]),
    "added_tokens.json beside tokenizer.json": ("bytes", {}, {**config(), "added_tokens.json": {"ab": 256, "bc": 257}},
                                                ["abc", "xbc"]),
    # normalizers
    "NFC": ("bytes", normalizer({"type": "NFC"}), {}, random_texts(1, 60)),
    "NFD": ("bytes", normalizer({"type": "NFD"}), {}, random_texts(2, 40)),
    "NFKC": ("bytes", {"/normalizer": {"type": "NFKC"}}, {}, random_texts(3, 60)),
    "NFKD": ("bytes", normalizer({"type": "NFKD"}), {}, random_texts(4, 40)),
    "NFKC, then lower case": ("bytes", normalizer({"type": "NFKC"}, {"type": "Lowercase"}), {}, random_texts(5, 60)),
    "Replace": ("bytes", normalizer({"type": "Replace", "pattern": {"String": "aa"}, "content": "b"},
                                    {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": "__"},
                                    {"type": "Replace", "pattern": {"Regex": "c+"}, "content": ""}), {},
                ["aaa", "a  a\n", "xccx", "cc", "aaaa c aab", ""]),
    "added tokens in a normalized text": ("bytes", {
        **normalizer({"type": "NFKC"}, {"type": "Lowercase"}), "/added_tokens": [
            token("ABC", 256, normalized=True), token("Ab", 257), token("\u2163", 258, normalized=True,
                                                                       single_word=True)]}, {},
        ["abc ABC Ab", "xabcx", "\u2163", "iv", "xiv", "aBcAb"]),
    # BPE of characters, with tokens of bytes for what the vocabulary lacks
    "fallback": ("fallback", {}, {}, random_texts(6, 80) + ["Hello  world", " x", "", "a</s>b", "the<s> the"]),
    "fallback by Metaspace, first": ("fallback", METASPACE, {}, random_texts(7, 80) + [
        "Hello  world", " x", "", "a</s>b", "</s>b c", "\u2581x", "  "]),
    "fallback by Metaspace that cuts": ("fallback", dict(METASPACE, **{
        "/pre_tokenizer/split": True, "/pre_tokenizer/prepend_scheme": "always"}), {}, random_texts(8,
        40) + ["a b  c "]),
    "fallback, Metaspace as decoder": ("fallback", dict(METASPACE, **{"/decoder": {
        "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}}), {}, [
            "Hello  world", "  x y", "a</s>b", "\u65e5"]),
    "fallback, no decoder": ("fallback", {"/decoder": None}, {}, ["Hello  world", "a</s>b"]),
    "bytes that are missing": ("fallback", {"/model/vocab/<0xE6>": None}, {}, [
        "\u65e5", "a\u65e5\u8a9eb", "\u00e9\u65e5\u00e9 x", "\u65e5\u00e9"]),
    "bytes that are missing, unknown tokens not fused": ("fallback", {
        "/model/vocab/<0xE6>": None, "/model/fuse_unk": False}, {}, ["a\u65e5\u65e6b", "\u65e5\u00e9\u65e5x"]),
    "an added token that is normalized": ("fallback", {"/added_tokens/-": token("Hello", 600, normalized=True)}, {}, [
        "Hello", " Hello", "x Hello", "xHello", "</s>Hello"]),
    # ids around a text
    "template": ("bytes", BOS, {}, ["Hi", "<bos>Hi"]),
    "template, bos named": ("bytes", BOS, config(bos_token="<bos>"), ["Hi"]),
    "template, bos null": ("bytes", BOS, config(bos_token=None), ["Hi"]),
    "template, add_bos_token false": ("bytes", BOS, config(bos_token="<bos>", add_bos_token=False), ["Hi"]),
    "no template, add_bos_token false": ("bytes", ENDS, config(bos_token="<bos>", add_bos_token=False), ["Hi"]),
    "no template, add_bos_token true": ("bytes", ENDS, config(bos_token="<bos>", add_bos_token=True),
                                         ["Hi", "<bos>Hi"]),
    "no template, add_eos_token true": ("bytes", ENDS, config(bos_token="<bos>", eos_token="<eos>", add_eos_token=True),
                                        ["Hi"]),
    "no template, bos named": ("bytes", ENDS, config(bos_token="<bos>"), ["Hi", "<bos>Hi"]),
    "no template, bos null, bos_token_id": ("bytes", ENDS, {**config(bos_token=None),
                                                            "config.json": {"bos_token_id": 256}}, ["Hi"]),
    "a template of several ids": ("bytes", {**ENDS, "/post_processor": template(
        "<two>", "<bos>", "$A", "<eos>", **{"<two>": [65, 66], "<bos>": [256], "<eos>": [257]})}, {}, ["Hi"]),
    "a template in a Sequence": ("bytes", {**ENDS, "/post_processor": {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        BOS["/post_processor"]]}}, {}, ["Hi"]),
    "RobertaProcessing": ("bytes", {**ENDS, "/post_processor": {"type": "RobertaProcessing",
                                                                        "sep": ["<eos>", 257], "cls": [
        "<bos>", 256], "trim_offsets": True, "add_prefix_space": False}}, {}, ["Hi"]),
    # tokenizer.model
    "llama, decoder": llama(**CHATML, legacy=False, add_bos_token=True),
    "llama, decoder, legacy": llama(**CHATML, legacy=True, add_bos_token=False),
    "llama, no space in front": llama(**CHATML, add_prefix_space=False, add_bos_token=True, add_eos_token=True),
    "llama, added_tokens.json": llama(added_file={"<|im_start|>": 600, "<|im_end|>": 601}, legacy=False,
                                      add_bos_token=True),
    "llama, bos null": llama(bos_token=None, add_bos_token=True, texts=["Hi", "<s>Hi"]),
    "llama, named tokens only": llama(add_bos_token=False, texts=["a<s>b", "</s>", "x<unk>"]),
}


def set_value(json_value, pointer, value):
    keys = [k.replace("~1", "/").replace("~0", "~") for k in pointer.split("/")[1:]]
    for key in keys[:-1]:
        json_value = json_value[key]
    if keys[-1] == "-":
        json_value.append(value)
    elif value is None:
        del json_value[keys[-1]]
    else:
        json_value[keys[-1]] = value


def ids_of(folder, base, files, texts):
    if base == "sentencepiece":
        t = LlamaTokenizer.from_pretrained(folder)
    elif files:
        t = PreTrainedTokenizerFast.from_pretrained(folder)
    else:
        t = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        ids = [t.encode(x).ids for x in texts]
        return "tokenizers " + tokenizers.__version__, ids, [t.decode(x) for x in ids]
    ids = [t(x).input_ids for x in texts]
    return "transformers " + transformers.__version__, ids, [
        t.decode(x, skip_special_tokens=True, clean_up_tokenization_spaces=False) for x in ids]


def converted(path):
    """A SentencePiece model as the converters of transformers write it: its scores become ranks of merges."""
    model = sentencepiece.SentencePieceProcessor(model_file=path)
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    ids = {piece: i for i, piece in enumerate(pieces)}
    merges = [(a, b, model.get_score(i)) for i, piece in enumerate(pieces) if not model.is_byte(i)
              for a, b in sorted(((piece[:k], piece[k:]) for k in range(1, len(piece))
                                  if piece[:k] in ids and piece[k:] in ids), key=lambda m: (ids[m[0]], ids[m[1]]))]
    merges.sort(key=lambda m: m[2], reverse=True)
    t = Tokenizer(models.BPE(vocab=ids, merges=[m[:2] for m in merges], unk_token="<unk>", fuse_unk=True,
                             byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(content=" ", left=1)])
    t.add_special_tokens([p for i, p in enumerate(pieces) if model.is_control(i) or model.is_unknown(i)])
    data = json.loads(t.to_str())
    data["post_processor"] = template("<s>", "$A", **{"<s>": [1]})
    return data


def main():
    t = Tokenizer(models.BPE(vocab=dict(zip(byte_characters(), range(256))), merges=[]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    os.makedirs(os.path.join(HERE, "bytes"), exist_ok=True)
    t.decoder = decoders.ByteLevel()
    json.dump(json.loads(t.to_str()), open(os.path.join(HERE, "bytes", "tokenizer.json"), "w"))
    os.makedirs(os.path.join(HERE, "fallback"), exist_ok=True)
    json.dump(converted(os.path.join(HERE, "sentencepiece", "tokenizer.model")),
              open(os.path.join(HERE, "fallback", "tokenizer.json"), "w"))
    out = []
    for name, (base, changes, files, texts) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            for file in os.listdir(os.path.join(HERE, base)):
                shutil.copy(os.path.join(HERE, base, file), folder)
            if changes:
                data = json.load(open(os.path.join(folder, "tokenizer.json")))
                for pointer, value in changes.items():
                    set_value(data, pointer, copy.deepcopy(value))
                json.dump(data, open(os.path.join(folder, "tokenizer.json"), "w"))
            for file, value in files.items():
                json.dump(value, open(os.path.join(folder, file), "w"))
            source, ids, decoded = ids_of(folder, base, files, texts)
        out.append({"name": name, "source": source, "base": base, "set": changes, "files": files, "texts": texts,
                    "ids": ids, "decoded": decoded})
    with open(os.path.join(HERE, "details.json"), "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]\n")


def byte_characters():
    """For each byte, the character that stands for it in a byte-level vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


if __name__ == "__main__":
    main()
