"""Log-likelihoods of a log of `porism measure run` and of PyTorch in f32, both against PyTorch in f64.

    pip install torch transformers
    python benches/likelihoods_in_f64.py FOLDER LOG.jsonl [COUNT] >> results.jsonl

FOLDER holds the model that the log was made with, in F32. The COUNT (24) least likely choices of the log are computed again: long
sums of logarithms, where rounding shows most. PyTorch's f32 runs one by one, and eight together as lm-evaluation-harness has
them. It prints a line of JSON: root mean square and largest difference from f64, of each.
"""

import json
import os
import sys

# This folder has a profile.py, which would stand before Python's own.
sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM

BATCH = 8


def likelihoods(model, items):
    """Log-likelihoods of the choices of (prompt, choice) in one batch, padded on the right."""
    tokens = torch.zeros(len(items), max(len(p) + len(c) - 1 for p, c in items), dtype=torch.long)
    for row, (prompt, choice) in zip(tokens, items):
        row[: len(prompt) + len(choice) - 1] = torch.tensor((prompt + choice)[:-1])
    with torch.no_grad():
        logs = torch.log_softmax(model(tokens).logits, dim=-1)
    parts = [log[len(p) - 1 : len(p) + len(c) - 1][range(len(c)), c] for log, (p, c) in zip(logs, items)]
    return [float(part.sum()) for part in parts]


def apart(values, exact):
    differences = [a - b for a, b in zip(values, exact)]
    return {
        "rms": (sum(d * d for d in differences) / len(differences)) ** 0.5,
        "largest": max(abs(d) for d in differences),
        "mean": sum(differences) / len(differences),
    }


def main():
    folder, log = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 24
    choices = []
    with open(log) as file:
        for row in map(json.loads, file):
            choices += [(value, row["prompt_tokens"], tokens) for value, tokens in zip(row["loglikelihoods"], row["tokens"])]
    choices = sorted(choices, key=lambda choice: choice[0])[:count]
    items = [(prompt, tokens) for _, prompt, tokens in choices]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    one = [likelihoods(model, [item])[0] for item in items]
    eight = [value for i in range(0, count, BATCH) for value in likelihoods(model, items[i : i + BATCH])]
    model = model.double()
    exact = [likelihoods(model, [item])[0] for item in items]
    values = {"porism": [value for value, _, _ in choices], "torch_f32": one, "torch_f32_batch": eight}
    print(json.dumps({"log": row["task"], "choices": count, **{name: apart(v, exact) for name, v in values.items()}}))


main()
