"""Tables in Markdown from the raw rows of compare_llama_cpp.py, and their place in a page."""

import statistics

# What tells rows apart.
KEYS = ("test", "model", "n", "depth", "kv_type", "threads")


def key(row):
    return tuple(row[k] for k in KEYS)


def name(row):
    """A row in words."""
    words = {
        "prefill": "prefill of {n}",
        "generate": "generation",
        "contention": "generation beside a busy core",
        "batch": "{n} tokens in one pass",
        "first_token": "start to first token",
    }[row["test"]].format(**row)
    extras = [row["model"], words]
    if row["depth"]:
        extras.append(f"at depth {row['depth']}")
    if row["kv_type"] != "f16":
        extras.append(f"{row['kv_type']} cache")
    if row["threads"] != 2:
        extras.append(f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}")
    return ", ".join(extras)


class Figure:
    """All that one program gave for one row."""

    def __init__(self, rows):
        self.values = [r["tokens_per_second"] for r in rows]
        self.median = statistics.median(self.values)
        self.peak = statistics.median(r["peak_rss_bytes"] for r in rows)
        self.last = rows[-1]
        self.rows = rows


def table(head, lines):
    align = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, align, *lines])


def amount(value, test):
    """A speed as people read it: seconds to a first token, else tokens a second."""
    if test == "first_token":
        return f"{1 / value:.3f} s"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def spread(figure, test):
    if len(figure.values) < 2:
        return amount(figure.median, test)
    ends = sorted(figure.values, reverse=test == "first_token")
    return f"{amount(figure.median, test)} ({amount(ends[0], test)} to {amount(ends[-1], test)})"


def limit(figure, row, machine):
    """The share of the machine's limit: of arithmetic for many tokens, of reading for few. None where unknown. The limits
    are those that were measured beside each figure, or else the best of all."""
    f32 = row["model"].endswith("F16")
    if row["test"] == "prefill":
        speed, best, what = "gops_per_second", "f32_gflops" if f32 else "int8_gops", "f32" if f32 else "int8"
    else:
        speed, best, what = "gb_per_second", "read_gb_per_second", "read"
    known = [r for r in figure.rows if r.get(speed)]
    if row["test"] == "first_token" or not known:
        return None
    known = [r for r in known if "limits" in r] or known
    return statistics.median(r[speed] / r.get("limits", machine)[best] for r in known), what


def verdict(row, ratio, share, ours, figures):
    """The bar in words, and whether it is reached; None where it cannot be told."""
    bar = row.get("bar") or {}
    words, reached = [], []
    if "ratio" in bar:
        words.append(f"{bar['ratio']}x")
        reached.append(None if ratio is None else ratio >= bar["ratio"])
    for name_, joint in (("read", ""), ("or_read", "or ")):
        if name_ in bar:
            words.append(f"{joint}{bar[name_] * 100:.0f} % of read")
            reached.append(None if share is None else share[1] == "read" and share[0] >= bar[name_])
    if "own" in bar:
        other = key({**row, **bar["own"]})
        against = figures.get(other, {}).get("porism")
        what = ", ".join(f"{k} {v}" for k, v in bar["own"].items())
        words.append(f"{bar['at_least']}x of ours with {what}")
        reached.append(None if against is None else ours.median >= bar["at_least"] * against.median)
    known = [r for r in reached if r is not None]
    return " ".join(words) or "-", ("yes" if any(known) else "no") if known else "-"


def summary(rows):
    """Two tables, speed and memory, and what could not run."""
    machines = [r["machine"] for r in rows if "machine" in r]
    machine = {k: max(m[k] for m in machines) for k in ("read_gb_per_second", "f32_gflops", "int8_gops")}
    seen = sorted(m["read_gb_per_second"] for m in machines + [r["limits"] for r in rows if "limits" in r])
    figures, specs, errors = {}, {}, {}
    for row in (r for r in rows if "machine" not in r):
        specs.setdefault(key(row), row)
        if "error" in row:
            errors[name(row), row["program"]] = row["error"]
        else:
            figures.setdefault(key(row), {}).setdefault(row["program"], []).append(row)
    figures = {k: {program: Figure(v) for program, v in programs.items()} for k, programs in figures.items()}

    speed, memory = [], []
    for k, row in specs.items():
        programs, test = figures.get(k, {}), row["test"]
        ours = programs.get("porism")
        peers = {program: f for program, f in programs.items() if program != "porism"}
        best = max(peers, key=lambda p: peers[p].median) if peers else None
        ratio = ours.median / peers[best].median if ours and best else None
        share = limit(ours, row, machine) if ours else None
        bar, reached = verdict(row, ratio, share, ours, figures) if ours else ("-", "-")
        speed.append([
            name(row), bar, row.get("aim", "-"),
            spread(ours, test) if ours else "failed",
            spread(peers[best], test) + f" (-fa {best[-1]})" if best else "failed",
            f"{ratio:.2f}x" if ratio else "-",
            f"{share[0] * 100:.0f} % of {share[1]}" if share else "-",
            reached,
        ])
        if ours and peers:
            least = min(f.peak for f in peers.values())
            cache = ours.last.get("cache_bytes")
            parts = ours.last["model_bytes"] + (cache or 0)
            memory.append([
                name(row), f"{ours.peak / 1e6:.0f}", f"{least / 1e6:.0f}", f"{parts / 1e6:.0f}",
                f"{(ours.peak - parts) / 1e6:+.0f}", "yes" if ours.peak < least else "no",
            ])
    rounds = max((len(f.rows) for programs in figures.values() for f in programs.values()), default=0)
    isa = {m["isa"] for m in machines if m.get("isa")}
    text = [
        f"Machine, as measured here: {rows[0].get('cores', '?')} cores, {'/'.join(sorted(isa)) or '?'}; "
        f"reads {seen[0]:.0f} to {seen[-1]:.0f} GB/s from minute to minute, {machine['f32_gflops']:.0f} Gflop/s in f32, "
        f"{machine['int8_gops']:.0f} Gop/s in int8. Medians of up to {rounds} rounds, least and most in brackets; "
        "tokens a second, seconds for the first token; 2 threads where nothing else is said.",
        table(["row", "bar", "aim", "porism", "llama.cpp, its better", "ratio", "of the limit", "reached"], speed),
        "Peak memory in MB (ru_maxrss), llama.cpp's lesser of the two; the file is all of the model's file.",
        table(["row", "porism", "llama.cpp", "file + cache", "beyond that", "below llama.cpp"], memory),
    ]
    if errors:
        lines = [f"- {row}, {program}: {error}" for (row, program), error in errors.items()]
        text.append("What a program could not run:\n\n" + "\n".join(lines))
    return "\n\n".join(text)


def insert(path, mark, text):
    """Puts text between the marks of that name in a page."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    with open(path, encoding="utf-8") as file:
        page = file.read()
    if page.count(begin) != 1 or page.count(end) != 1:
        raise SystemExit(f"{path} needs one {begin} and one {end}")
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{begin}\n{text}\n{end}{after}")
