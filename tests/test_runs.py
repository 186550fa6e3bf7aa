"""Runs: what each kind of end leaves behind, as record, exit status and files."""

import json
import os
import re
import signal
import subprocess
import sys

import nbformat
import pytest
from conftest import RECORD, left, names, record, start, states, wait_for

from helpers import InputError, files, runs, tables
from helpers.__main__ import main
from helpers.commands import engine, report, run

SLEEP = "open(run.folder / 'reached', 'w').close()\nprint('so far', flush=True)\ntime.sleep(60)"
AFTER = "print('never')"


@pytest.fixture
def quick(monkeypatch):
    """Runs without a kernel: all cells are as completed; each takes an error from this list, and fails of it."""
    errors: list[str] = []

    def cells(plan, folder, record, *_):
        book = nbformat.read(plan.notebook, 4)
        for cell in book.cells:
            cell.metadata.papermill = {"status": "completed"}
        nbformat.write(book, folder / "notebook.ipynb")
        noted = {"metrics": {"accuracy": plan.values.get("EPOCHS", 0) / 10}, "versions": {}}
        files.write_json(folder / "metrics.json", noted)
        record |= {"seconds": 1} | ({"status": "failed", "error": errors[0]} if errors else {})
        return len(errors[:1]) and errors.pop() and 1

    monkeypatch.setattr(run, "_papermill", cells)
    return errors


@pytest.mark.kernel
def test_a_run_is_whole(notebook, runs_folder, tmp_path, capsys):
    before = dict(os.environ)
    look = "import sys, ipykernel\nprint('ipc' in ipykernel.get_connection_info(), sys.executable)"
    path = notebook(look, RECORD)
    path.write_text(path.read_text("utf-8").replace('"name": "python3"', '"name": "conda-env-x"'), "utf-8")
    (tmp_path / "p.yaml").write_text("RATE: 1e-3\nEPOCHS: 9\n", "utf-8")
    given = ["-f", str(tmp_path / "p.yaml"), "-p", "EPOCHS", "5", "-p", "NOTE", "新闻"]
    assert main(["run", str(path), *given, "--name", "mine"]) == 0
    assert capsys.readouterr().out.startswith("toy (mine): done in ")
    folder = runs_folder / "toy" / "mine"
    assert left(runs_folder) == [f"toy/mine/{n}" for n in ("metrics.json", "notebook.ipynb", "report.html")]
    found = record(folder)
    assert (found["notebook"], found["name"], found["status"]) == ("toy", "mine", "completed")
    assert (found["parameters"]["EPOCHS"], found["metrics"]) == (5, {"accuracy": 0.5})
    assert found["seconds"] > 0 and found["versions"]["papermill"]
    assert set(states(folder)) == {"completed"}
    book = nbformat.read(folder / "notebook.ipynb", 4)
    nbformat.validate(book)
    injected = next(c for c in book.cells if "injected-parameters" in c.metadata.get("tags", []))
    assert injected.source == "# Parameters\nRATE = 0.001\nEPOCHS = 5\nNOTE = '新闻'\n"
    assert book.cells[-2].outputs[0].text == f"True {sys.executable}\n", "pipes, not ports; this Python"
    assert str(runs_folder.parent) not in (folder / "notebook.ipynb").read_text("utf-8")
    assert dict(os.environ) == before
    assert run.execute(folder / "notebook.ipynb", {"EPOCHS": "6"}, report=False) == 0  # what was given before is gone
    book = nbformat.read(runs_folder / "notebook" / "default" / "notebook.ipynb", 4)
    assert [c.source for c in book.cells if "injected-parameters" in c.metadata.tags] == ["# Parameters\nEPOCHS = 6\n"]


