"""Sweeps: every point a run of its own, failures that stop nobody, and nothing done twice."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import stress
from bs4 import BeautifulSoup
from conftest import record

from helpers import InputError
from helpers.commands import sweep as sweeps

WORK = """
assert UNIT != "character", "no characters today"
for step in range(SIZES[0]):
    (run.folder / "step").write_text(str(step))
    time.sleep(0.2)
run.record(accuracy=EPOCHS * RATE, own=1)
run.finish()
"""
EVIL = "<script>alert(1)</script>"


def rows(folder: Path) -> list[dict]:
    with (folder / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, grid: object) -> Path:
    path.write_text(grid if isinstance(grid, str) else json.dumps(grid), "utf-8")
    return path


def start(path: Path, grid: Path, *words: str) -> subprocess.Popen:
    arguments = [sys.executable, "-m", "helpers", "sweep", str(path), str(grid), "--no-report", *words]
    default = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731 - ignored in the background
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=default)


def wait_for(test, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_grid_is_every_combination_or_a_list_of_runs(tmp_path):
    path = write(tmp_path / "g.yaml", "RATE: [1e-3, 0.1]\nUNIT: [word, character]\nEPOCHS: 4\n")
    expected = [{"RATE": r, "UNIT": u, "EPOCHS": "4"} for r in ("1e-3", "0.1") for u in ("word", "character")]
    assert sweeps.read_grid(path) == expected
    points = [{"EPOCHS": 1}, {"EPOCHS": 2, "RATE": 0.5}]
    assert sweeps.read_grid(write(tmp_path / "g.json", points)) == points


@pytest.mark.parametrize("text", ["", "a", "[]", "{}", "[1]", "[{}]", "EPOCHS: []", "[[1]]"])
def test_a_grid_without_points_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="has no points"):
        sweeps.read_grid(write(tmp_path / "g.json", text))


def test_a_grid_that_is_too_large_or_has_a_point_twice_is_refused(notebook, tmp_path):
    with pytest.raises(InputError, match="more than 10,000 points"):
        sweeps.read_grid(write(tmp_path / "g.json", {name: list(range(30)) for name in "ABC"}))
    grid = write(tmp_path / "g.json", [{"EPOCHS": 2}, {"EPOCHS": "2"}])
    with pytest.raises(InputError, match="twice: keep one"):
        sweeps.plan_all(notebook(WORK), grid, {})


def test_names_tell_the_point_and_never_clash(notebook, tmp_path):
    grid = write(tmp_path / "g.yaml", "RATE: [0.003, 0.3]\nNOTE: [新闻, '../../x', '']\n")
    found, varied = sweeps.plan_all(notebook(WORK), grid, {})
    assert sorted(varied) == ["NOTE", "RATE"]
    assert len(found) == 6
    assert all(re.fullmatch(r"g-[a-z0-9_-]+-[0-9a-f]{12}", name) for name in found)
    assert list(found) == list(sweeps.plan_all(notebook(WORK), grid, {})[0])


def test_a_sweep_runs_all_and_then_only_what_is_missing(notebook, here, runs_folder, capsys):
    path = notebook(WORK)
    grid = write(here / "g.yaml", "EPOCHS: [1, 2]\nUNIT: [word, character]\n")
    assert sweeps.execute(path, grid, {"SIZES": [1]}, jobs=2) == 1
    folder = runs_folder / "toy" / "sweep-g"
    table = pd.read_csv(folder / "results.csv")
    assert list(table) == ["run", "status", "EPOCHS", "UNIT", "accuracy", "own", "seconds", "error"]
    assert list(table["status"]) == ["completed", "failed", "completed", "failed"]
    assert list(table["accuracy"].dropna()) == [0.1, 0.2]
    assert list(table["error"].dropna()) == ["AssertionError: no characters today"] * 2
    page = BeautifulSoup((folder / "report.html").read_text("utf-8"), "html.parser")
    assert "no characters today" in page.get_text()
    assert [image["alt"].partition(":")[0] for image in page.find_all("img")] == ["Mean accuracy by EPOCHS"]
    links = [a["href"] for a in page.find_all("a") if a["href"].startswith("../")]
    assert len(links) == 4
    assert all((folder / link).exists() for link in links)
    assert "4 runs: 2 completed, 2 failed; runs/toy/sweep-g/report.html" in capsys.readouterr().out
    stamps = {p: p.stat().st_mtime_ns for p in runs_folder.glob("toy/g-*/metrics.json") if ".failed" not in str(p)}
    assert len(stamps) == 2
    grid = write(here / "g.yaml", "EPOCHS: [1, 2, 3]\nUNIT: [word]\n")
    assert sweeps.execute(path, grid, {"SIZES": [1]}, options=["--no-report"]) == 0
    assert "3 runs, 2 of them done before" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert [row["status"] for row in rows(folder)] == ["completed"] * 3
    assert sorted(p.name for p in folder.iterdir()) == ["report.html", "results.csv", "sweep.ipynb"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_goes_on_where_it_was(number, notebook, here, runs_folder):
    path = notebook(WORK, name=f"toy{number:d}")
    grid = write(here / "g.yaml", "SIZES: [[1], [25], [26]]\n")
    process = start(path, grid, "--jobs", "2")
    top = runs_folder / path.stem
    wait_for(lambda: list(top.glob("g-*/metrics.json")) and list(top.glob(".g-*.partial/step")))
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    done = {p: p.stat().st_mtime_ns for p in top.glob("g-*/metrics.json") if "failed" not in str(p)}
    assert len(done) == 1
    grid = write(here / "g.yaml", "SIZES: [[1], [25]]\n")
    assert sweeps.execute(path, grid, {}, options=["--no-report"]) == 0  # what a killed sweep left running is waited for
    assert {p: p.stat().st_mtime_ns for p in done} == done
    assert [row["status"] for row in rows(top / "sweep-g")] == ["completed"] * 2


def test_a_process_that_dies_takes_only_its_own_run(notebook, here, runs_folder):
    kill = 'import os\nif UNIT == "character":\n    os.kill(os.getppid(), 9)'
    grid = write(here / "g.yaml", "UNIT: [word, character]\n")
    assert sweeps.execute(notebook(kill, WORK), grid, {"SIZES": [1]}, jobs=2, options=["--no-report"]) == 1
    table = rows(runs_folder / "toy" / "sweep-g")
    assert [(row["status"], row["error"]) for row in table] == [
        ("completed", ""),
        ("failed", "the run ended with status -9"),
    ]


def test_texts_from_parameters_and_metrics_are_only_text(notebook, here, runs_folder):
    path = notebook(f'run.record(**{{"{EVIL}": EPOCHS}})\nrun.finish()')
    grid = write(here / "g.json", [{"NOTE": EVIL}, {"NOTE": "b"}])
    assert sweeps.execute(path, grid, {}, jobs=2, options=["--no-report"]) == 0
    page = (runs_folder / "toy" / "sweep-g" / "report.html").read_text("utf-8")
    assert EVIL not in page
    assert "&lt;script&gt;alert(1)" in page


def test_code_that_changes_while_a_sweep_runs_is_told(notebook, here, runs_folder, monkeypatch):
    monkeypatch.setattr(sweeps, "run_one", lambda *_: (0, ""))
    grid = write(here / "g.json", {"EPOCHS": [1]})
    assert sweeps.execute(notebook(WORK), grid, {}) == 1
    assert "other code or data" in rows(runs_folder / "toy" / "sweep-g")[0]["error"]


# ---------------------------------------------------------------- a Dask cluster on loopback


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers: address and worker processes."""
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "elsewhere").mkdir()

    def dask(*words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + words[0], *words[1:], "--no-dashboard"],
            cwd=tmp_path / "elsewhere", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    scheduler = dask("dask_scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2])
    workers = [dask("dask_worker", address, "--nthreads", "1", "--no-nanny", "--name", str(i)) for i in (0, 1)]
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_runs_all(cluster, notebook, here, tiny_csv, runs_folder):
    address, workers = cluster
    opening = "import os\nfrom helpers import data\nassert len(data.load(NOTE).train)\nrun.record(pid=os.getppid())"
    path = notebook(opening, WORK)
    grid = write(here / "g.yaml", "SIZES: [[10], [11], [12]]\nUNIT: [word]\n")
    process = start(path, grid, "--backend", "dask", "--scheduler", address, "-p", "NOTE", "tiny.csv")
    wait_for(lambda: len(list(runs_folder.glob("toy/.g-*.partial/step"))) == 2)
    workers[0].kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    table = rows(runs_folder / "toy" / "sweep-g")
    assert [row["status"] for row in table] == ["completed"] * 3
    assert not list(here.glob("elsewhere/**/metrics.json"))
    assert record(runs_folder / "toy" / table[0]["run"])["status"] == "completed"


def test_a_scheduler_that_is_not_there(notebook, here, runs_folder):
    pytest.importorskip("distributed")
    grid = write(here / "g.yaml", "EPOCHS: [1]\n")
    with pytest.raises(InputError, match="No Dask scheduler answers at"):
        sweeps.execute(notebook(WORK), grid, {}, scheduler="tcp://127.0.0.1:9")
    assert not os.path.exists(runs_folder)


@pytest.mark.slow
def test_three_kills_at_random_times_damage_nothing(notebook, here, runs_folder):
    path = notebook(WORK)
    grid = write(here / "g.yaml", "SIZES: [[4], [5], [6]]\n")
    command = ["sweep", str(path), str(grid), "--jobs", "2", "--no-report"]
    stress.attack(command, runs_folder, kills=3, longest=9, seed=1)
    assert [row["status"] for row in stress.table(runs_folder).values()] == ["completed"] * 3
