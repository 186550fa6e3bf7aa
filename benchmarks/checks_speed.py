"""Seconds and memory of all data checks on a generated CSV of 200,000 rows, reading and imports included.

Usage: ``python benchmarks/checks_speed.py [rows] [classes]``. The texts have 2 to about 150 words; a known number of
rows is spoilt (repeats, near repeats, other labels), so that every check has work to do.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SPOILT = 0.02


def vocabulary(rng, size=50_000):
    """Made-up words of 2 to 12 letters."""
    letters = np.array(list("etaoinshrdlcumwfgypbvkjxqz"))
    return np.array(["".join(rng.choice(letters, length)) for length in rng.integers(2, 13, size)])


def texts(rng, rows, targets):
    """Texts with words by Zipf's law, three in ten of them of the class."""
    words, common = vocabulary(rng), 40_000
    lengths = np.clip(rng.lognormal(3.3, 0.7, rows).astype(int), 2, 150)
    places = np.minimum(rng.zipf(1.2, lengths.sum()), common) - 1
    own = np.flatnonzero(rng.random(len(places)) < 0.3)
    of_class = np.repeat(targets, lengths)[own]
    places[own] = common + (of_class * 20 + rng.integers(0, 20, len(own))) % (len(words) - common)
    ends = np.cumsum(lengths)
    return [" ".join(words[places[end - n : end]]) for n, end in zip(lengths, ends, strict=True)]


def write(path, rows, classes):
    """Writes the CSV: 1 % repeat another text, 1 % repeat it with a word more, 2 % have another label."""
    import pandas as pd

    rng = np.random.default_rng(0)
    targets = rng.integers(0, classes, rows)
    frame = pd.DataFrame({"text": texts(rng, rows, targets), "label": targets})
    count = int(SPOILT * rows)
    copied, from_ = rng.integers(rows // 2, rows, count), rng.integers(0, rows // 2, count)
    frame.iloc[copied] = frame.iloc[from_].to_numpy()
    frame.loc[copied[::2], "text"] += " again"
    other = rng.integers(0, rows, count)
    frame.loc[other, "label"] = rng.integers(0, classes, count)
    frame.assign(label="class " + frame["label"].astype(str)).to_csv(path, index=False)


def measure(path):
    """Reads and checks the file in this process and prints the findings, the seconds and the peak memory."""
    start = time.perf_counter()
    from helpers import checks, data

    splits = data.load(path)
    print(f"read in {time.perf_counter() - start:.1f} s")
    for run in (checks.check, checks.slow_checks):
        for finding in run(splits):
            print(f"{finding.level:8}{finding.name}: {finding.finding}")
        print(f"{run.__name__} done after {time.perf_counter() - start:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"all in {time.perf_counter() - start:.1f} s, {time.process_time():.1f} s of processor time, {peak:.0f} MiB")
    print("load average", round(os.getloadavg()[0], 1))


def main():
    """Writes the file, then measures in a fresh process."""
    if sys.argv[1:2] == ["--measure"]:
        return measure(sys.argv[2])
    rows, classes = (int(given) for given in (sys.argv[1:] + ["200000", "10"][len(sys.argv) - 1 :])[:2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generated.csv"
        write(path, rows, classes)
        print(f"{rows:,} rows, {classes} classes, {path.stat().st_size / 2**20:.0f} MiB", flush=True)
        subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
