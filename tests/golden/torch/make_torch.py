#!/usr/bin/env python3
"""Makes files that torch.save wrote, and expected.json with the tensors in them as this script knows them.

  pip install torch
  make_torch.py        (writes beside this file)

published/ is an adapter of tests/golden/mha as the LongLoRA repository publishes its own: adapter_model.bin from peft's
names, trainable_params.bin with embedding and norms under the model's names, and an embedding of one more row (the
padding token). The other files have one property each.
"""
import collections, json, os, pickle
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float64: "float64"}


def described(tensors):
    return {name: {"dtype": DTYPES[t.dtype], "shape": list(t.shape), "values": t.double().flatten().tolist()}
            for name, t in tensors.items()}


def save(name, value, **options):
    torch.save(value, os.path.join(HERE, name), **options)


def published():
    torch.manual_seed(1)
    config = json.load(open(os.path.join(HERE, "..", "mha", "config.json")))
    hidden, layers, rank = config["hidden_size"], config["num_hidden_layers"], 2
    lora, trained = {}, {}
    for layer in range(layers):
        for p in "qkvo":
            name = f"base_model.model.model.layers.{layer}.self_attn.{p}_proj."
            lora[name + "lora_A.weight"] = (torch.randn(rank, hidden) * 0.05).bfloat16()
            lora[name + "lora_B.weight"] = (torch.randn(hidden, rank) * 0.05).bfloat16()
        for norm in ("input_layernorm", "post_attention_layernorm"):
            trained[f"model.layers.{layer}.{norm}.weight"] = (1 + torch.randn(hidden) * 0.1).bfloat16()
    trained["model.norm.weight"] = (1 + torch.randn(hidden) * 0.1).bfloat16()
    trained["model.embed_tokens.weight"] = (torch.randn(config["vocab_size"] + 1, hidden) * 0.1).bfloat16()
    folder = os.path.join(HERE, "published")
    os.makedirs(folder, exist_ok=True)
    save("published/adapter_model.bin", lora)
    save("published/trainable_params.bin", trained)
    json.dump({"auto_mapping": None, "base_model_name_or_path": "mha", "bias": "none", "fan_in_fan_out": False,
               "inference_mode": True, "init_lora_weights": True, "layers_pattern": None, "layers_to_transform": None,
               "lora_alpha": 4, "lora_dropout": 0, "modules_to_save": None, "peft_type": "LORA", "r": rank,
               "revision": None, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
               "task_type": "CAUSAL_LM"}, open(os.path.join(folder, "adapter_config.json"), "w"), indent=2)


class Program:
    def __reduce__(self):
        return os.getcwd, ()


def main():
    published()
    base = torch.arange(24, dtype=torch.float32)
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.arange(p.numel()).reshape(p.shape) * 0.5)
    tensors = {"half": torch.tensor([0.5, -2, 3], dtype=torch.float16), "double": torch.tensor([[1.5], [2.5]]).double(),
               "bfloat": torch.tensor([1.0, -0.375]).bfloat16(), "view": base[3:7].view(2, 2), "other view": base[8:10],
               "scalar": torch.tensor(4.25), "empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(torch.ones(2))}
    save("tensors.bin", {**tensors, "step": 7, "rate": 0.1, "notes": ["a", None, True, (1, 2)], "far": 1 << 40})
    save("state_dict.bin", layer.state_dict())
    json.dump({"tensors.bin": described(tensors), "state_dict.bin": described(layer.state_dict())},
              open(os.path.join(HERE, "expected.json"), "w"), indent=1)
    save("transposed.bin", {"t": torch.arange(6.0).reshape(2, 3).t()})
    save("integers.bin", {"flags": torch.tensor([True, False])})
    save("old_format.bin", {"a": torch.ones(2)}, _use_new_zipfile_serialization=False)
    save("program.bin", {"a": Program()})
    save("list.bin", [torch.ones(2)])


main()
