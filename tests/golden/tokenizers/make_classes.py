#!/usr/bin/env python3
"""Makes classes.json: folders with a tokenizer_class, texts, and the ids that AutoTokenizer of transformers 5 gives.

  pip install "transformers>=5" sentencepiece protobuf
  make_classes.py        (writes beside this file; make_tokenizers.py and make_details.py come first)

A case is like one of details.json (make_details.py). "base" may be several folders here, joined by "+". Where no file
says add_bos_token, longlora does not follow transformers 5, and the test compares the ids without it.
"""
import json, os, shutil, tempfile
import transformers
from transformers import AutoTokenizer

from make_details import set_value

HERE = os.path.dirname(os.path.abspath(__file__))


def token(content, **flags):
    return dict(dict(content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True),
                **flags)


NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
DECODER = {"added_tokens_decoder": {"0": token("<unk>"), "1": token("<s>"), "2": token("</s>"), "600": token("<|im|>")}}
OWN = {"/added_tokens/-": dict(id=600, **token("<|im|>"))}
METASPACE = {"/normalizer": None, "/pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581",
                                                     "prepend_scheme": "first", "split": False}}
BOTH = "sentencepiece+fallback"
PROSE = ["Hello there.", " the", "  the of", "\u2581the", "x<|im|>hello<|im|> and", "<|im|>the<s> x</s>  y", "<s>the",
         "the <unk> of", "\u65e5\u672c \U0001f642", "", " ", "\n the", "<|im|> <|im|>\u2581a"]
WORDS = ["Hello 1234 worlds  \n\nand 56", "they'LL  12 a1b", "  x", "e\u0301 \u00e9\u212b", "a<s>b"]


def llama(base=BOTH, changes=OWN, texts=PROSE, decoder=DECODER, model_type="llama", others={}, **config):
    files = {"tokenizer_config.json": {**NAMES, **decoder, **config}, **others}
    if model_type:
        files["config.json"] = {"model_type": model_type}
    return (base, changes, files, texts)


def words(tokenizer_class, changes={}, base="digits", **config):
    return (base, changes, {"tokenizer_config.json": {"tokenizer_class": tokenizer_class, **config},
                            "config.json": {"model_type": "llama"}}, WORDS)


def level(**flags):
    return {"type": "ByteLevel", **dict(dict(add_prefix_space=False, trim_offsets=True, use_regex=True), **flags)}


