"""Rows and a table from what `porism measure run --json` printed for several models.

    python benches/scores.py NAME=FILE.json [NAME=FILE.json ...] > benches/results/DATE-scores.jsonl

Files of one name belong together. Rows go to stdout, the Markdown table to stderr.
"""

import json
import sys

SHOWN = {
    "arc_challenge": ["acc_norm", "acc"],
    "hellaswag": ["acc_norm"],
    "mmlu": ["acc"],
    "gsm8k": ["exact_match,strict-match", "exact_match,flexible-extract"],
}


def main():
    models = {}
    for argument in sys.argv[1:]:
        name, path = argument.split("=", 1)
        with open(path) as file:
            report = json.load(file)
        for task, found in report["results"].items():
            row = {"model": name, "task": task, "items": found["items"], "activations": report["activations"]}
            row.update({key: report[key] for key in ("kv_type", "context")})
            row.update({"fewshot": found["fewshot"], "truncated": found["truncated"], "seconds": found["seconds"]})
            row["metrics"] = found["metrics"]
            if found.get("stop_reasons"):
                row["stop_reasons"] = found["stop_reasons"]
            print(json.dumps(row))
            models.setdefault(name, {})[task] = row
    columns = [(task, metric) for task, metrics in SHOWN.items() for metric in metrics]
    lines = ["| model | " + " | ".join(f"`{task}` {metric}" for task, metric in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for name, tasks in models.items():
        cells = []
        for task, metric in columns:
            row = tasks.get(task)
            if row is None or metric not in row["metrics"]:
                cells.append("-")
                continue
            mean = row["metrics"][metric]
            low, high = mean["interval"]["low"], mean["interval"]["high"]
            cells.append(f"{100 * mean['value']:.1f} ({100 * low:.1f} to {100 * high:.1f}) of {row['items']}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    print("\n".join(lines), file=sys.stderr)


main()
