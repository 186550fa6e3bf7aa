"""Kills commands at random times and looks at what is left: ``make stress``, and in small in ``make test``.

After each kill every finished run must be as it was, and nothing may have a final name that is not whole. At the end
the same command must complete, and a sweep's table differ from an undisturbed one as little as seeds do.
"""

import argparse
import contextlib
import csv
import hashlib
import http.client
import json
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib import request

import conftest
import nbformat
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_notebook

TRAINING = """# What is killed: a small training of ten epochs that keeps its state.
import numpy as np
from helpers import data, runs, text, training
training.import_tensorflow()
import keras
run = runs.start("small", globals())

splits = data.load("news_en", seed=SEED)
known = ["", "[UNK]", *sorted({word for some in splits.train["text"] for word in text.tokenize(some, "word")})]
x = [training.encode(part["text"], known, "word", 20) for part in (splits.train, splits.test)]
y = [np.searchsorted(splits.labels, part["label"]).astype("int32") for part in (splits.train, splits.test)]
keras.utils.set_random_seed(SEED)
vectors, last = keras.layers.Embedding(len(known), 16, mask_zero=True), keras.layers.Dense(10, "softmax")
model = keras.Sequential([keras.Input((None,), dtype="int32"), vectors, keras.layers.LSTM(16), last])
model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])

batches = [training.bucketed(some, truth, 64, SEED) for some, truth in zip(x, y)]
history = training.fit(model, *batches, 10, "lstm")

run.record(accuracy=history["val_accuracy"].max(), epochs=len(history))
run.finish()"""


def finished(root: Path) -> dict[str, str]:
    """Every finished run below a folder of runs: its path and a digest of its files. A run that is not whole fails."""
    found = {}
    for file in root.glob("*/sweep-*/[!.]*"):
        check(file)
    for run in sorted(root.glob("*/*")):
        if run.name.startswith((".", "sweep-")) or run.name.endswith(".failed"):
            continue
        digest = hashlib.sha256()
        for file in sorted(p for p in run.rglob("*") if p.is_file()):
            assert not file.name.startswith("."), f"a hidden file in a finished run: {file}"
            digest.update(file.name.encode() + check(file))
        assert json.loads((run / "metrics.json").read_text("utf-8"))["status"] == "completed", run
        found[str(run.relative_to(root))] = digest.hexdigest()
    return found


def check(file: Path) -> bytes:
    """The content of a file that is whole; any other fails."""
    content = file.read_bytes()
    if file.suffix == ".json":
        json.loads(content)
    elif file.suffix == ".ipynb":
        book = nbformat.reads(content.decode("utf-8"), 4)
        assert {c.metadata.papermill["status"] for c in book.cells} == {"completed"}, file
    elif file.suffix == ".html":
        assert content.rstrip().endswith(b"</html>"), file
    elif file.suffix == ".csv":
        rows = list(csv.reader(content.decode("utf-8").splitlines(keepends=True)))
        assert len({len(row) for row in rows}) == 1, file
    elif file.suffix == ".keras":
        assert zipfile.ZipFile(file).testzip() is None, file
    return content


def attack(command: Sequence[str], root: Path, kills: int, longest: float, seed: int = 0) -> None:
    """Starts a command that resumes, kills it within ``longest`` seconds of its first run, checks; at last lets it end.

    Only a process that was killed counts: where the command has ended by itself, it begins anew in an empty folder.
    """
    chance, before, number = random.Random(seed), finished(root), 0
    while number < kills:
        held = {*root.glob("*/.*.partial")}
        process = start(command, root)
        conftest.wait_for(lambda p=process, old=held: p.poll() is not None or {*root.glob("*/.*.partial")} - old)
        wait, kind = chance.uniform(0, longest), chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.send_signal(kind)
            process.wait(60)
            number += 1
            said = f"kill {number}: {kind.name} after {wait:4.1f} s"
        else:
            assert process.returncode == 0
            said = "ended by itself, begun anew"
        lost = dict(before.items() - (after := finished(root)).items())
        assert not lost, f"{said}: {lost} changed"
        print(f"{said}, {len(after)} finished", flush=True)
        before = after
        if process.returncode == 0:  # nothing is left to be killed: all runs go, so that the next kill hits a training
            settle(root)
            shutil.rmtree(root)
            before = {}
    settle(root)
    assert start(command, root).wait() == 0
    assert before.items() <= finished(root).items()
    assert not list(root.glob("*/.*.partial")) + list(root.glob("*/*.failed"))


