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

from helpers import InputError, files, plots
from helpers.commands import cluster as cluster_module
from helpers.commands import execution
from helpers.commands import sweep as sweeps

WORK = """
assert UNIT != "character", "no characters today"
for step in range(SIZES[0]):
    (run.folder / "step").write_text(str(step))
    time.sleep(0.2)
run.record(accuracy=EPOCHS * RATE, own=1)
run.finish()
"""


def rows(folder: Path) -> list[dict]:
    with (folder / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, grid: object) -> Path:
    path.write_text(grid if isinstance(grid, str) else json.dumps(grid), "utf-8")
    return path


def alive(word: str) -> list[str]:
    """The processes whose command line has a word."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = place.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if word in text:
            found.append(text)
    return found


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_grid_is_every_combination_or_a_list_of_runs(tmp_path):
    path = write(tmp_path / "g.yaml", "RATE: [1e-3, 0.1]\nUNIT: [word, character]\nEPOCHS: 4\n")
    assert sweeps.read_grid(path) == [
        {"RATE": rate, "UNIT": unit, "EPOCHS": "4"} for rate in ("1e-3", "0.1") for unit in ("word", "character")
    ]
    points = [{"EPOCHS": 1}, {"EPOCHS": 2, "RATE": 0.5}]
    assert sweeps.read_grid(write(tmp_path / "g.json", points)) == points


@pytest.mark.parametrize("text", ["", "a", "[]", "{}", "[1]", "[{}]", "EPOCHS: []", "[[1]]"])
def test_a_grid_without_points_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="has no points"):
        sweeps.read_grid(write(tmp_path / "g.json", text))


def test_a_grid_that_is_far_too_large_is_refused(tmp_path):
    with pytest.raises(InputError, match="more than 10,000 points"):
        sweeps.read_grid(write(tmp_path / "g.json", {name: list(range(30)) for name in "ABC"}))


def test_names_tell_the_point_and_never_clash(notebook, tmp_path):
    grid = write(tmp_path / "g.yaml", "RATE: [0.003, 0.3]\nNOTE: [新闻, '../../x', '']\n")
    orders, varied = sweeps.plan(notebook(WORK), grid, {})
    assert varied == ["RATE", "NOTE"]
    names = [order.name for order in orders]
    assert len(set(names)) == len(names) == 6
    assert all(re.fullmatch(r"g-[a-z0-9_-]+-[0-9a-f]{12}", name) for name in names)
    assert names == [order.name for order in sweeps.plan(notebook(WORK), grid, {})[0]]


def test_a_sweep_runs_all_and_then_only_what_is_missing(notebook, here, runs_folder, capsys):
    path = notebook(WORK)
    grid = write(here / "g.yaml", "EPOCHS: [1, 2]\nUNIT: [word, character]\n")
    assert sweeps.execute(path, grid, {"SIZES": [1]}, sweeps.Cluster(jobs=2), options=["--no-report"]) == 1
    folder = runs_folder / "toy" / "sweep-g"
    table = pd.read_csv(folder / "results.csv")
    assert list(table) == ["run", "status", "EPOCHS", "UNIT", "accuracy", "own", "seconds", "error"]
    assert list(table["status"]) == ["completed", "failed", "completed", "failed"]
    assert list(table["accuracy"].dropna()) == [0.1, 0.2]
    assert list(table["error"].dropna()) == ["AssertionError: no characters today"] * 2
    page = BeautifulSoup((folder / "report.html").read_text("utf-8"), "html.parser")
    assert "no characters today" in page.get_text()
    assert len(page.find_all("img")) == 1
    assert "accuracy by EPOCHS" in page.find("img")["alt"]
    assert "4 runs: 2 completed, 2 failed; runs/toy/sweep-g/report.html" in capsys.readouterr().out
    stamps = {p: p.stat().st_mtime_ns for p in runs_folder.glob("toy/g-*/metrics.json") if ".failed" not in str(p)}
    assert len(stamps) == 2
    grid = write(here / "g.yaml", "EPOCHS: [1, 2, 3]\nUNIT: [word]\n")
    assert sweeps.execute(path, grid, {"SIZES": [1]}, sweeps.Cluster(), options=["--no-report"]) == 0
    assert "3 runs, 2 of them done before" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert [row["status"] for row in rows(folder)] == ["completed"] * 3
    assert sorted(p.name for p in folder.iterdir()) == ["report.html", "results.csv", "sweep.ipynb"]


def start(path: Path, grid: Path, *words: str) -> subprocess.Popen:
    arguments = [sys.executable, "-m", "helpers", "sweep", str(path), str(grid), *words]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(test, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_goes_on_where_it_was(number, notebook, here, runs_folder):
    path = notebook(WORK, name=f"toy{number:d}")
    grid = write(here / "g.yaml", "SIZES: [[1], [25], [26]]\n")
    process = start(path, grid, "--jobs", "2", "--no-report")
    top = runs_folder / path.stem
    wait_for(lambda: len(list(top.glob(".g-*.partial/step"))) == 2 or list(top.glob("g-*/metrics.json")))
    wait_for(lambda: list(top.glob("g-*/metrics.json")))
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    wait_for(lambda: not alive(str(path)), 20)
    done = [p for p in top.glob("g-*") if "." not in p.name]
    assert len(done) == 1
    assert record(done[0])["status"] == "completed"
    stamp = (done[0] / "metrics.json").stat().st_mtime_ns
    grid = write(here / "g.yaml", "SIZES: [[1], [25]]\n")
    assert sweeps.execute(path, grid, {}, sweeps.Cluster(), options=["--no-report"]) == 0
    assert (done[0] / "metrics.json").stat().st_mtime_ns == stamp
    assert [row["status"] for row in rows(top / "sweep-g")] == ["completed"] * 2


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two workers on loopback, in folders of their own: address and worker processes."""
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "elsewhere").mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "HELPERS_RUNS"}

    def dask(*words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + words[0], *words[1:], "--no-dashboard"],
            cwd=tmp_path / "elsewhere", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
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
    path = notebook(
        "from helpers import data\nsplits = data.load(NOTE)", WORK, "run.record(rows=len(splits.train))\nrun.finish()"
    )
    grid = write(here / "g.yaml", "SIZES: [[10], [11], [12]]\nUNIT: [word]\n")
    process = start(path, grid, "--backend", "dask", "--scheduler", address, "--no-report", "-p", "NOTE", "tiny.csv")
    wait_for(lambda: all(alive(f"--with-parent {worker.pid} ") for worker in workers))
    time.sleep(1)
    assert alive(f"--with-parent {workers[0].pid} "), "the worker that is killed has a run"
    workers[0].kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    table = rows(runs_folder / "toy" / "sweep-g")
    assert [row["status"] for row in table] == ["completed"] * 3
    assert len({row["rows"] for row in table}) == 1
    assert not list(here.glob("elsewhere/**/metrics.json"))
    wait_for(lambda: not any(alive(f"--with-parent {worker.pid} ") for worker in workers), 20)
    folder = runs_folder / "toy" / table[0]["run"]
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.json", "notebook.ipynb", "step"]


