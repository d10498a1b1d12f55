#!/usr/bin/env python3
"""Copies golden cases to this folder, without the arrays that the tests do not need. The cases are made with Hugging
Face transformers and peft by another script, make_golden.py. This script needs Python only.

  copy_golden.py GOLDEN        GOLDEN/CASE/... -> tests/golden/CASE/...

FULL cases keep every array, so that full fine-tuning is tested with untied weights, tied weights and bfloat16 files.
The other cases keep what differs between cases (rotary scaling, windows, documents, targets, shards): the model, the
adapter, input_ids, s2.logits, and s2.grad.* and trained.* except those of the embedding. Losses and norms of the dense,
merged and trained models are numbers in golden.json, which has "stripped": true in these cases.

The trained-adapter folders of the cases WITH_TRAINED_ADAPTER are for the tests of adapters and exports.
LONGLORA_GOLDEN=GOLDEN build/release/tests/test_model runs the tests on the complete set.
"""
import json, os, shutil, struct, sys

FULL = ("mha", "gqa-odd-tied", "wide-heads")
WITH_TRAINED_ADAPTER = ("mha", "gqa-odd-tied")


def kept(name):
    return name in ("input_ids", "s2.logits") or (
        name.startswith(("s2.grad.", "trained.")) and "embed_tokens" not in name)


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
                if os.path.isdir(path):
                    shutil.copytree(path, copy, copy_function=shutil.copyfile)
                else:
                    shutil.copyfile(path, copy)
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
