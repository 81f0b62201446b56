"""Benchmarks by lm-evaluation-harness and by `porism measure run`, on the same weights and the same rows, item by item.

    pip install lm_eval==0.4.13 torch transformers datasets
    porism convert MODEL.gguf -o FOLDER --to f32
    python benches/compare_harness.py --porism target/release/porism --folder FOLDER --data DIR [--limit 200] \\
        [--tasks arc_challenge,hellaswag,mmlu,gsm8k] [--shots K] [--chat] [--batch 8] [--int8 MODEL.gguf] >> results.jsonl

DIR holds the data in the layout `TASK/[CONFIG/]SPLIT.jsonl`, rows as the hub has them. For each task it prints a line of
JSON: items, prompts that differ, the largest difference of a choice's log-likelihood, decisions that differ where the
harness's margin is more than 2e-3 (and less), answers whose text differs, seconds of each program without loading the
model, and both programs' means. With --int8 the time of that file in int8 is taken too, in turn.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

# This folder has a profile.py, which would stand before Python's own.
sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import lm_eval
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

ROOT = pathlib.Path(lm_eval.__file__).parent / "tasks"
MARGIN = 2e-3
SUBJECTS = [
    "abstract_algebra", "anatomy", "college_biology", "formal_logic", "high_school_geography", "machine_learning",
    "moral_scenarios", "professional_law", "us_foreign_policy", "virology",
]
# The seven parts of MATH, and how the harness's files are called.
MATH = {
    "algebra": "algebra", "counting_and_probability": "counting_and_prob", "geometry": "geometry",
    "intermediate_algebra": "intermediate_algebra", "number_theory": "num_theory", "prealgebra": "prealgebra",
    "precalculus": "precalc",
}
# Task: the harness's file, folder of the data, split that is measured, split of worked examples.
TASKS = {
    "arc_easy": ("arc/arc_easy.yaml", "ai2_arc/ARC-Easy", "test", "train"),
    "arc_challenge": ("arc/arc_challenge.yaml", "ai2_arc/ARC-Challenge", "test", "train"),
    "hellaswag": ("hellaswag/hellaswag.yaml", "hellaswag", "validation", "train"),
    "openbookqa": ("openbookqa/openbookqa.yaml", "openbookqa/main", "test", "train"),
    "boolq": ("super_glue/boolq/default.yaml", "boolq", "validation", "train"),
    "gsm8k": ("gsm8k/gsm8k.yaml", "gsm8k/main", "test", "train"),
    "gsm8k_cot": ("gsm8k/gsm8k-cot.yaml", "gsm8k/main", "test", None),
}


def harness_task(folder, name, file, data, measured, examples):
    """The harness's own task on local rows."""
    files = {measured: str(data / f"{measured}.jsonl")}
    if examples and (data / f"{examples}.jsonl").exists():
        files[examples] = str(data / f"{examples}.jsonl")
    config = {
        "include": str(ROOT / file),
        "task": f"local_{name}",
        "tag": None,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
    }
    for key, split in (("training_split", "train"), ("validation_split", "validation"), ("test_split", "test")):
        config[key] = split if split in files else None
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return f"local_{name}"


def parts(task):
    """A task's parts: the harness's files and where the rows are. Of MMLU ten subjects."""
    if task == "hendrycks_math":
        name = "hendrycks_math/hendrycks_math_{}.yaml"
        return {f"{task}_{s}": (name.format(file), f"{task}/{s}", "test", "train") for s, file in MATH.items()}
    if task != "mmlu":
        file, data, measured, examples = TASKS[task]
        return {task: (file, data, measured, examples)}
    return {f"mmlu_{s}": (f"mmlu/default/mmlu_{s}.yaml", f"mmlu/{s}", "test", "dev") for s in SUBJECTS}


