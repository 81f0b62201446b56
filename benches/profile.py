#!/usr/bin/env python3
"""Where the time of generation and of prefill goes, by groups of functions, as Markdown tables.

Needs Linux's `perf` and a binary with symbols, built without touching the usual one:

    cargo build --release -p porism --config 'profile.release.strip=false' \\
        --config 'profile.release.debug="line-tables-only"' --target-dir target/symbols
    python3 benches/profile.py --porism target/symbols/release/porism --model MODEL.gguf --into docs/performance.md

Each test is one row of `porism bench` in a process of its own under `perf record`; its samples are those of the whole
process, so that loading and a warm-up are in it (--repeat makes their part small). A sample belongs to the first group
below whose pattern its function's name matches; inlined functions count as what they were inlined into.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import tempfile

import tables

# The first that matches, on the demangled path of the function.
GROUPS = [
    # A worker's loop is inlined into the start of its thread.
    ("waiting for other threads", r"kernels::pool::|rust_begin_short_backtrace|sched_yield|futex|Condvar|pthread_(mutex|cond)"),
    ("rounding activations to int8", r"quantize"),
    ("attention", r"porism_kernels::attention|CpuState|cpu::kv|\bPagedSpan\b"),
    ("products of int8 blocks", r"linear::(int8|strip|panel)"),
    ("products in f32", r"linear::f32|linear::|gemm|transpose"),
    ("norms", r"::norm|layer_norm"),
    ("rotary embedding", r"::rope"),
    ("activation functions", r"activation|::exp\b|::erf\b|softcap"),
    ("sums and adds", r"kernels::add|kernels::sum|embedding"),
    ("allocation and copying", r"malloc|free|calloc|realloc|memmove|memcpy|memset|alloc::|mmap|clear_page|Vec<"),
    ("the executor", r"porism_models|porism_measure|porism_generate"),
    ("the system", r"^\[k\]"),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--porism", required=True, metavar="FILE", help="a release build with symbols")
    parser.add_argument("--model", required=True, metavar="FILE", action="append", help="a model; may be repeated")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--kv-type", default="f16", help="the cache's type (default f16)")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions within a row (default 5)")
    parser.add_argument("--row", metavar="TEST:N:DEPTH", action="append",
                        help="rows (default prefill:512:0, generate:128:0, generate:128:2048)")
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="also the N hottest functions")
    parser.add_argument("--into", metavar="FILE", help="put the tables between the profile marks of this page")
    return parser.parse_args()


def samples(args, model, test, n, depth):
    """Samples of each function in one row, kernel functions marked with [k]."""
    row = {"test": test, "n": n, "depth": depth, "threads": args.threads, "kv_type": args.kv_type, "activations": "int8"}
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "perf.data")
        subprocess.run(
            ["perf", "record", "-q", "-F", "999", "-o", data, "--", args.porism, "bench", "--row", json.dumps(row),
             "--repeat", str(args.repeat), "--model", model],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        report = subprocess.run(
            ["perf", "report", "-i", data, "--stdio", "--no-children", "--sort", "symbol", "--show-nr-samples",
             "--percent-limit", "0", "--demangle"],
            check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    found = collections.Counter()
    for line in report.splitlines():
        match = re.match(r"\s*[\d.]+%\s+(\d+)\s+\[(.)\]\s+(.*)", line)
        if match:
            mark = "[k] " if match[2] == "k" else ""
            # Behind the name stand columns for callers, which are empty.
            found[mark + re.sub(r"(\s+-)+\s*$", "", match[3]).strip()] += int(match[1])
    return found


def group(function):
    if function.startswith("[k]"):
        return "the system"
    return next((name for name, pattern in GROUPS if re.search(pattern, function)), "all else")


def main():
    args = arguments()
    rows = [row.split(":") for row in args.row or ["prefill:512:0", "generate:128:0", "generate:128:2048"]]
    text = []
    for model in args.model:
        columns, functions = [], []
        for test, n, depth in rows:
            found = samples(args, model, test, int(n), int(depth))
            total = sum(found.values())
            shares = collections.Counter()
            for function, count in found.items():
                shares[group(function)] += count / total
            columns.append(shares)
            functions.append([(function, count / total) for function, count in found.most_common(args.functions)])
        names = sorted(set().union(*columns), key=lambda name: -max(c[name] for c in columns))
        heads = [f"{test} {n}" + (f" at depth {depth}" if depth != "0" else "") for test, n, depth in rows]
        lines = [[name, *(f"{c[name] * 100:.1f} %" if c[name] else "-" for c in columns)] for name in names]
        text.append(f"{os.path.basename(model)}, {args.threads} threads, {args.kv_type} cache:")
        text.append(tables.table(["group of functions", *heads], lines))
        for head, hottest in zip(heads, functions):
            if hottest:
                lines = [f"- {share * 100:.1f} % `{function}`" for function, share in hottest]
                text.append(f"{head}, the hottest functions:\n\n" + "\n".join(lines))
    text = "\n\n".join(text)
    if args.into:
        tables.insert(args.into, "profile", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
