"""What each way of tuning learns from a real instruction set, at the best of a few learning rates and the same tokens.

    python benches/tune_quality.py --porism target/release/porism --model FOLDER --mbpp mbpp.jsonl --other wiki.txt \\
        [--methods lora,full,qlora,dora,rslora,pissa] [--steps 120] [--batch 4] [--length 512] --rows results.jsonl

mbpp.jsonl has the 974 tasks of MBPP (Austin et al. 2021) with `task_id`, `text`, `code` and `test_list`: 601 to 974 are learned from,
511 to 600 are watched, as the paper splits them. Each task becomes a chat: the description with its tests, and the code. For each
method and learning rate a line of JSON: trained parameters, validation loss before and after, tokens per second, peak memory,
perplexity of another text before and after (what was forgotten). QLoRA's base is the folder as `porism convert --to nf4
--double-quant` writes it. Rows that the file has already are not run again. At the end a Markdown table of each method's best rate.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile

RATES = {
    "lora": [5e-4, 1e-3, 2e-3],
    "full": [2e-5, 5e-5, 1e-4],
    "qlora": [5e-4, 1e-3, 2e-3],
    "dora": [5e-4, 1e-3, 2e-3],
    "rslora": [5e-4, 1e-3],
    "pissa": [2e-4, 5e-4],
}


def write(path, tasks):
    with open(path, "w") as out:
        for task in tasks:
            asked = task["text"] + "\nYour code should pass these tests:\n" + "\n".join(task["test_list"])
            chat = [{"role": "user", "content": asked}, {"role": "assistant", "content": task["code"].replace("\r\n", "\n")}]
            out.write(json.dumps({"messages": chat}) + "\n")


def perplexity(a, model, adapter=None):
    command = [a.porism, "measure", "perplexity", a.other, "-m", model, "--chunks", str(a.chunks), "--json"]
    command += ["--adapter", adapter] if adapter else []
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["perplexity"]


def base(a, method, folder, known):
    """The model that a method begins with, and its perplexity: made and measured once."""
    kind = "nf4" if method == "qlora" else "as it is"
    if kind not in known:
        model = a.model
        if kind == "nf4":
            model = str(folder / "nf4")
            subprocess.run([a.porism, "convert", a.model, "-o", model, "--to", "nf4", "--double-quant"], check=True)
        known[kind] = model, perplexity(a, model)
    return known[kind]


def tune(a, method, rate, data, folder, known):
    variant = method if method in ("rslora", "dora", "pissa") else "lora"
    kind = method if method in ("full", "qlora") else "lora"
    out = folder / f"{method}-{rate}"
    model, begun = base(a, method, folder, known)
    command = [a.porism, "tune", "--method", kind, "-m", model, "--data", str(data), "--output", str(out), "--lr", str(rate)]
    command += ["--steps", str(a.steps), "--batch", str(a.batch), "--length", str(a.length), "--schedule", "cosine"]
    command += ["--warmup", str(a.steps // 10), "--checkpoint-every", "0", "--validate-every", "0"]
    if kind != "full":
        command += ["--variant", variant]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    before, after = [float(word.rstrip(",")) for word in ran.stdout.splitlines()[0].split() if word[0].isdigit()]
    trainable = next(line for line in ran.stderr.splitlines() if line.startswith("trainable"))
    if kind == "full":
        forgotten = perplexity(a, str(out / "model"))
    else:
        forgotten = perplexity(a, model, str(out))
    shutil.rmtree(out)
    return {
        "method": method, "lr": rate, "steps": a.steps, "batch": a.batch, "length": a.length,
        "trained": int(trainable.split()[1].replace(",", "")), "loss_before": before, "loss_after": after,
        "tokens_per_second": statistics.median(row["tokens_per_second"] for row in log),
        "peak_rss_bytes": max(row["peak_rss_bytes"] for row in log),
        "perplexity_before": begun, "perplexity_after": forgotten,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--porism", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mbpp", required=True)
    parser.add_argument("--other", required=True)
    parser.add_argument("--rows", required=True, type=pathlib.Path)
    parser.add_argument("--methods", default=",".join(RATES))
    for name, value in {"steps": 120, "batch": 4, "length": 512, "chunks": 8}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    tasks = [json.loads(line) for line in open(a.mbpp)]
    settings = {"steps": a.steps, "batch": a.batch, "length": a.length}
    done = {}
    for line in a.rows.read_text().splitlines() if a.rows.exists() else []:
        row = json.loads(line)
        if settings.items() <= row.items():
            done[row["method"], row["lr"]] = row
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data = folder / "mbpp"
        data.mkdir()
        write(data / "train.jsonl", [task for task in tasks if 601 <= task["task_id"] <= 974])
        write(data / "valid.jsonl", [task for task in tasks if 511 <= task["task_id"] <= 600])
        best, known = [], {}
        for method in a.methods.split(","):
            for rate in RATES[method]:
                if (method, rate) not in done:
                    done[method, rate] = tune(a, method, rate, data, folder, known)
                    with a.rows.open("a") as out:
                        out.write(json.dumps(done[method, rate]) + "\n")
            best.append(min((done[method, rate] for rate in RATES[method]), key=lambda row: row["loss_after"]))
    print("| method | trained | lr | validation loss | tokens/s | peak, GB | perplexity of other text |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in best:
        print(
            f"| {row['method']} | {row['trained']:,} | {row['lr']:g} | {row['loss_before']:.4f} to {row['loss_after']:.4f} "
            f"| {row['tokens_per_second']:.0f} | {row['peak_rss_bytes'] / 1e9:.2f} "
            f"| {row['perplexity_before']:.2f} to {row['perplexity_after']:.2f} |"
        )


main()
