#!/usr/bin/env python3
"""porism and llama.cpp on one machine, in turn, row by row.

The two alternate within one run, since on a shared machine only figures taken side by side can be compared. A row is
a test of one model (see plan.json beside this file). In every round each row starts three programs one after the
other, another one first each time: llama.cpp without and with flash attention, and porism, each in a process of its
own whose peak memory the system tells (ru_maxrss); the way of llama.cpp that is a fifth slower than the other is not
run again. Every figure is a line of JSON in the output; what a program cannot
run is a line with its error. At the end, or later with --summarize, the rows become tables: medians over all rounds,
the ratio to the better of llama.cpp's two, the spread. Nothing but Python's standard library is needed.

    python3 benches/compare_llama_cpp.py --llama-cpp BUILD/bin --porism target/release/porism --models FOLDER
    python3 benches/compare_llama_cpp.py ... --group generate,contention --rounds 5
    python3 benches/compare_llama_cpp.py --summarize benches/results/compare.jsonl --into docs/performance.md

As a lesser processor would run both: --isa avx2, and a llama.cpp that was built for such a one.

Rows of one's own: --plan FILE, of the same form as plan.json, where any value but a bar may be a list.

What is the same for both: the file, the threads, the type of the cache, the number of tokens, a warm-up before what
is timed (none where a row says "warm": false and for the first token; porism has no switch for it). What is not: in a
row of `batch` porism computes the logits of all tokens, llama-bench those of the last.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import tables

HERE = os.path.dirname(os.path.abspath(__file__))
# Five tokens for the tokenizers of both families; both models go on with a word.
PROMPT = "The capital of France is"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", metavar="DIR", help="folder with llama-bench and llama-completion")
    parser.add_argument("--porism", metavar="FILE", help="our binary, a release build")
    parser.add_argument("--isa", metavar="NAME", help="porism's instructions, as `porism bench --isa` takes them")
    parser.add_argument("--models", metavar="DIR", default=".", help="folder of the plan's files")
    parser.add_argument("--model", metavar="NAME=FILE", action="append", default=[], help="another file for a name of the plan")
    parser.add_argument("--plan", metavar="FILE", default=os.path.join(HERE, "plan.json"), help="rows (default plan.json)")
    parser.add_argument("--group", metavar="NAMES", help="only these groups of rows, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="how often each program is started for a row (default 3)")
    parser.add_argument("--all-rounds", action="store_true", help="as many rounds for rows that the plan gives fewer")
    parser.add_argument("--output", default="compare.jsonl", metavar="FILE", help="raw rows (default compare.jsonl)")
    parser.add_argument("--summarize", metavar="FILE", nargs="+", help="run nothing, make tables of such files")
    parser.add_argument("--into", metavar="FILE", help="put the tables between the marks in this page")
    parser.add_argument("--mark", default="llama.cpp", metavar="NAME", help="the name of the marks (default llama.cpp)")
    args = parser.parse_args()
    if not args.summarize and not (args.llama_cpp and args.porism):
        parser.error("--llama-cpp and --porism are needed to run, --summarize to read")
    return args


def plan_rows(plan, groups):
    """The plan's rows with every list multiplied out."""
    defaults = {"depth": 0, "threads": 2, "kv_type": "f16", "repeat": 2, "warm": True}
    for row in plan["rows"]:
        if groups and row["group"] not in groups:
            continue
        lists = [key for key, value in row.items() if isinstance(value, list)]
        for values in itertools.product(*(row[key] for key in lists)):
            yield {**defaults, **row, **dict(zip(lists, values))}


class Failed(Exception):
    """What a program said when it could not run."""


def measured(command, first_byte=False):
    """Runs a program: its stdout, the seconds to its first byte, its peak memory. With `first_byte` it ends there."""
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        try:
            byte = os.read(process.stdout.fileno(), 1)
            seconds = time.perf_counter() - started
            if first_byte and byte:
                process.kill()
            output = byte + process.stdout.read()
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if not byte or (process.returncode != 0 and not first_byte):
            said.seek(0)
            words = said.read().decode(errors="replace").strip().splitlines()
            raise Failed(f"exit code {process.returncode}: " + " / ".join(words[-3:]))
    return output.decode(errors="replace"), seconds, usage.ru_maxrss * 1024


class Neighbour:
    """A process that keeps the last allowed core busy; it ends with us, however we end."""

    SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1000000): pass"

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", self.SPIN])
        os.sched_setaffinity(self.process.pid, {max(os.sched_getaffinity(0))})
        time.sleep(0.3)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def first_token(row, command):
    """Seconds from the start to the first byte, `repeat` times; the largest peak."""
    runs = [measured(command, first_byte=True)[1:] for _ in range(row["repeat"])]
    samples = [1 / seconds for seconds, _ in runs]
    return {"samples": samples, "peak_rss_bytes": max(peak for _, peak in runs)}