MODEL = dict(base="sentencepiece", changes={})
CASES = {
    # both files
    "both, LlamaTokenizer, not legacy": llama(tokenizer_class="LlamaTokenizer", legacy=False),
    "both, LlamaTokenizer": llama(tokenizer_class="LlamaTokenizer", model_type=None),
    "both, LlamaTokenizer, legacy": llama(tokenizer_class="LlamaTokenizer", legacy=True),
    "both, LlamaTokenizerFast, add_prefix_space false": llama(tokenizer_class="LlamaTokenizerFast",
                                                              add_prefix_space=False, legacy=False),
    "both, LlamaTokenizer, add_bos_token false": llama(tokenizer_class="LlamaTokenizer", add_bos_token=False),
    "both, LlamaTokenizer, no template": llama(tokenizer_class="LlamaTokenizer", add_bos_token=True,
                                               changes={**OWN, "/post_processor": None}),
    "both, CodeLlamaTokenizer": llama(tokenizer_class="CodeLlamaTokenizer", legacy=False),
    "both, PreTrainedTokenizerFast": llama(tokenizer_class="PreTrainedTokenizerFast", legacy=False),
    "both, PreTrainedTokenizerFast, Metaspace": llama(tokenizer_class="PreTrainedTokenizerFast",
                                                      changes={**OWN, **METASPACE}),
    "both, TokenizersBackend": llama(tokenizer_class="TokenizersBackend"),
    "both, no class": llama(),
    "both, LlamaTokenizer of a mistral": llama(tokenizer_class="LlamaTokenizer", legacy=False, model_type="mistral"),
    "both, class in config.json": llama(model_type=None, others={"config.json": {
        "model_type": "llama", "tokenizer_class": "LlamaTokenizer"}}),
    "both, LlamaTokenizer, few merges": llama(tokenizer_class="LlamaTokenizer", changes={**OWN, "/model/merges": [
        ["\u2581", "t"], ["h", "e"]]}),
    "both, LlamaTokenizer, a normalizer": llama(tokenizer_class="LlamaTokenizer", changes={
        **OWN, "/normalizer": {"type": "Lowercase"}}),
    "both, LlamaTokenizer, fields of the model": llama(tokenizer_class="LlamaTokenizer", changes={
        **OWN, "/model/byte_fallback": False, "/model/fuse_unk": False, "/model/ignore_merges": True}),
    "both, LlamaTokenizer, no decoder": llama(tokenizer_class="LlamaTokenizer", decoder={}),
    "both, LlamaTokenizer, no names": llama(tokenizer_class="LlamaTokenizer", decoder={}, bos_token=None),
    "both, no tokenizer_config.json": (BOTH, OWN, {"config.json": {"model_type": "llama"}}, PROSE),
    "tokenizer.json, LlamaTokenizer": llama("fallback", tokenizer_class="LlamaTokenizer"),
    # tokenizer.model alone
    "model, LlamaTokenizer": llama(**MODEL, tokenizer_class="LlamaTokenizer", add_bos_token=True),
    "model, LlamaTokenizer, legacy": llama(**MODEL, tokenizer_class="LlamaTokenizer", legacy=True, add_bos_token=True),
    "model, LlamaTokenizer, not legacy": llama(**MODEL, tokenizer_class="LlamaTokenizer", legacy=False,
                                               add_bos_token=False, add_eos_token=True),
    "model, LlamaTokenizer, add_prefix_space false": llama(**MODEL, tokenizer_class="LlamaTokenizer",
                                                           add_prefix_space=False, add_bos_token=True),
    "model, CodeLlamaTokenizer": llama(**MODEL, tokenizer_class="CodeLlamaTokenizer", add_bos_token=True),
    "model, no class": llama(**MODEL, add_bos_token=True),
    "model, no class, not legacy": llama(**MODEL, legacy=False, add_bos_token=True),
    "model, LLaMATokenizer": llama(**MODEL, tokenizer_class="LLaMATokenizer", add_bos_token=True),
    "model, PreTrainedTokenizerFast": llama(**MODEL, tokenizer_class="PreTrainedTokenizerFast", add_bos_token=True),
    "model, LlamaTokenizer of a mistral": llama(**MODEL, tokenizer_class="LlamaTokenizer", model_type="mistral",
                                                add_bos_token=True),
    "model, added_tokens.json": ("sentencepiece", {}, {"added_tokens.json": {"<|im|>": 600}, "config.json": {
        "model_type": "llama"}}, PROSE),
    "model, special_tokens_map.json": ("sentencepiece", {}, {"special_tokens_map.json": NAMES, "config.json": {
        "model_type": "llama"}}, PROSE),
    "model, add_bos_token not said": llama(**MODEL, tokenizer_class="LlamaTokenizer"),
    # byte-level BPE
    "GPT2Tokenizer, digits": words("GPT2Tokenizer"),
    "GPT2TokenizerFast, add_prefix_space in tokenizer.json": words("GPT2TokenizerFast", {
        "/pre_tokenizer": level(add_prefix_space=True)}),
    "GPT2Tokenizer, add_prefix_space": words("GPT2Tokenizer", add_prefix_space=True),
    "GPT2Tokenizer, no pattern": words("GPT2Tokenizer", {"/pre_tokenizer": level(use_regex=False)}),
    "GPT2Tokenizer, a normalizer": words("GPT2Tokenizer", {"/normalizer": {"type": "NFC"}}),
    "PreTrainedTokenizerFast, digits": words("PreTrainedTokenizerFast"),
    "LlamaTokenizerFast, digits": words("LlamaTokenizerFast"),
    "Qwen2Tokenizer": words("Qwen2Tokenizer"),
    "Qwen2TokenizerFast, add_prefix_space": words("Qwen2TokenizerFast", add_prefix_space=True),
}


def main():
    out = []
    for name, (base, changes, files, texts) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            for part in base.split("+"):
                for file in os.listdir(os.path.join(HERE, part)):
                    shutil.copy(os.path.join(HERE, part, file), folder)
            if changes:
                data = json.load(open(os.path.join(folder, "tokenizer.json")))
                for pointer, value in changes.items():
                    set_value(data, pointer, value)
                json.dump(data, open(os.path.join(folder, "tokenizer.json"), "w"))
            for file, value in files.items():
                json.dump(value, open(os.path.join(folder, file), "w"))
            t = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            ids = [t(x).input_ids for x in texts]
            decoded = [t.decode(x, skip_special_tokens=True, clean_up_tokenization_spaces=False) for x in ids]
        out.append({"name": name, "source": f"transformers {transformers.__version__}, {type(t).__name__}",
                    "base": base, "set": changes, "files": files, "texts": texts, "ids": ids, "decoded": decoded})
    with open(os.path.join(HERE, "classes.json"), "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]\n")


main()
