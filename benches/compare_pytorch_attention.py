#!/usr/bin/env python3
"""Causal attention in f32, forward and backward, of porism's kernels and of PyTorch, in turn.

Nine heads of 64, no mask tensor: PyTorch's scaled_dot_product_attention with is_causal. The two alternate within
one run, since on a shared machine only figures taken side by side can be compared. Every figure is written as a
line of JSON, and at the end the medians and their ratios. Needs PyTorch, and the example of the kernels:

    cargo build --release -p porism-kernels --example attention_time
    python3 benches/compare_pytorch_attention.py --porism target/release/examples/attention_time
"""

import argparse
import json
import os
import statistics
import subprocess
import time

import torch

HEADS, HEAD_DIM = 9, 64


def pytorch(n):
    """Tensors of one length, and a function that runs both passes once and gives the milliseconds of each."""
    q, k, v = (torch.randn(1, HEADS, n, HEAD_DIM, requires_grad=True) for _ in range(3))
    dout = torch.randn(1, HEADS, n, HEAD_DIM)

    def run():
        q.grad = k.grad = v.grad = None
        start = time.perf_counter()
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        between = time.perf_counter()
        out.backward(dout)
        end = time.perf_counter()
        return (between - start) * 1e3, (end - between) * 1e3

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--porism", required=True, metavar="FILE", help="the example attention_time, a release build")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="PyTorch's threads")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--rounds", type=int, default=7, help="how often each program runs (default 7)")
    parser.add_argument("--output", default="attention.jsonl", metavar="FILE", help="raw rows")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ours = subprocess.Popen([args.porism], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def porism(n):
        ours.stdin.write(f"{n}\n")
        ours.stdin.flush()
        forward, backward, extra = ours.stdout.readline().split()
        return float(forward), float(backward), int(extra)

    with open(args.output, "w") as output:
        for n in args.lengths:
            theirs = pytorch(n)
            theirs(), porism(n)
            times = {"pytorch": [], "porism": []}
            for round in range(args.rounds):
                for program, run in (("pytorch", theirs), ("porism", lambda: porism(n))):
                    # Threads of the other program that still spin would be in the way.
                    time.sleep(0.05)
                    figures = run()
                    times[program].append(figures)
                    row = {"program": program, "n": n, "round": round, "forward_ms": figures[0], "backward_ms": figures[1]}
                    if program == "porism":
                        row["extra_kilobytes"] = figures[2]
                    print(json.dumps(row), file=output)
            for i, name in enumerate(("forward", "backward")):
                a, b = (statistics.median(f[i] for f in times[p]) for p in ("pytorch", "porism"))
                print(f"n {n:6} {name:8}  PyTorch {a:9.1f} ms  porism {b:9.1f} ms  ratio {a / b:.2f}")
            print(f"n {n:6} memory    porism {max(f[2] for f in times['porism'])} KB beyond inputs, outputs and gradients")
    ours.stdin.close()
    ours.wait()


if __name__ == "__main__":
    main()
