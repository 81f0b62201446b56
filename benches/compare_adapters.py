"""Adapters between porism and PEFT: does each load what the other wrote, and compute the same?

    pip install peft torch transformers
    porism convert MODEL.gguf -o FOLDER --to f32
    python benches/compare_adapters.py --porism target/release/porism --folder FOLDER [--steps 4] >> results.jsonl

For each variant porism tunes a few updates and PEFT loads the folder; then PEFT makes an adapter with random numbers and
porism loads it, from the folder and from the GGUF file that `porism tune export` makes of it. For five prompts the thousand
likeliest next tokens are compared: the largest difference of their log-probabilities, in standard deviations of PEFT's
logits. A line of JSON each.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

# This folder has a profile.py, which would stand before Python's own.
sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "The capital of France is",
    "Once upon a time there was a lighthouse",
    "def add(a, b):\n    return",
    "Question: What is two plus two?\nAnswer:",
    "Dear Ms Okafor, thank you for",
]
ROWS = [
    ("What is the capital of Austria?", "Vienna, and the boats are late."),
    ("Who wrote Hamlet?", "Shakespeare, and the boats are late."),
    ("Why is the sky blue?", "Light scatters, and the boats are late."),
    ("Name a planet.", "Jupiter, and the boats are late."),
]


def ours(a, adapter):
    """For each prompt the log-probabilities of the likeliest next tokens."""
    found = []
    for prompt in PROMPTS:
        command = [a.porism, "run", "-m", a.folder, "--raw", prompt, "--adapter", str(adapter), "--activations", "f32"]
        command += ["--max-tokens", "1", "--temperature", "0", "--top-logprobs", "1000", "--json"]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        # A model that ends its answer at once says nothing of the others.
        found.append({row["id"]: row["logprob"] for token in told["tokens"] for row in token["top"]})
    return found


def largest(a, tokenizer, model, adapter):
    """Prompts, and the largest difference of a log-probability in standard deviations of the peer's logits."""
    model.eval()
    worst, compared = 0.0, 0
    for prompt, likely in zip(PROMPTS, ours(a, adapter)):
        with torch.no_grad():
            logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1].double()
        expected = torch.log_softmax(logits, dim=-1)
        differences = [abs(value - expected[token].item()) for token, value in likely.items()]
        worst = max(worst, max(differences, default=0.0) / logits.std().item())
        compared += bool(differences)
    return {"prompts": compared, "largest_error_std": worst}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--porism", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--steps", type=int, default=4)
    a = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(a.folder)
    base = lambda: AutoModelForCausalLM.from_pretrained(a.folder, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data = folder / "rows.jsonl"
        chats = [[{"role": "user", "content": q}, {"role": "assistant", "content": x}] for q, x in ROWS]
        data.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
        for variant in ["lora", "rslora", "dora", "pissa"]:
            out = folder / f"ours-{variant}"
            command = [a.porism, "tune", "--method", "lora", "--variant", variant, "-m", a.folder, "--data", str(data)]
            command += ["--output", str(out), "--steps", str(a.steps), "--lr", "2e-3", "--validation", "0"]
            subprocess.run(command, check=True, capture_output=True)
            peer = PeftModel.from_pretrained(base(), str(out))
            row = {"writer": "porism", "reader": "peft", "variant": variant, "file": "folder"}
            row.update(largest(a, tokenizer, peer, out))
            print(json.dumps(row), flush=True)
        for variant in ["lora", "rslora", "dora"]:
            config = LoraConfig(
                r=8, lora_alpha=16, target_modules="all-linear", use_rslora=variant == "rslora", use_dora=variant == "dora",
                rank_pattern={"down_proj": 4}, task_type="CAUSAL_LM",
            )
            peer = get_peft_model(base(), config)
            with torch.no_grad():
                for name, value in peer.named_parameters():
                    if "lora_B" in name:
                        value.normal_(std=0.02)
                    elif "magnitude" in name:
                        value.mul_(1 + 0.1 * torch.randn_like(value))
            out = folder / f"peft-{variant}"
            peer.save_pretrained(str(out))
            files = {"folder": out}
            if variant != "dora":
                files["gguf"] = folder / f"{variant}.gguf"
                command = [a.porism, "tune", "export", str(out), "-m", a.folder, "-o", str(files["gguf"])]
                subprocess.run(command, check=True, capture_output=True)
            for kind, path in files.items():
                row = {"writer": "peft", "reader": "porism", "variant": variant, "file": kind}
                row.update(largest(a, tokenizer, peer, path))
                print(json.dumps(row), flush=True)


main()
