"""Writes expected.json beside this file: rotary frequencies and attention factors computed by transformers 5.23
(float32), and cos and sin at far positions computed by mpmath with 50 digits. Needs torch, transformers and mpmath. The
tests only read expected.json."""
import json
import pathlib

import mpmath
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

BASE = dict(model_type="llama", hidden_size=128, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
            vocab_size=32)
YARN = dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=512)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192)
CASES = {  # rope parameters, max_position_embeddings, number of tokens (0: not given), other keys
    "default": (dict(rope_type="default", rope_theta=500000.0), 2048, 0, {}),
    "linear": (dict(rope_type="linear", factor=3.5), 2048, 0, {}),
    "dynamic short": (dict(rope_type="dynamic", factor=4.0), 512, 300, {}),
    "dynamic long": (dict(rope_type="dynamic", factor=4.0), 512, 1777, {}),
    "dynamic other": (dict(rope_type="dynamic", factor=2.0, rope_theta=1e6), 4096, 100000, dict(head_dim=64)),
    "yarn": (YARN, 4096, 0, {}),
    "yarn not truncated": (dict(YARN, truncate=False), 4096, 0, dict(head_dim=64)),
    "yarn betas": (dict(YARN, beta_fast=16.0, beta_slow=2.0, rope_theta=1e6), 4096, 0, dict(head_dim=64)),
    "yarn mscale": (dict(YARN, mscale=1.0, mscale_all_dim=0.8), 4096, 0, {}),
    "yarn one mscale": (dict(YARN, mscale=0.7), 4096, 0, {}),
    "yarn attention factor": (dict(YARN, attention_factor=1.25), 4096, 0, {}),
    "yarn without factor": (dict(YARN, factor=None), 8192, 0, {}),
    "yarn tiny original": (dict(YARN, original_max_position_embeddings=32, factor=4.0), 32, 0, dict(head_dim=16)),
    "yarn factor 1": (dict(YARN, factor=1.0), 512, 0, {}),
    "llama3": (dict(LLAMA3, rope_theta=500000.0), 131072, 0, dict(head_dim=64)),
    "llama3 other": (dict(LLAMA3, factor=32.0, low_freq_factor=0.5, high_freq_factor=8.0,
                          original_max_position_embeddings=1024), 4096, 0, {}),
}
expected = {"made_with": f"transformers {transformers.__version__}, mpmath {mpmath.__version__}",
            "frequencies": [], "far": []}
for name, (rope, positions, tokens, other) in CASES.items():
    config = dict(BASE, max_position_embeddings=positions, rope_parameters=dict({"rope_theta": 10000.0}, **rope),
                  **other)
    model = transformers.LlamaConfig(**json.loads(json.dumps(config)))
    kind = rope["rope_type"]
    if kind == "default":
        frequencies, factor = LlamaRotaryEmbedding.compute_default_rope_parameters(model)
    else:
        frequencies, factor = ROPE_INIT_FUNCTIONS[kind](model, None, seq_len=tokens or None)
    expected["frequencies"].append(dict(name=name, config=config, tokens=tokens, attention_factor=factor,
                                        frequencies=[float(f"{f:.9g}") for f in frequencies.tolist()]))

mpmath.mp.dps = 50
for theta, factor in [(10000, 1), (500000, 25)]:
    for position in [1, 65537, 99999, 131071, 1000003]:
        angles = [mpmath.mpf(position) / factor * mpmath.mpf(theta) ** (-mpmath.mpf(2 * i) / 8) for i in range(4)]
        expected["far"].append(dict(theta=theta, factor=factor, position=position,
                                    cos=[float(mpmath.cos(a)) for a in angles],
                                    sin=[float(mpmath.sin(a)) for a in angles]))
lines = ["{", f'"made_with": {json.dumps(expected["made_with"])},']
for key in ("frequencies", "far"):
    lines += [f'"{key}": [', ",\n".join(json.dumps(entry) for entry in expected[key]),
              "]" + ("," if key == "frequencies" else "")]
pathlib.Path(__file__).with_name("expected.json").write_text("\n".join(lines + ["}"]) + "\n")