def test_a_scheduler_that_is_not_there(notebook, here, runs_folder):
    grid = write(here / "g.yaml", "EPOCHS: [1]\n")
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match="No Dask scheduler answers at"):
        sweeps.execute(notebook(WORK), grid, {}, sweeps.Cluster("dask", 1, "tcp://127.0.0.1:9"))
    assert not runs_folder.exists()


def test_a_run_travels_as_a_value(notebook, here, tiny_csv, runs_folder):
    path = notebook("(run.folder / 'figures').mkdir()\n(run.folder / 'figures' / 'a.png').write_bytes(b'1')", WORK)
    grid = write(here / "g.yaml", "EPOCHS: [1]\nUNIT: [word, character]\n")
    orders, _ = sweeps.plan(path, grid, {"NOTE": "tiny.csv", "SIZES": [1]})
    jobs = [cluster_module.pack_job(o, ["--no-report"], sweeps.Cluster("dask", 1, "x")) for o in orders]
    assert sorted(jobs[0].files) == ["tiny.csv", "toy.ipynb"]
    for order, job, status in zip(orders, jobs, (0, 1), strict=True):
        name, found, said, archive = cluster_module.run_one(job)
        assert (name, found) == (order.name, status), said
        assert not runs_folder.exists() or not list(runs_folder.glob(f"toy/{name}*"))
        assert execution.adopt(order, archive) == ""
        assert record(order.final if status == 0 else order.failed)["fingerprint"] == order.mark
    assert (orders[0].final / "figures" / "a.png").exists()
    other = sweeps.plan(path, grid, {"NOTE": "tiny.csv", "SIZES": [2]})[0][0]
    assert "another version of this project" in execution.adopt(other, cluster_module.run_one(jobs[0])[3])
    assert record(other.final)["fingerprint"] == orders[0].mark


