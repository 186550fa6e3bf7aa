"""Sweeps: every point a run of its own, failures that stop nobody, and nothing done twice."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import stress
from bs4 import BeautifulSoup
from conftest import command, free_port, names, record, run_notebook, start, wait_for
from test_reports import words

from helpers import InputError, contenders
from helpers.commands import sweep

WORK = """
assert UNIT != "character", "no characters today"
for step in range(SIZES[0]):
    (run.folder / "step").write_text(str(step))
    time.sleep(0.2)
run.record(accuracy=EPOCHS * RATE, own=1)
run.finish()
"""
EVIL = "<script>alert(1)</script>"


def write(folder: Path, grid: object) -> Path:
    (path := folder / "g.yaml").write_text(grid if isinstance(grid, str) else json.dumps(grid), "utf-8")
    return path


def test_names_tell_the_point_and_never_clash(notebook, tmp_path):
    grid = write(tmp_path, "RATE: [0.003, 0.3]\nNOTE: [新闻, '../../x', '']\nEPOCHS: 40\n")
    found, varied = sweep.plan_all(notebook(WORK), grid, {})
    assert varied == ["RATE", "NOTE", "EPOCHS"]
    assert len(found) == 6 and {run.values["EPOCHS"] for run in found.values()} == {40}
    assert all(re.fullmatch(r"g-[a-z0-9_-]+-[0-9a-f]{12}", name) for name in found)
    assert list(found) == list(sweep.plan_all(notebook(WORK), grid, {})[0])


def test_texts_are_only_text_and_code_that_changes_is_told(notebook, tmp_path, runs_folder, monkeypatch):
    monkeypatch.setattr(sweep, "run_one", lambda *_: (0, ""))
    assert sweep.execute(notebook(WORK), write(tmp_path, [{"NOTE": EVIL}]), {}) == 1
    assert "other code or data" in stress.table(runs_folder)[0]["error"]
    page = (runs_folder / "toy" / "sweep-g" / "report.html").read_text("utf-8")
    assert EVIL not in page and "&lt;script&gt;alert(1)" in page and "other code or data" in page


@pytest.mark.kernel
def test_a_sweep_runs_all_and_then_only_what_is_missing(notebook, tmp_path, runs_folder, capsys):
    die = 'import os\nif NOTE == "die":\n    os.kill(os.getppid(), 9)'
    path = notebook(die, WORK)
    points = [{"EPOCHS": 1}, {"UNIT": "character"}, {"NOTE": "die"}]
    assert sweep.execute(path, write(tmp_path, points), {"SIZES": [1]}, jobs=2) == 1
    assert "3 runs: 2 failed, 1 completed; runs/toy/sweep-g/report.html" in capsys.readouterr().out
    folder = runs_folder / "toy" / "sweep-g"
    page = BeautifulSoup((folder / "report.html").read_text("utf-8"), "html.parser")
    shown = [words(row).partition(" ")[2] for row in page.select("tbody tr")]
    assert shown[0].startswith("0.100 EPOCHS = 1") and shown[2].startswith("failed the run ended with status -9")
    links = [a["href"] for a in page.select("td a")]
    assert len(links) == 2 and all((folder / link).exists() for link in links)
    assert names(folder) == ["report.html", "results.csv"]
    columns = ["run", "status", "seconds", "error", "EPOCHS", "UNIT", "NOTE", "accuracy", "own"]
    assert list(stress.table(runs_folder)[0]) == columns
    assert [(row["status"], row["accuracy"], row["error"]) for row in stress.table(runs_folder)] == [
        ("completed", "0.1", ""),
        ("failed", "", "AssertionError: no characters today"),
        ("failed", "", "the run ended with status -9"),
    ]
    (done,) = (p for p in runs_folder.glob("toy/g-*/metrics.json") if "failed" not in str(p))
    stamp = done.stat().st_mtime_ns
    points = [{"EPOCHS": 1}, {"EPOCHS": 2}]
    assert sweep.execute(path, write(tmp_path, points), {"SIZES": [1]}, report=False) == 0
    assert "2 runs, 1 of them done before" in capsys.readouterr().err
    assert done.stat().st_mtime_ns == stamp
    assert [row["status"] for row in stress.table(runs_folder)] == ["completed"] * 2


@pytest.mark.kernel
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_sweep_goes_on_where_it_was(number, status, notebook, tmp_path, runs_folder):
    path, top = notebook(WORK), runs_folder / "toy"
    process = start("sweep", path, write(tmp_path, "SIZES: [[1], [40], [41]]\n"), "--jobs", "2", "--no-report")
    wait_for(lambda: list(top.glob("g-*/metrics.json")) and list(top.glob(".g-*.partial/step")))
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status
    (done,) = (p for p in top.glob("g-*/metrics.json") if "failed" not in str(p))
    stamp = done.stat().st_mtime_ns
    assert not list(top.glob(".*.lock")), "what it had begun has ended in order"
    assert sweep.execute(path, write(tmp_path, "SIZES: [[1], [40]]\n"), {}, report=False) == 0
    assert done.stat().st_mtime_ns == stamp
    assert [row["status"] for row in stress.table(runs_folder)] == ["completed"] * 2


@pytest.mark.slow
def test_three_kills_at_random_times_damage_nothing(notebook, tmp_path, runs_folder):
    grid = write(tmp_path, "SIZES: [[4], [5], [6]]\n")
    command = ["sweep", str(notebook(WORK)), str(grid), "--jobs", "2", "--no-report"]
    stress.attack(command, runs_folder, kills=3, longest=3, seed=2)
    assert [row["status"] for row in stress.table(runs_folder)] == ["completed"] * 3


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers: address and worker processes."""
    pytest.importorskip("distributed")
    address = f"tcp://127.0.0.1:{free_port()}"
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
def test_a_cluster_that_loses_a_worker_runs_all(cluster, notebook, tmp_path, tiny_csv, runs_folder):
    address, workers = cluster
    path = notebook("from helpers import data\nassert len(data.load(NOTE).train)", WORK)
    grid = write(tmp_path, "SIZES: [[10], [11], [12]]\nUNIT: [word]\n")
    words = ["sweep", path, grid, "--backend", "dask", "--scheduler", address, "--no-report"]
    process = start(*words, cwd=tmp_path, NOTE="tiny.csv")
    wait_for(lambda: list(runs_folder.glob("toy/.g-*.partial/step")))
    workers[0].kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert [row["status"] for row in stress.table(runs_folder)] == ["completed"] * 3
    assert not list(tmp_path.glob("elsewhere/**/metrics.json"))
    texts, y = ["one ball", "one price"] * 9, np.tile([0, 1], 9)
    contenders.save(tmp_path / "model", "tfidf", contenders.fit_words(texts, y, texts, y, "word"))
    (tmp_path / "model" / "classifier.json").write_text('{"labels": ["a", "b"], "recommended": "tfidf"}')
    command("predict", tmp_path, tiny_csv, "--out", tmp_path / "out.csv", "--backend", "dask", "--scheduler", address)


def test_a_scheduler_that_is_not_there(notebook, tmp_path, runs_folder):
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match="No Dask scheduler with a worker answers at"):
        grid = write(tmp_path, "EPOCHS: [1]\n")
        sweep.execute(notebook(WORK), grid, {}, backend="dask", scheduler="tcp://127.0.0.1:9")
    assert not runs_folder.exists()


@pytest.mark.slow
def test_10_trains_on_many(small, tmp_path):
    said = record(run_notebook("10", tmp_path, **small, STEPS=24, BATCH=8, WIDTH=8))
    assert said["status"] == "completed" and said["metrics"]["loss_difference"] < 1e-4