def run_llama_cpp(args, row, model, flash):
    threads = str(row["threads"])
    kv = ["-ctk", row["kv_type"], "-ctv", row["kv_type"]]
    if row["test"] == "first_token":
        return first_token(row, [
            os.path.join(args.llama_cpp, "llama-completion"), "-m", model, "-t", threads, "-p", PROMPT, "-n", "16",
            "--temp", "0", "--no-warmup", "-no-cnv", "--no-display-prompt", "-fa", "on" if flash else "off", *kv,
        ])
    generates = row["test"] in ("generate", "contention")
    command = [
        os.path.join(args.llama_cpp, "llama-bench"), "-m", model, "-o", "jsonl", "-t", threads,
        "-p", str(0 if generates else row["n"]), "-n", str(row["n"] if generates else 0),
        "-d", str(row["depth"]), "-r", str(row["repeat"]), "-fa", str(flash), *kv,
    ]
    output, _, peak = measured(command if row["warm"] else command + ["--no-warmup"])
    report = json.loads(output.splitlines()[-1])
    return {"samples": report["samples_ts"], "peak_rss_bytes": peak, "version": report["build_commit"]}


def isa(args):
    """The flag for porism's instructions."""
    return ["--isa", args.isa] if args.isa else []


def run_porism(args, row, model):
    if row["test"] == "first_token":
        return first_token(row, [
            args.porism, "run", "--raw", PROMPT, "--max-tokens", "16", "--temperature", "0", "--model", model,
            "--threads", str(row["threads"]), "--kv-type", row["kv_type"], *isa(args),
        ])
    spec = {key: row[key] for key in ("test", "n", "depth", "threads", "kv_type")}
    output, _, peak = measured([
        # What `porism bench` itself starts for a row.
        args.porism, "bench", "--row", json.dumps({**spec, "activations": "int8"}), "--repeat", str(row["repeat"]),
        "--model", model, *isa(args),
    ])
    report = json.loads(output)
    return {
        "samples": [report["tokens_per_second"]],
        # On a shared machine memory is not as fast at one minute as at the next: the limits right behind the row.
        "limits": machine(args, model),
        "peak_rss_bytes": peak,
        **{key: report.get(key) for key in ("peak_anonymous_bytes", "cache_bytes", "gb_per_second", "gops_per_second")},
    }


def machine(args, model):
    """The machine's limits, as porism measures them."""
    command = [args.porism, "bench", "--json", "--test", "generate", "--generate", "1", "--depth", "0", "--repeat", "1"]
    report = json.loads(measured(command + ["--model", model, *isa(args)])[0])
    return {**report["machine"], "isa": report.get("isa")}


def run(args, output):
    """Runs the plan and yields the raw rows, which it also writes."""
    with open(args.plan, encoding="utf-8") as file:
        plan = json.load(file)
    models = {name: os.path.join(args.models, file) for name, file in plan["models"].items()}
    models.update(pair.split("=", 1) for pair in args.model)
    rows = list(plan_rows(plan, args.group.split(",") if args.group else None))
    missing = {row["model"] for row in rows if not os.path.exists(models.get(row["model"], ""))}
    for name in sorted(missing):
        print(f"left out, no such file: {name} = {models.get(name)}", file=sys.stderr)
    rows = [row for row in rows if row["model"] not in missing]
    if not rows:
        sys.exit("no rows to run")
    version = measured([args.porism, "--version"])[0].strip()

    def write(row):
        output.write(json.dumps(row) + "\n")
        output.flush()
        return row

    slower = set()
    for turn in range(args.rounds):
        limits = machine(args, models[rows[0]["model"]])
        yield write({"machine": limits, "round": turn + 1, "cores": len(os.sched_getaffinity(0)), "version": version})
        for number, row in enumerate(rows):
            if turn >= row.get("rounds", args.rounds) and not args.all_rounds:
                continue
            model = models[row["model"]]
            programs = [("llama.cpp -fa 0", lambda: run_llama_cpp(args, row, model, 0)),
                        ("llama.cpp -fa 1", lambda: run_llama_cpp(args, row, model, 1)),
                        ("porism", lambda: run_porism(args, row, model))]
            first = (turn + number) % len(programs)
            figures, speeds = [], {}
            for name, program in programs[first:] + programs[:first]:
                if (number, name) in slower:
                    continue
                facts = {**row, "program": name, "round": turn + 1, "model_bytes": os.path.getsize(model),
                         "load_before": round(os.getloadavg()[0], 2),
                         "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
                started = time.perf_counter()
                try:
                    if row["test"] == "contention":
                        with Neighbour():
                            facts.update(program())
                    else:
                        facts.update(program())
                    facts["tokens_per_second"] = statistics.median(facts["samples"])
                    speeds[name] = facts["tokens_per_second"]
                    figures.append(f"{name} {speeds[name]:.1f}")
                except (Failed, OSError, ValueError, KeyError, IndexError) as error:
                    # The rows are published: without the folder of the models.
                    facts["error"] = (str(error) or repr(error)).replace(model, os.path.basename(model))
                    figures.append(f"{name} failed")
                facts["wall_seconds"] = round(time.perf_counter() - started, 2)
                yield write(facts)
            # Only llama.cpp's better one counts: one that is a fifth slower than the other need not run again.
            peers = {name: speed for name, speed in speeds.items() if name != "porism"}
            slower |= {(number, name) for name, speed in peers.items() if speed < 0.8 * max(peers.values())}
            print(f"round {turn + 1}, row {number + 1} of {len(rows)}, {tables.name(row)}: {', '.join(figures)}",
                  file=sys.stderr)


def main():
    args = arguments()
    if args.summarize:
        rows = [json.loads(line) for path in args.summarize for line in open(path, encoding="utf-8") if line.strip()]
    else:
        with open(args.output, "w", encoding="utf-8") as output:
            rows = list(run(args, output))
    text = tables.summary(rows)
    if args.into:
        tables.insert(args.into, args.mark, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