def test_a_finished_run_is_kept(notebook, runs_folder, quick, capsys):
    path, folder = notebook(), runs_folder / "toy" / "default"
    assert run.execute(path, {}, report=False) == 0
    stamp = (folder / "metrics.json").stat().st_mtime_ns
    (folder / "corrections.csv").touch()  # of somebody who used serve
    folder.rename(folder.with_name(".default.old"))  # as a process leaves it that is killed while it replaces it
    with pytest.raises(InputError, match="toy/default is finished: add --force"):
        run.execute(path, {})
    assert run.execute(path, {}, update=True) == run.execute(path, {}, resume=True) == 0
    assert capsys.readouterr().out.count("unchanged, skipped") == 2
    assert (folder / "metrics.json").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="add --force"):
        run.execute(path, {"EPOCHS": 4}, resume=True)
    assert run.execute(path, {"EPOCHS": 4}, update=True, report=False) == 0
    quick.append("ValueError: x")
    assert run.execute(path, {}, force=True, report=False) == 1
    found = record(folder)["metrics"], record(folder.with_name("default.failed"))["status"]
    assert run.execute(path, {"EPOCHS": 4}, update=True) == 0 and found == ({"accuracy": 0.4}, "failed")
    assert names(folder.parent) == ["default"] and (folder / "corrections.csv").exists()


def test_one_process_at_a_time_builds_a_run(notebook, runs_folder, quick):
    (runs_folder / "toy").mkdir(parents=True)
    with files.locked(runs_folder / "toy" / ".default.lock", "x"):
        with pytest.raises(InputError, match="Another process is building runs/toy/default"):
            run.execute(notebook(), {})
        assert names(runs_folder / "toy") == [".default.lock"]
    assert run.execute(notebook(), {}, report=False) == 0


def test_a_notebook_by_hand_writes_to_interactive(runs_folder):
    for accuracy in (0.1, 0.2):
        by_hand = runs.start("toy", {"EPOCHS": 3, "_X": 1, "REPO": "x", "lower": 2})
        assert runs.checkpoint("model") is None
        by_hand.record(accuracy=accuracy, lost=float("nan"))
        assert not (runs_folder / "toy" / "interactive").exists() or accuracy == 0.2
        by_hand.finish()
    found = record(runs_folder / "toy" / "interactive")
    assert (found["metrics"], found["parameters"]) == ({"accuracy": 0.2, "lost": None}, {"EPOCHS": 3})
    assert names(runs_folder / "toy") == ["interactive"]


def test_what_decides_a_run_is_in_its_fingerprint(notebook, tiny_csv, tmp_path, monkeypatch):
    path = notebook(parameters='DATA: str = "x"  # a file')

    def mark(book=path, **values):
        run._digest.cache_clear()
        return run.fingerprint(book, values)

    one = mark(DATA=str(tiny_csv))
    assert one == mark(DATA=str(tiny_csv))
    tiny_csv.write_text(tiny_csv.read_text("utf-8") + "one more,sport\n", "utf-8")
    assert mark(DATA=str(tiny_csv)) != one
    monkeypatch.setenv("HOME", str(tiny_csv.parent))
    assert run.named_files(f"~/{tiny_csv.name}") == [tiny_csv]
    assert mark(DATA="x") != mark(DATA="y")
    assert mark(notebook("2", parameters=None)) != mark(notebook("3", parameters=None))
    folder = tmp_path / "preset"
    (folder / "assets" / "tokenizer").mkdir(parents=True)
    for name in ("model.safetensors", "assets/tokenizer/vocabulary.txt"):
        before = mark(PRESET=str(folder))
        (folder / name).write_text("other", "utf-8")
        assert mark(PRESET=str(folder)) != before
    content = [b"text,label\na,x\n", b"text,label\na,y\n"]
    monkeypatch.setattr(tables, "download", lambda address: content.pop())
    assert mark(DATA=(web := "HTTP://127.0.0.1/a.csv")) != mark(DATA=web), "an address counts by its bytes"


EXIT = "a cell ended the kernel (sys.exit)"
FAULTS = {
    "a failing cell": (["raise ValueError('<script>\\n' + '新' * 9)", AFTER], "ValueError: <script> 新新", 1),
    "a killed kernel": (["import os\nos.kill(os.getpid(), 9)", AFTER], "the kernel died, killed by the system", 1),
    "a cell that takes too long": ([SLEEP, AFTER], "CellTimeoutError", 1),
    "sys.exit(1)": (["import sys\nsys.exit(1)", AFTER], EXIT, 1),
    "sys.exit(0) in the last cell": (["1", "import sys\nsys.exit(0)"], EXIT, 0),
    "input()": (["input()", AFTER], "StdinNotImplementedError", 1),
}


