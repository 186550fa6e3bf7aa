"""Seconds that ``python -m helpers`` adds: to papermill on an empty notebook, and to the runs of a sweep.

Usage: ``python benchmarks/overhead.py [--sweep]``. Targets: under 0.5 s for a run; for a sweep of four small runs of
notebook 03, two at a time, at most 10 % and 5 s over the runs' own seconds laid on two slots.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent


def seconds(place, *words):
    """Wall time of ``python -m`` with these words, with runs in a temporary folder."""
    environment = os.environ | {"HELPERS_RUNS": str(place / "runs"), "PYTHONPATH": str(ROOT)}
    clock = time.perf_counter()
    subprocess.run([sys.executable, "-m", *words], check=True, cwd=place, env=environment, capture_output=True)
    return time.perf_counter() - clock


def one_run(place):
    """An empty notebook: papermill alone, then a run of it, the best of three each."""
    cell = new_code_cell("A: int = 1", metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=[cell], metadata={"kernelspec": kernel}), place / "empty.ipynb")
    plain = ["papermill", "empty.ipynb", "out.ipynb", "-p", "A", "2", "--no-progress-bar"]
    ours = ["helpers", "run", "empty.ipynb", "-p", "A", "2", "--no-report", "--force"]
    alone, run = (min(seconds(place, *words) for _ in range(3)) for words in (plain, ours))
    print(f"papermill {alone:.2f} s, helpers run {run:.2f} s: {run - alone:+.2f} s (target: under 0.5 s)")


def sweep(place):
    """Four runs of notebook 03, two at a time, against their own seconds on two slots."""
    (place / "seeds.yaml").write_text("SEED: [1, 2, 3, 4]\n", "utf-8")
    small = ["-p", "EPOCHS", "2", "-p", "LENGTH", "30"]
    wall = seconds(place, "helpers", "sweep", "03", "seeds.yaml", "--jobs", "2", "--no-report", *small)
    (table,) = place.glob("runs/*/sweep-seeds/results.csv")
    slots = [0.0, 0.0]
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            slots[slots.index(min(slots))] += float(row["seconds"])
    own = max(slots)
    print(f"sweep {wall:.1f} s, its runs {own:.1f} s: {wall - own:+.1f} s (target: at most {0.1 * own + 5:.1f} s)")


def main():
    """Measures one of both in a temporary folder."""
    with tempfile.TemporaryDirectory() as place:
        (sweep if "--sweep" in sys.argv[1:] else one_run)(Path(place))
    print("load average", round(os.getloadavg()[0], 1))


if __name__ == "__main__":
    main()