RECORD = {
    "notebook": "toy",
    "status": "completed",
    "parameters": {},
    "seconds": 1,
    "started": "2026-01-01T00:00:00+00:00",
}


def page_of(grid: Path, notebook: Path, runs_folder: Path, metrics: list[dict]) -> str:
    """The page of a sweep whose runs are completed, with these metrics and a report each."""
    orders, varied = sweeps.plan(notebook, grid, {})
    folder = runs_folder / "toy" / "sweep-g"
    folder.mkdir(parents=True)
    for order, found in zip(orders, metrics, strict=True):
        order.final.mkdir()
        (order.final / "report.html").touch()
        files.write_json(
            order.final / "metrics.json",
            {
                **RECORD,
                "name": order.name,
                "parameters": order.values,
                "fingerprint": order.fingerprint,
                "metrics": found,
            },
        )
    sweeps.Sweep(orders, varied, folder).write_page(None)
    return (folder / "report.html").read_text("utf-8")


def test_lists_are_drawn_and_each_run_has_a_link(notebook, here, runs_folder):
    grid = write(here / "g.json", {"SIZES": [[1, 2], [3]]})
    page = page_of(grid, notebook(WORK), runs_folder, [{"accuracy": 0.1}, {"accuracy": 0.2}])
    assert "highest at [3]" in page
    links = [a["href"] for a in BeautifulSoup(page, "html.parser").find_all("a") if a["href"].startswith("../")]
    assert len(links) == 2
    assert all((runs_folder / "toy" / "sweep-g" / link).exists() for link in links)


def test_a_metric_that_no_run_has_is_not_drawn(notebook, here, runs_folder):
    grid = write(here / "g.json", {"EPOCHS": [1, 2]})
    page = page_of(grid, notebook(WORK), runs_folder, [{"accuracy": None}, {"accuracy": float("nan")}])
    assert "<img" not in page


def test_a_point_that_is_there_twice_is_refused(notebook, here):
    grid = write(here / "g.json", [{"EPOCHS": 2}, {"EPOCHS": "2"}])
    with pytest.raises(InputError, match="twice: keep one"):
        sweeps.plan(notebook(WORK), grid, {})


def test_a_full_disk_and_a_broken_page_are_told_in_a_sentence(notebook, here, runs_folder, monkeypatch, capsys):
    grid = write(here / "g.json", {"EPOCHS": [1]})
    path = notebook(WORK)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweeps, "spread", lambda jobs: ((job.name, 0, "", b"") for job in jobs))
    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "_page", full)
        assert sweeps.execute(path, grid, {}, sweeps.Cluster()) == 1
    said = capsys.readouterr()
    assert "no report.html (OSError)" in said.err
    assert said.out.strip().endswith("results.csv")
    monkeypatch.setattr(sweeps.Sweep, "_note", full)
    with pytest.raises(InputError, match="No space left"):
        sweeps.execute(path, grid, {}, sweeps.Cluster())
    assert "A worker died" not in capsys.readouterr().err
    assert len(rows(runs_folder / "toy" / "sweep-g")) == 1