def ours(arguments, task, model, activations, limit, log):
    """Runs porism; its report, its rows, and its own seconds."""
    command = [arguments.porism, "measure", "run", "-m", model, "--data", arguments.data, "--activations", activations]
    command += ["--json", "--log", str(log)]
    if limit:
        command += ["--limit", str(limit)]
    if arguments.shots is not None:
        command += ["--fewshot", str(arguments.shots)]
    if arguments.chat:
        command.append("--chat")
    if task == "mmlu":
        # The built-in task with ten of its subjects.
        shown = subprocess.run([arguments.porism, "measure", "run", "--show", "mmlu"], check=True, capture_output=True, text=True)
        begin, end = shown.stdout.index("configs = ["), shown.stdout.index("]", shown.stdout.index("configs = ["))
        own = log.parent / "mmlu.toml"
        own.write_text(shown.stdout[:begin] + "configs = " + json.dumps(SUBJECTS) + shown.stdout[end + 1 :])
        command.append(str(own))
    else:
        command.append(task)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows = {}
    for line in log.read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row["task"], []).append(row)
    # Generated answers are logged as they end, which is not in order.
    for found in rows.values():
        if found[0]["stop_reason"] is not None:
            found.sort(key=lambda row: int(row["id"]))
    return json.loads(done.stdout), rows


def compare(theirs, rows):
    """What differs between the harness's samples of a part and our rows."""
    found = {"items": 0, "prompts_differ": 0, "largest": 0.0, "decisions_differ": 0, "close_calls": 0, "texts_differ": 0}
    found["metrics_differ"] = 0
    for sample in theirs:
        row = rows[sample["doc_id"]]
        found["items"] += 1
        found["prompts_differ"] += sample["arguments"][0][0] != row["prompt"]
        if row["stop_reason"] is None:
            logs = [float(answer[0][0]) for answer in sample["resps"]]
            found["largest"] = max([found["largest"]] + [abs(a - b) for a, b in zip(logs, row["loglikelihoods"])])
            best = max(range(len(logs)), key=lambda i: logs[i])
            order = sorted(logs, reverse=True)
            if best != row["answer"]:
                found["decisions_differ" if order[0] - order[1] > MARGIN else "close_calls"] += 1
        else:
            found["texts_differ"] += sample["resps"][0][0] != row["response"]
        for key in ("acc", "acc_norm", "exact_match"):
            if key in sample:
                name = key if sample["filter"] == "none" else f"{key},{sample['filter']}"
                found["metrics_differ"] += abs(float(sample[key]) - row["metrics"][name]) > 1e-9
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--porism", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--tasks", default="arc_challenge,hellaswag,mmlu,gsm8k")
    parser.add_argument("--shots", type=int)
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--batch", default="8")
    parser.add_argument("--int8")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    batch = arguments.batch if arguments.batch == "auto" else int(arguments.batch)
    model = HFLM(pretrained=arguments.folder, dtype="float32", device="cpu", batch_size=batch)
    for task in arguments.tasks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            limit = arguments.limit
            files = parts(task)
            if limit:
                limit = max(1, limit // len(files))
            names = {
                harness_task(folder, name, file, pathlib.Path(arguments.data) / data, measured, examples): name
                for name, (file, data, measured, examples) in files.items()
            }
            report, rows = ours(arguments, task, arguments.folder, "f32", limit, folder / "f32.jsonl")
            line = {"task": task, "shots": arguments.shots, "chat": arguments.chat, "porism_f32_s": report["seconds"]}
            if arguments.int8:
                report8, _ = ours(arguments, task, arguments.int8, "int8", limit, folder / "int8.jsonl")
                line["porism_int8_s"] = report8["seconds"]
            begun = time.perf_counter()
            result = simple_evaluate(
                model,
                tasks=list(names),
                num_fewshot=arguments.shots,
                limit=limit,
                task_manager=TaskManager(include_path=str(folder)),
                apply_chat_template=arguments.chat,
                fewshot_as_multiturn=arguments.chat,
                log_samples=True,
                bootstrap_iters=0,
            )
            line["harness_s"] = time.perf_counter() - begun
            line["batch"] = batch
            total = {}
            for name, samples in result["samples"].items():
                found = compare(samples, rows[names[name]])
                for key, value in found.items():
                    total[key] = max(total.get(key, 0), value) if key == "largest" else total.get(key, 0) + value
            line.update(total)
            line["porism"] = {name: mean["value"] for name, mean in report["results"][task]["metrics"].items()}
            print(json.dumps(line), flush=True)


main()