def shoot(command: Sequence[str], target: Path, root: Path, kills: int, longest: float, seed: int = 0) -> None:
    """Kills a command that writes a file or a folder: what then has a final name is whole, and the next try ends."""
    chance = random.Random(seed)
    for number in range(1, kills + 1):
        process, wait = start(command, root), chance.uniform(0, longest)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        process.kill()
        process.wait()
        whole = [check(p) for p in (target, *target.rglob("[!.]*")) if p.is_file()]
        print(f"{command[0]}, kill {number} after {wait:4.1f} s: {len(whole)} files whole", flush=True)
    assert start(command, root).wait() == 0 and target.exists()


def undisturbed(command: Sequence[str], root: Path) -> float:
    """Seconds that a command takes when nobody kills it."""
    clock = time.monotonic()
    assert start(command, root).wait() == 0
    print(f"undisturbed, {command[0]} takes {time.monotonic() - clock:.0f} s", flush=True)
    return time.monotonic() - clock


def settle(root: Path) -> None:
    """Waits until the runs of a killed sweep have seen that it is gone, and let go of their names."""
    for lock in root.glob("*/.*.lock"):
        with FileLock(lock, timeout=30):
            lock.unlink(missing_ok=True)


def start(command: Sequence[str], root: Path, **how: Any) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return conftest.start(*command, runs=root, **quiet | how)


def table(root: Path) -> list[dict[str, str]]:
    """The rows of the one sweep below a folder of runs."""
    (path,) = root.glob("*/sweep-*/results.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def correct(run: Path, root: Path, kills: int, seed: int = 0) -> None:
    """Kills a server while corrections arrive: each that was acknowledged stands in the file, and no half line."""
    chance, kept = random.Random(seed), []
    for number in range(1, kills + 1):
        process = start(["serve", str(run), "--port", str(conftest.free_port())], root, stdout=subprocess.PIPE)
        address = re.search(r"http://\S+", process.stdout.readline())[0] + "correct"
        threading.Timer(chance.uniform(0, 2), process.kill).start()
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                told = json.dumps({"text": (text := f'number {len(kept)}, "said"\nso'), "label": "sports"}).encode()
                request.urlopen(request.Request(address, told, {"Content-Type": "application/json"})).read()
                kept.append(text)
        process.wait()
        with (run / "corrections.csv").open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        assert head == ["text", "label"] and {len(row) for row in rows} == {2}
        assert set(kept) <= {text for text, _ in rows}
        print(f"serve, kill {number}: {len(kept)} corrections kept", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=24, help="a sixth for each command")
    given = options.parse_args()
    few = [given.kills // 6 + (part < given.kills % 6) for part in range(6)]
    with tempfile.TemporaryDirectory(prefix="helpers-stress-") as place:
        grid, book, small = (Path(place, name) for name in ("seeds.yaml", "small.ipynb", "few.csv"))
        grid.write_text("SEED: [1, 2, 3, 4]\n", "utf-8")
        cells = [new_code_cell("SEED: int = 0  # decides weights and order", metadata={"tags": ["parameters"]})]
        cells += [new_code_cell(part) for part in TRAINING.split("\n\n")]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        nbformat.write(new_notebook(cells=cells, metadata=kernel), book)
        lines = Path("data", "news_en.csv").read_text("utf-8").splitlines()
        small.write_text("\n".join([lines[0], *lines[1::20]]), "utf-8")
        alone, one, calm, stormy, answers = (Path(place, n) for n in ("alone", "one", "calm", "stormy", "answers"))
        run = ["run", str(book), "--resume"]
        attack(run, one, few[0], undisturbed(run, alone), 0)
        sweep = ["sweep", str(book), str(grid), "--jobs", "2"]
        attack(sweep, stormy, few[1], undisturbed(sweep, calm) / 2, 1)
        records = (path.read_text("utf-8") for root in (one, stormy) for path in root.glob("*/*/metrics.json"))
        assert any(json.loads(record)["resumed"] for record in records), "no run went on from a checkpoint"
        one_way, other = ({row["run"]: float(row["accuracy"]) for row in table(root)} for root in (calm, stormy))
        spread = max(one_way.values()) - min(one_way.values()) + 1e-9
        assert list(one_way) == list(other) and all(abs(one_way[run] - other[run]) <= spread for run in other)
        question = ["compare", str(small), "--minutes", "0.5", "--name", "few"]
        attack(question, answers, few[2], undisturbed(question, alone), 2)
        (finished_run,) = answers.glob("06_*/few")
        label = ["predict", str(finished_run), str(small), "--out", str(Path(place, "labelled.csv"))]
        shoot(label, Path(label[-1]), answers, few[3], undisturbed(label, answers), 3)
        pages = ["report", str(one), str(stormy), str(answers), "--out", str(Path(place, "pages"))]
        shoot(pages, Path(pages[-1]), answers, few[4], undisturbed(pages, answers), 4)
        correct(finished_run, answers, few[5], 5)


if __name__ == "__main__":
    main()
