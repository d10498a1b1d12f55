#!/usr/bin/env python3
"""Copies golden cases made by make_golden.py (Hugging Face transformers + peft) here, without what the tests can do without.

  copy_golden.py GOLDEN        GOLDEN/CASE/... -> tests/golden/CASE/...   (beside this script; needs Python alone)

FULL cases keep every array, so that full fine-tuning is checked with untied and tied embeddings and with bfloat16 files. The others keep what differs from
case to case (rotary scaling, windows, documents, targets, shards): the model, the adapter, input_ids, s2.logits, s2.grad.* and trained.* but the embedding's;
losses and norms of dense, merged and trained models are numbers in golden.json, which says "stripped": true.
The trained-adapter folders of WITH_TRAINED_ADAPTER are there for the tests of adapters and exports.
The complete set runs with LONGLORA_GOLDEN=GOLDEN build/release/tests/test_model.
"""
import json, os, shutil, struct, sys

FULL = ("mha", "gqa-odd-tied", "wide-heads")
WITH_TRAINED_ADAPTER = ("mha", "gqa-odd-tied")


def kept(name):
    return name in ("input_ids", "s2.logits") or (name.startswith(("s2.grad.", "trained.")) and "embed_tokens" not in name)


def strip_arrays(source, target):
    with open(source, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        body = f.read()
    out, data = {}, b""
    for name in sorted(n for n in header if n != "__metadata__" and kept(n)):
        begin, end = header[name]["data_offsets"]
        out[name] = dict(header[name], data_offsets=[len(data), len(data) + end - begin])
        data += body[begin:end]
    text = json.dumps(out).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def main():
    golden, here = sys.argv[1], os.path.dirname(os.path.abspath(__file__))
    for case in sorted(os.listdir(golden)):
        source, target = os.path.join(golden, case), os.path.join(here, case)
        if not os.path.isdir(source):
            continue
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(target)
        for name in sorted(os.listdir(source)):
            if name == "trained-adapter" and case not in WITH_TRAINED_ADAPTER:
                continue
            path, copy = os.path.join(source, name), os.path.join(target, name)
            if case in FULL or name not in ("golden.json", "golden.safetensors"):
                shutil.copytree(path, copy, copy_function=shutil.copyfile) if os.path.isdir(path) else shutil.copyfile(path, copy)
            elif name == "golden.json":
                with open(path) as f:
                    values = json.load(f)
                with open(copy, "w") as f:
                    json.dump(dict(values, stripped=True), f, indent=1)
            else:
                strip_arrays(path, copy)
        for root, folders, _ in os.walk(target):
            os.chmod(root, 0o755)


if __name__ == "__main__":
    main()
