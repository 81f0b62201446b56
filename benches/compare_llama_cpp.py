#!/usr/bin/env python3
"""Prefill and generation of porism and of llama.cpp on one machine, in turn.

The two alternate within one run, since on a shared machine only figures taken side by side can be compared.
Each round starts every program once: llama-bench without and with flash attention, then `porism bench`;
each of them repeats its test and reports one figure a test. Every figure is written as a line of JSON, and
at the end the ratios of the medians over all rounds. Nothing but Python's standard library is needed.

    python3 benches/compare_llama_cpp.py --llama-cpp BUILD/bin --porism target/release/porism \\
        --model MODEL.gguf --rounds 5 --output rows.jsonl
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", required=True, metavar="DIR", help="folder with llama-bench")
    parser.add_argument("--porism", required=True, metavar="FILE", help="our binary, a release build")
    parser.add_argument("--model", required=True, metavar="FILE", help="a GGUF file that both can run")
    parser.add_argument("--threads", type=int, default=2, help="threads of each program (default 2)")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt (default 512)")
    parser.add_argument("--generate", type=int, default=128, help="tokens to generate (default 128)")
    parser.add_argument("--depth", type=int, default=0, help="tokens in the cache already (default 0)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each program is started (default 5)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions within a start (default 3)")
    parser.add_argument("--output", default="compare.jsonl", metavar="FILE", help="raw rows (default compare.jsonl)")
    return parser.parse_args()


def run(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"failed ({done.returncode}): {' '.join(command)}\n{done.stderr}")
    return done.stdout


def llama_cpp(args, flash):
    command = [
        os.path.join(args.llama_cpp, "llama-bench"), "-m", args.model, "-o", "jsonl",
        "-p", str(args.prompt), "-n", str(args.generate), "-d", str(args.depth),
        "-t", str(args.threads), "-r", str(args.repeat), "-fa", str(flash),
    ]
    for line in run(command).splitlines():
        row = json.loads(line)
        samples = row["samples_ts"]
        yield {
            "program": f"llama.cpp -fa {flash}",
            "test": "generate" if row["n_gen"] else "prefill",
            "tokens_per_second": statistics.median(samples),
            "samples": samples,
            "version": row["build_commit"],
        }


def porism(args):
    command = [
        args.porism, "bench", "--json", "-m", args.model, "--test", "prefill,generate",
        "--prompt", str(args.prompt), "--generate", str(args.generate), "--depth", str(args.depth),
        "--threads", str(args.threads), "--repeat", str(args.repeat),
    ]
    report = json.loads(run(command))
    for row in report["rows"]:
        yield {"program": "porism", **row, "machine": report["machine"]}


def main():
    args = arguments()
    version = run([args.porism, "--version"]).strip()
    figures = {}
    with open(args.output, "w", encoding="utf-8") as output:
        for round_number in range(1, args.rounds + 1):
            programs = [lambda: llama_cpp(args, 0), lambda: llama_cpp(args, 1), lambda: porism(args)]
            # Another one begins each round, so that none always follows the same neighbour's heat.
            turn = round_number % len(programs)
            for program in programs[turn:] + programs[:turn]:
                load = os.getloadavg()[0]
                for row in program():
                    row.setdefault("version", version)
                    row.update(round=round_number, model=os.path.basename(args.model), threads=args.threads,
                               depth=args.depth, n=args.prompt if row["test"] == "prefill" else args.generate,
                               load_before=load, time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
                    output.write(json.dumps(row) + "\n")
                    output.flush()
                    figures.setdefault((row["test"], row["program"]), []).append(row["tokens_per_second"])
            print(f"round {round_number} of {args.rounds} done", file=sys.stderr)

    print(f"{os.path.basename(args.model)}, {args.threads} threads, depth {args.depth}, {args.rounds} rounds; tokens/s")
    print(f"{'test':<10} {'program':<16} {'median':>8} {'least':>8} {'most':>8}   porism / this")
    for test in ("prefill", "generate"):
        ours = statistics.median(figures[test, "porism"])
        for (name, program), values in sorted(figures.items()):
            if name == test:
                median = statistics.median(values)
                ratio = "" if program == "porism" else f"{ours / median:>8.2f}"
                print(f"{test:<10} {program:<16} {median:>8.1f} {min(values):>8.1f} {max(values):>8.1f}   {ratio}")


if __name__ == "__main__":
    main()
