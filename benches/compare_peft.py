"""Training by PEFT on PyTorch and by `porism tune`, on the same weights and the same rows in the same order.

    pip install peft torch transformers
    porism convert MODEL.gguf -o FOLDER --to f32
    python benches/compare_peft.py --porism target/release/porism --folder FOLDER --data TEXT.txt \\
        [--method lora|full] [--checkpointing] [--recompute none|all] [--steps 50] [--batch 4] [--length 256] [--lr 2e-4] \\
        [--rank 16] [--alpha 32] [--model MODEL] [--rounds 1] >> results.jsonl

TEXT.txt is cut into rows; each program tokenizes them itself. LoRA is on q, k, v and o, from the same initial A and B. Both
programs run in turn, each in a process of its own, on two threads. It prints a line of JSON: tokens per second without
loading, the peak of physical memory, the losses of both, and the largest difference between them. --model gives porism
another file than the folder, a quantized one for example; losses are then not the same.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

# This folder has a profile.py, which would stand before Python's own.
sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


def rows(text, count, length):
    """Rows that have more than so many tokens each, by a generous guess of six characters a token."""
    size = 6 * length
    return [text[i * size : (i + 1) * size] for i in range(count)]


def peer(a):
    """One PEFT run, in this process: prints what it measured."""
    import resource

    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(a.folder)
    model = AutoModelForCausalLM.from_pretrained(a.folder, dtype=torch.float32)
    if a.method == "lora":
        config = LoraConfig(r=a.rank, lora_alpha=a.alpha, target_modules=TARGETS, lora_dropout=0.0, task_type="CAUSAL_LM")
        model = get_peft_model(model, config) if a.make else PeftModel.from_pretrained(model, a.adapter, is_trainable=True)
        if a.make:
            model.save_pretrained(a.adapter)
            return
    if a.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if a.method == "lora":
            model.enable_input_require_grads()
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=a.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    lines = [json.loads(line)["text"] for line in open(a.data)]
    losses, seconds = [], []
    for step in range(a.steps):
        texts = lines[step * a.batch : (step + 1) * a.batch]
        ids = torch.tensor([tokenizer(text)["input_ids"][: a.length] for text in texts])
        begun = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - begun)
        losses.append(loss.item())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rate = a.batch * a.length / statistics.median(seconds)
    print(json.dumps({"tokens_per_second": rate, "peak_rss_bytes": peak, "losses": losses}))


def ours(a, data, adapter, output):
    command = [a.porism, "tune", "--method", a.ours, "-m", a.model or a.folder, "--data", str(data), "--output", str(output)]
    command += ["--steps", str(a.steps), "--batch", str(a.batch), "--length", str(a.length), "--lr", str(a.lr)]
    command += ["--packing", "off", "--no-shuffle", "--recompute", a.recompute, "--validation", "0", "--threads", str(a.threads)]
    command += ["--checkpoint-every", "0"]
    if a.method == "lora":
        command += ["--rank", str(a.rank), "--alpha", str(a.alpha), "--targets", ",".join(TARGETS), "--init-adapter", str(adapter)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return {
        "tokens_per_second": statistics.median(row["tokens_per_second"] for row in log),
        "peak_rss_bytes": max(row["peak_rss_bytes"] for row in log),
        "losses": [row["loss"] for row in log],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--porism")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model")
    parser.add_argument("--method", default="lora", choices=["lora", "full"])
    parser.add_argument("--ours", help="porism's own method, qlora for example")
    parser.add_argument("--recompute", default="none")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    for name, value in {"steps": 50, "batch": 4, "length": 256, "rank": 16, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--alpha", type=float, default=32)
    parser.add_argument("--adapter")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--make", action="store_true")
    a = parser.parse_args()
    if a.peer:
        peer(a)
        return
    a.ours = a.ours or a.method
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data, adapter = folder / "train.jsonl", folder / "adapter"
        text = pathlib.Path(a.data).read_text()
        data.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows(text, a.steps * a.batch, a.length)))
        same = ["--peer", "--folder", a.folder, "--data", str(data), "--adapter", str(adapter), "--method", a.method]
        same += [f"--{name}={getattr(a, name)}" for name in ("steps", "batch", "length", "rank", "threads", "lr", "alpha")]
        same = [sys.executable, __file__] + same + (["--checkpointing"] if a.checkpointing else [])
        if a.method == "lora":
            subprocess.run(same + ["--make"], check=True)
        for index in range(a.rounds):
            line = {"method": a.method, "ours": a.ours, "recompute": a.recompute, "checkpointing": a.checkpointing}
            line.update({name: getattr(a, name) for name in ("steps", "batch", "length", "lr", "rank", "alpha", "threads")})
            line["model"] = pathlib.Path(a.model or a.folder).name
            line["porism"] = ours(a, data, adapter, folder / f"out{index}")
            line["peft"] = json.loads(subprocess.run(same, check=True, capture_output=True, text=True).stdout)
            pairs = list(zip(line["porism"]["losses"], line["peft"]["losses"]))
            line["largest_difference"] = max(abs(x - y) for x, y in pairs)
            line["speed"] = line["porism"]["tokens_per_second"] / line["peft"]["tokens_per_second"]
            line["memory"] = line["porism"]["peak_rss_bytes"] / line["peft"]["peak_rss_bytes"]
            print(json.dumps(line), flush=True)


main()