def test_only_what_was_running_is_blamed_for_a_dead_worker(notebook, here, runs_folder, monkeypatch):
    grid = write(here / "g.json", {"EPOCHS": [1, 2, 3, 4]})
    orders, varied = sweeps.plan(notebook(WORK), grid, {})
    bad, sent = orders[0].name, []

    def spread(jobs):
        names = [job.name for job in jobs]
        sent.append(names)
        if bad in names:
            raise sweeps.Broken("Dead", names[:2])
        yield from ((name, 1, "", b"") for name in names)

    monkeypatch.setattr(sweeps, "spread", spread)
    folder = runs_folder / "toy" / "sweep-g"
    folder.mkdir(parents=True)
    sweeps.Sweep(orders, varied, folder).run(sweeps.Cluster(), [])
    names = [order.name for order in orders]
    assert sent == [names, names[2:], [bad], [names[1]], [bad]]
    assert ["its worker died" in row["error"] for row in rows(folder)] == [True, False, False, False]


def test_a_job_stays_in_its_folder_and_shows_no_parameter(notebook, tmp_path, tiny_csv, monkeypatch):
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    grid = write(inner / "g.json", {"EPOCHS": [1]})
    dask = sweeps.Cluster("dask", 1, "x")
    (order,), _ = sweeps.plan(notebook(WORK), grid, {"NOTE": "../tiny.csv"})
    with pytest.raises(InputError, match="does not travel"):
        cluster_module.pack_job(order, [], dask)
    (order,), _ = sweeps.plan(notebook(WORK), grid, {"NOTE": "hunter2-hunter2"})
    job = cluster_module.pack_job(order, [], dask)
    assert "hunter2" not in repr(job)
    for name in ("../up.csv", str(tmp_path / "up.csv")):
        job.files[name] = b"1"
        assert "lies outside" in cluster_module.run_one(job)[2]
        del job.files[name]
    assert not (tmp_path / "up.csv").exists()


def test_jobs_are_not_for_a_cluster():
    with pytest.raises(InputError, match="--jobs is for this machine"):
        sweeps.Cluster("dask", 2, "x")


def test_texts_from_parameters_and_errors_are_only_text(notebook, here, runs_folder):
    evil = "<script>alert(1)</script>"
    grid = write(here / "g.json", [{"NOTE": evil}, {"NOTE": "b"}])
    page = page_of(grid, notebook(WORK), runs_folder, [{evil: 0}, {evil: 1}])
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("values", [[1, 2, 2], [0.001, 0.1, 1.0], ["a", "b", "b"], [True, False, True], [None, 1, 2]])
def test_a_metric_is_drawn_against_any_parameter(values):
    table = pd.DataFrame({"A": pd.Series(values, dtype="object").infer_objects(), "accuracy": [0.1, 0.2, 0.4]})
    ax = sweeps.by_parameter(table, "A", "accuracy")
    assert ax.get_xscale() == ("log" if values[0] == 0.001 else "linear")
    assert plots.describe(ax).startswith("Mean accuracy by A: 0.")
    assert plots.to_png(ax)


KILL_WORKER = """
import os, signal
from pathlib import Path
if UNIT == "character":
    parent = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(parent), signal.SIGKILL)
"""


def test_a_worker_that_dies_takes_only_its_own_run(notebook, here, runs_folder, capsys):
    path = notebook(KILL_WORKER, WORK)
    grid = write(here / "g.yaml", "UNIT: [word, character]\n")
    assert sweeps.execute(path, grid, {"SIZES": [1]}, sweeps.Cluster(jobs=2), options=["--no-report"]) == 1
    table = rows(runs_folder / "toy" / "sweep-g")
    assert [row["status"] for row in table] == ["completed", "failed"]
    assert table[1]["error"] == "its worker died 3 times (out of memory?)"
    assert "A worker died" in capsys.readouterr().err


def test_three_kills_at_random_times_damage_nothing(notebook, here, runs_folder):
    path = notebook(WORK)
    grid = write(here / "g.yaml", "SIZES: [[4], [5], [6]]\n")
    stress.attack(
        ["sweep", str(path), str(grid), "--jobs", "2", "--no-report"], runs_folder, kills=3, longest=9, seed=1
    )
    assert [row["status"] for row in stress.table(runs_folder).values()] == ["completed"] * 3