@pytest.mark.kernel
@pytest.mark.parametrize("case", FAULTS)
def test_a_failed_run_says_what_failed_and_what_never_ran(case, notebook, runs_folder, capsys):
    sources, error, waiting = FAULTS[case]
    limit = 5 if SLEEP in sources else None
    assert run.execute(notebook(*sources), {"EPOCHS": 4}, report=False, cell_timeout=limit) == 1
    folder = runs_folder / "toy" / "default.failed"
    found, cells = record(folder), states(folder)
    assert (found["status"], found["cells_not_run"], found["parameters"]["EPOCHS"]) == ("failed", waiting, 4)
    assert error in " ".join(found["error"].split())
    assert cells == ["completed"] * found["failed_cell"] + ["failed"] + ["pending"] * waiting
    assert names(runs_folder / "toy") == ["default.failed"]
    said = capsys.readouterr().err.splitlines()
    assert error in said[-1] and (not limit or "so far" in (folder / "notebook.ipynb").read_text("utf-8"))
    assert said[-2] == "What toy (default) had done is kept in runs/toy/default.failed/"


def test_sys_exit_is_named_where_the_kernel_was_seen_to_die_of_it(tmp_path):
    output = {"output_type": "error", "ename": "SystemExit"}
    cells = [{"metadata": {"papermill": {"status": "failed"}}, "outputs": [output]}]
    (tmp_path / "notebook.ipynb").write_text(json.dumps({"cells": cells}), "utf-8")
    assert run._judge(tmp_path / "notebook.ipynb", told := {"error": "the kernel died"}, 1) == 1
    assert EXIT in told["error"] and told["failed_cell"] == 0


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("number", "status", "error"),
    [(signal.SIGINT, 130, "stopped by the user"), (signal.SIGTERM, 143, "stopped from outside (signal 15)")],
)
def test_a_signal_ends_a_run_in_order(number, status, error, notebook, runs_folder):
    process = start("run", notebook(SLEEP, AFTER), "--no-report")
    wait_for(lambda: list(runs_folder.glob("toy/.*.partial/reached")))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in said
    folder = runs_folder / "toy" / "default.failed"
    assert error in record(folder)["error"]
    assert states(folder)[-2:] == ["failed", "pending"]
    assert "so far" in (folder / "notebook.ipynb").read_text("utf-8")
    assert names(folder) == ["checkpoint", "kernel.log", "metrics.json", "notebook.ipynb", "reached"]
    assert names(runs_folder / "toy") == ["default.failed"]


def broken(*_: object) -> None:
    raise RuntimeError("no template")


@pytest.mark.parametrize("fault", [broken, lambda *_: signal.raise_signal(signal.SIGINT)], ids=["broken", "stopped"])
def test_a_report_that_cannot_be_made_loses_no_run(fault, notebook, runs_folder, quick, monkeypatch, capsys):
    monkeypatch.setattr(report, "render", fault)
    assert run.execute(notebook(), {}) == 0
    assert ("has no report.html (RuntimeError: no template)" in capsys.readouterr().err) is (fault is broken)
    assert record(runs_folder / "toy" / "default")["status"] == "completed"
    assert names(runs_folder / "toy") == ["default"]


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, "new and long")
    assert path.read_text("utf-8") == "old"
    assert left(tmp_path) == ["a.txt"]


@pytest.mark.kernel
def test_a_full_disk_while_the_notebook_runs(notebook, runs_folder, monkeypatch, capsys):
    count = iter((files.write_atomic, files.write_atomic))
    monkeypatch.setattr(engine, "write_atomic", lambda *given: next(count, full)(*given))
    assert run.execute(notebook(), {}) == 1
    nbformat.validate(nbformat.read(runs_folder / "toy" / "default.failed" / "notebook.ipynb", 4))
    assert "No space left on device" in capsys.readouterr().err
    assert names(runs_folder / "toy") == ["default.failed"]


