#!/usr/bin/env python3
"""Metrics of generated text: porism and the programs that define the metrics, on the same files, in turn.

Each row is a metric. In every round both score the same pairs, another one first each time: porism as a process of its
own, reading the files and printing JSON (without and with the interval by 1000 resamples); the peer in this process,
the texts in lists already, its time from there to the score. Both scores stand in the row, so that it says how far they
differ. Every figure is a line of JSON in the output; at the end, or later with --summarize, the rows become a table.

    pip install sacrebleu==2.6.0 rouge-score==0.1.2 nltk==3.10.4 bert-score==0.3.13 torch==2.15.0 transformers==5.24.0
    cargo build --release -p porism
    python3 benches/compare_metrics.py --porism target/release/porism --wordnet DIR --model FOLDER
    python3 benches/compare_metrics.py --summarize benches/results/metrics.jsonl --into docs/evaluation.md

The pairs are made from a fixed seed: references of 8 to 30 words of a vocabulary that is as uneven as English (Zipf),
with punctuation, hypotheses with a third of the words dropped, changed or moved. A peer that would take too long gets the
first so many pairs only (--peer-pairs); a row then holds both numbers, and the table compares times per pair.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

# This folder has a profile.py, which would stand before Python's own.
sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]

METRICS = ["bleu", "chrf", "chrf++", "ter", "rouge1", "rouge2", "rougeL", "rougeLsum", "meteor", "exact_match", "f1",
           "bertscore"]


def make_pairs(count):
    random_ = random.Random(11)
    consonants, vowels = "bcdfghklmnprstvw", "aeiou"
    endings = ["", "", "", "s", "ed", "ing", "ly", "ation", "ness", "er"]
    words = ["".join(random_.choice(consonants) + random_.choice(vowels) for _ in range(random_.randrange(1, 4)))
             + random_.choice(endings) for _ in range(20000)]
    words[:12] = ["the", "of", "and", "a", "to", "in", "is", "was", "it", "for", "that", "on"]
    weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(words))))
    references, hypotheses = [], []
    for _ in range(count):
        reference = random_.choices(words, cum_weights=weights, k=random_.randrange(8, 31))
        hypothesis = []
        for word in reference:
            draw = random_.random()
            if draw < 0.08:
                continue
            hypothesis.append(random_.choices(words, cum_weights=weights)[0] if draw < 0.25 else word)
        if len(hypothesis) > 6 and random_.random() < 0.5:
            start, length = random_.randrange(len(hypothesis) - 4), random_.randrange(1, 5)
            run = hypothesis[start:start + length]
            del hypothesis[start:start + length]
            at = random_.randrange(len(hypothesis) + 1)
            hypothesis[at:at] = run
        for words_ in (reference, hypothesis):
            if len(words_) > 12:
                words_[len(words_) // 2] += ","
            words_[0] = words_[0].capitalize()
        references.append(" ".join(reference) + ".")
        hypotheses.append(" ".join(hypothesis) + random_.choice([".", ".", "!"]))
    return hypotheses, references


def peer(metric, args):
    """A function from hypotheses and references to a score, ready to be timed."""
    if metric in ("bleu", "chrf", "chrf++", "ter"):
        from sacrebleu.metrics import BLEU, CHRF, TER
        make = {"bleu": BLEU, "chrf": CHRF, "chrf++": lambda: CHRF(word_order=2), "ter": TER}[metric]
        return lambda h, r: make().corpus_score(h, [r]).score
    if metric.startswith("rouge"):
        from rouge_score import rouge_scorer
        scorer = rouge_scorer.RougeScorer([metric], use_stemmer=True)
        return lambda h, r: statistics.fmean(scorer.score(b, a)[metric].fmeasure for a, b in zip(h, r))
    if metric == "meteor":
        sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../scripts/fixtures"))
        from metrics import NoWordNet, wordnet_of
        sys.path.pop(0)  # Other names in that folder would stand before installed packages.
        from nltk.translate.meteor_score import single_meteor_score
        wordnet = wordnet_of(args.wordnet) if args.wordnet else NoWordNet()
        return lambda h, r: statistics.fmean(
            single_meteor_score(b.split(), a.split(), wordnet=wordnet) for a, b in zip(h, r))
    if metric in ("exact_match", "f1"):
        from torchmetrics.functional.text.squad import _compute_exact_match_score, _compute_f1_score
        one = _compute_f1_score if metric == "f1" else _compute_exact_match_score
        return lambda h, r: 100 * statistics.fmean(float(one(a, b)) for a, b in zip(h, r))
    import bert_score
    return lambda h, r: float(bert_score.score(h, r, model_type=args.model, num_layers=6, device="cpu")[2].mean())


def ours(metric, args, files, resamples):
    command = [args.porism, "measure", "metric", metric, "--hyp", files[0], "--ref", files[1], "--json",
               "--resamples", str(resamples)]
    if metric.startswith("rouge"):
        command.append("--stem")
    if metric == "meteor" and args.wordnet:
        command += ["--wordnet", args.wordnet]
    if metric == "bertscore":
        command += ["-m", args.model]
    start = time.perf_counter()
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - start, json.loads(out)["score"]


def measure(args, metric, row):
    count = args.bert_pairs if metric == "bertscore" else args.pairs
    theirs = min(count, args.peer_pairs)
    hypotheses, references = make_pairs(count)
    with tempfile.TemporaryDirectory() as folder:
        def write(n):
            names = [os.path.join(folder, f"{kind}-{n}") for kind in ("hyp", "ref")]
            for name, lines in zip(names, (hypotheses, references)):
                with open(name, "w", encoding="utf-8") as file:
                    file.write("\n".join(lines[:n]) + "\n")
            return names

        files, same = write(count), write(theirs)
        score = peer(metric, args)
        for round_ in range(args.rounds):
            def run_ours():
                return {"ours_s": ours(metric, args, files, 0)[0], "ours_interval_s": ours(metric, args, files, 1000)[0]}

            def run_peer():
                start = time.perf_counter()
                value = score(hypotheses[:theirs], references[:theirs])
                return {"peer_s": time.perf_counter() - start, "peer_score": value}

            runs = [run_ours, run_peer] if round_ % 2 == 0 else [run_peer, run_ours]
            figures = {key: value for run in runs for key, value in run().items()}
            row({"metric": metric, "pairs": count, "peer_pairs": theirs, "round": round_, **figures,
                 "our_score_of_the_same": ours(metric, args, same, 0)[1], "load": os.getloadavg()[0],
                 "cores": len(os.sched_getaffinity(0)), "wordnet": bool(args.wordnet)})


def table(path):
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    lines = ["| metric | pairs | Porism, s | with the interval, s | the peer, s (pairs) | a pair, ratio | scores differ by |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for metric in METRICS:
        of = [row for row in rows if row["metric"] == metric]
        if not of:
            continue
        middle = {key: statistics.median(row[key] for row in of) for key in ("ours_s", "ours_interval_s", "peer_s")}
        pairs, theirs = of[-1]["pairs"], of[-1]["peer_pairs"]
        ratio = (middle["peer_s"] / theirs) / (middle["ours_s"] / pairs)
        differ = max(abs(row["peer_score"] - row["our_score_of_the_same"]) for row in of)
        lines.append(f"| {metric} | {pairs:,} | {middle['ours_s']:.2f} | {middle['ours_interval_s']:.2f} | "
                     f"{middle['peer_s']:.1f} ({theirs:,}) | {ratio:.0f} | {differ:.1e} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--porism", help="the binary")
    parser.add_argument("--metrics", default=",".join(METRICS))
    parser.add_argument("--pairs", type=int, default=100000)
    parser.add_argument("--peer-pairs", type=int, default=100000)
    parser.add_argument("--bert-pairs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--wordnet", help="a folder with WordNet 3.0's files, for METEOR's synonyms")
    parser.add_argument("--model", help="a folder with all-MiniLM-L6-v2, for BERTScore")
    parser.add_argument("--output", default="benches/results/metrics.jsonl")
    parser.add_argument("--summarize", metavar="ROWS", help="print the table of rows taken before")
    parser.add_argument("--into", metavar="FILE", help="put the table between this file's marks")
    args = parser.parse_args()
    if not args.summarize:
        for metric in args.metrics.split(","):
            if metric == "bertscore" and not args.model:
                continue

            def row(figures):
                with open(args.output, "a", encoding="utf-8") as file:
                    file.write(json.dumps(figures) + "\n")
                print(figures, file=sys.stderr)

            measure(args, metric, row)
    text = table(args.summarize or args.output)
    print(text)
    if args.into:
        with open(args.into, encoding="utf-8") as file:
            page = file.read()
        begin, end = "<!-- metrics: begin -->", "<!-- metrics: end -->"
        before, behind = page.split(begin)[0], page.split(end)[1]
        with open(args.into, "w", encoding="utf-8") as file:
            file.write(f"{before}{begin}\n{text}\n{end}{behind}")


if __name__ == "__main__":
    main()