TRAINING = """
import json, os
from helpers import files
state = runs.checkpoint("model") / "state.json"
done = json.loads(state.read_text())["done"] if state.exists() else 0
print("begins after epoch", done)
for epoch in range(done + 1, EPOCHS + 1):
    time.sleep(float(os.environ.get("PAUSE", 0)))
    files.write_json(state, {"done": epoch})
"""


@pytest.mark.kernel
def test_a_killed_run_has_no_final_name_and_goes_on_from_its_checkpoint(notebook, runs_folder, monkeypatch):
    path, folder = notebook(TRAINING, RECORD), runs_folder / "toy" / "default"
    monkeypatch.setenv("PAUSE", "0.2")
    process = start("run", path, "--no-report", EPOCHS=60)
    (state,) = wait_for(lambda: list(runs_folder.glob("toy/.*.partial/checkpoint/model-1/state.json")))
    wait_for(lambda: json.loads(state.read_text("utf-8"))["done"] >= 3)
    process.kill()
    assert process.wait() == -9
    assert all(name.startswith(".") for name in names(runs_folder / "toy"))
    monkeypatch.setenv("PAUSE", "0")
    assert run.execute(path, {"EPOCHS": "60"}, resume=True, report=False) == 0
    assert record(folder)["resumed"] is True
    said = (folder / "notebook.ipynb").read_text("utf-8")
    assert int(re.search(r"begins after epoch (\d+)", said)[1]) >= 3
    assert names(runs_folder / "toy") == ["default"]
    assert names(folder) == ["metrics.json", "notebook.ipynb"]


def test_only_resume_hands_on_what_a_run_that_fits_had_kept(notebook, runs_folder, quick, capsys):
    path, folder = notebook(), runs_folder / "toy"

    def killed(given):
        kept = folder / ".default.1.partial" / "checkpoint"
        (kept / "model-1").mkdir(parents=True)
        (kept / "model-1" / "state.json").touch()
        (kept / f".{run.plan(path, given).fingerprint}").touch()

    for given, resume, resumed in (({}, True, True), ({}, False, False), ({"EPOCHS": 5}, True, False)):
        killed({})
        quick.append("ValueError: x")
        assert run.execute(path, given, report=False, resume=resume) == 1
        assert record(folder / "default.failed")["resumed"] is resumed
        assert (folder / "default.failed" / "checkpoint" / "model-1").exists() is resumed
        assert ("--resume would have continued it" in capsys.readouterr().err) is (not resumed and not given)
        assert names(folder) == ["default.failed"]


@pytest.mark.kernel
def test_a_mistake_found_after_training_is_one_sentence_and_keeps_the_training(notebook, runs_folder, capsys):
    path = notebook(TRAINING, "from helpers import InputError\nraise InputError('The hub is away: try again.')")
    for _ in range(2):
        assert main(["run", str(path), "--resume", "--no-report"]) == 2
        kept, said = capsys.readouterr().err.splitlines()[-2:]
        assert said == "error: The hub is away: try again."
        assert "is kept in runs/toy/default.failed/" in kept
    assert "begins after epoch 3" in (runs_folder / "toy" / "default.failed" / "notebook.ipynb").read_text("utf-8")


def test_trainings_of_one_name_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv(runs.FOLDER_VARIABLE, str(tmp_path))
    runs._fits.clear()
    made = [runs.checkpoint(label) for label in ("a", "a", "../b c/新")]
    assert [folder.name for folder in made] == ["a-1", "a-2", "..%2Fb%20c%2F%E6%96%B0-1"]
    assert {folder.parent for folder in made} == {tmp_path / "checkpoint"}


def test_help_and_the_start_of_a_run_need_nothing_that_is_slow_to_import():
    script = "import sys\nfrom helpers import __main__\nfrom helpers.commands import compare, run\n"
    script += "try: __main__.main(['--help'])\nexcept SystemExit: pass\n"
    heavy = ("tensorflow", "keras", "pandas", "numpy", "nbconvert", "nbformat", "bleach", "papermill")
    script += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
