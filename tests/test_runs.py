"""Runs: what each kind of end leaves behind, as record, exit status and files."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import RECORD, left, record, states

from helpers import InputError, files, runs
from helpers.commands import engine, run
from helpers.commands import report as reports

SLEEP = (
    "import pathlib\npathlib.Path(run.folder, 'reached').write_text('')\nprint('so far', flush=True)\ntime.sleep(60)"
)
AFTER = "print('never')"


# ---------------------------------------------------------------- a run that ends well


def test_a_run_is_whole(notebook, runs_folder, monkeypatch):
    before = dict(os.environ)
    assert run.execute(notebook(), {"EPOCHS": "5", "NOTE": "新闻"}) == 0
    folder = runs_folder / "toy" / "default"
    assert left(runs_folder) == [f"toy/default/{n}" for n in ("metrics.json", "notebook.ipynb", "report.html")]
    found = record(folder)
    assert (found["notebook"], found["name"], found["status"]) == ("toy", "default", "completed")
    assert found["parameters"]["EPOCHS"] == 5
    assert found["metrics"] == {"accuracy": 0.5}
    assert found["seconds"] > 0
    assert found["versions"]["papermill"]
    assert set(states(folder)) == {"completed"}
    book = nbformat.read(folder / "notebook.ipynb", 4)
    nbformat.validate(book)
    injected = next(c for c in book.cells if "injected-parameters" in c.metadata.get("tags", []))
    assert injected.source == "# Parameters\nEPOCHS = 5\nNOTE = '新闻'\n"
    assert str(runs_folder.parent) not in (folder / "notebook.ipynb").read_text("utf-8")
    assert dict(os.environ) == before


def test_a_finished_run_is_kept(notebook, runs_folder, capsys):
    path, folder = notebook(), runs_folder / "toy" / "default"
    assert run.execute(path, {}, report=False) == 0
    stamp = (folder / "metrics.json").stat().st_mtime_ns
    with pytest.raises(InputError, match="toy/default is finished: add --force"):
        run.execute(path, {})
    assert run.execute(path, {}, update=True) == run.execute(path, {}, resume=True) == 0
    assert capsys.readouterr().out.count("unchanged, skipped") == 2
    assert (folder / "metrics.json").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="add --force"):
        run.execute(path, {"EPOCHS": 4}, resume=True)
    assert run.execute(path, {"EPOCHS": 4}, update=True, report=False) == 0
    assert record(folder)["metrics"] == {"accuracy": 0.4}
    broken = notebook("1 / 0")
    assert run.execute(broken, {}, force=True, report=False) == 1
    assert record(folder)["metrics"] == {"accuracy": 0.4}
    assert record(runs_folder / "toy" / "default.failed")["status"] == "failed"
    assert run.execute(notebook(), {"EPOCHS": 4}, update=True) == 0
    assert [p.name for p in (runs_folder / "toy").iterdir()] == ["default"]


def test_what_decides_a_run_is_in_its_fingerprint(notebook, tiny_csv):
    path = notebook(parameters='DATA: str = "x"  # a file')
    one = run.fingerprint(path, {"DATA": str(tiny_csv)})
    assert one == run.fingerprint(path, {"DATA": str(tiny_csv)})
    tiny_csv.write_text(tiny_csv.read_text("utf-8") + "one more,sport\n", "utf-8")
    assert run.fingerprint(path, {"DATA": str(tiny_csv)}) != one
    assert run.fingerprint(path, {"DATA": "x"}) != run.fingerprint(path, {"DATA": "y"})
    assert run.fingerprint(notebook("2", parameters=None), {}) != run.fingerprint(notebook("3", parameters=None), {})


def test_an_address_decides_the_fingerprint_by_its_bytes(notebook, tmp_path):
    path = notebook("1", parameters='DATA: str = ""  # an address')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = []
        for content in ("text,label\na,x\n", "text,label\na,y\n"):
            (tmp_path / "a.csv").write_text(content, "utf-8")
            run._web_digest.cache_clear()
            found.append(run.fingerprint(path, {"DATA": f"HTTP://127.0.0.1:{server.server_port}/a.csv"}))
        server.shutdown()
    assert found[0] != found[1]


def test_a_folder_decides_the_fingerprint_by_what_it_holds(notebook, tmp_path, runs_folder):
    path = notebook("run.finish()", parameters='PRESET: str = "x"  # a folder')
    folder = tmp_path / "preset"
    (folder / "assets" / "tokenizer").mkdir(parents=True)
    for name in ("model.safetensors", "assets/tokenizer/vocabulary.txt"):
        before = run.fingerprint(path, {"PRESET": str(folder)})
        (folder / name).write_text("other", "utf-8")
        assert run.fingerprint(path, {"PRESET": str(folder)}) != before
    assert run.execute(path, {}, report=False) == 0
    made = runs_folder / "toy" / "default"
    (made / "costs.csv").write_text("model,seconds\n", "utf-8")
    assert [p.name for p in run.named_files(str(made))] == ["costs.csv", "metrics.json"]


def test_a_notebook_by_hand_writes_to_interactive(runs_folder):
    for accuracy in (0.1, 0.2):
        by_hand = runs.start("toy", {"EPOCHS": 3, "_X": 1, "REPO": "x", "lower": 2})
        assert runs.checkpoint("model") is None
        by_hand.record(accuracy=accuracy, lost=float("nan"))
        assert not (runs_folder / "toy" / "interactive").exists() or accuracy == 0.2
        by_hand.finish()
    found = record(runs_folder / "toy" / "interactive")
    assert found["metrics"] == {"accuracy": 0.2, "lost": None}
    assert found["parameters"] == {"EPOCHS": 3}
    assert [p.name for p in (runs_folder / "toy").iterdir()] == ["interactive"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, "new and long")
    assert path.read_text("utf-8") == "old"
    assert left(tmp_path) == ["a.txt"]


def test_a_run_that_was_being_replaced_comes_back(notebook, runs_folder, capsys):
    path, folder = notebook(), runs_folder / "toy"
    assert run.execute(path, {}, report=False) == 0
    (folder / "default").rename(folder / ".default.old")  # as a process leaves it that is killed just then
    assert run.execute(path, {}, update=True) == 0
    assert "unchanged, skipped" in capsys.readouterr().out
    assert [p.name for p in folder.iterdir()] == ["default"]


# ---------------------------------------------------------------- a run that ends badly

KILLED = "the kernel died, killed by the system"
FAULTS = {
    "a failing cell": (["1 / 0", AFTER], {}, "ZeroDivisionError: division by zero", 1),
    "a killed kernel": (["import os\nos.kill(os.getpid(), 9)", AFTER], {}, KILLED, 1),
    "a cell that takes too long": ([SLEEP, AFTER], {"cell_timeout": 1}, "CellTimeoutError", 1),
    "sys.exit(0)": (["import sys\nsys.exit(0)", AFTER], {}, "a cell ended the kernel", 1),
    "sys.exit(0) in the last cell": (["1", "import sys\nsys.exit(0)"], {}, "a cell ended the kernel", 0),
    "input()": (["input()", AFTER], {}, "StdinNotImplementedError", 1),
    "hostile text": (["raise ValueError('<script>\\n' + '新' * 9)", AFTER], {}, "ValueError: <script>", 1),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_failed_run_says_what_failed_and_what_never_ran(case, notebook, runs_folder, capsys):
    sources, limits, error, waiting = FAULTS[case]
    assert run.execute(notebook(*sources), {"EPOCHS": 4}, report=False, **limits) == 1
    folder = runs_folder / "toy" / "default.failed"
    found = record(folder)
    assert (found["status"], found["cells_not_run"], found["parameters"]["EPOCHS"]) == ("failed", waiting, 4)
    assert error in found["error"]
    cells = states(folder)
    assert cells[found["failed_cell"]] == "failed"
    assert cells == ["completed"] * found["failed_cell"] + ["failed"] + ["pending"] * waiting
    assert nbformat.read(folder / "notebook.ipynb", 4).metadata.papermill["exception"]
    assert [p.name for p in (runs_folder / "toy").iterdir()] == ["default.failed"]
    said = capsys.readouterr().err.splitlines()
    assert error in said[-1]
    assert said[-2] == "What toy (default) had done is kept in runs/toy/default.failed/"
    if SLEEP in sources:
        assert "so far" in (folder / "notebook.ipynb").read_text("utf-8")


def test_an_unknown_kernel_is_told_and_nothing_counts_as_run(notebook, tmp_path):
    out = tmp_path / "notebook.ipynb"
    with pytest.raises(Exception, match="No such kernel named nosuch"):
        papermill.execute_notebook(notebook(), out, engine_name="honest", kernel_name="nosuch", progress_bar=False)
    assert set(states(tmp_path)) == {"pending"}
    assert nbformat.read(out, 4).metadata.papermill["exception_type"] == "NoSuchKernel"


def test_a_notebook_of_another_environment_runs_in_this_python(notebook, runs_folder):
    path = notebook("import sys\nprint(sys.executable)")
    path.write_text(path.read_text("utf-8").replace('"name": "python3"', '"name": "conda-env-x"'), "utf-8")
    assert run.execute(path, {}, report=False) == 0
    assert sys.executable in (runs_folder / "toy" / "default" / "notebook.ipynb").read_text("utf-8")


def start(path: Path, *words: str) -> subprocess.Popen:
    arguments = [sys.executable, "-m", "helpers", "run", str(path), "--no-report", *words]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(folder: Path, pattern: str, seconds: float = 60) -> Path:
    """The first file below a folder that matches, as soon as it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := list(folder.glob(pattern)):
            return found[0]
        time.sleep(0.05)
    raise TimeoutError(pattern)


@pytest.mark.parametrize(
    ("number", "status", "error"),
    [
        (signal.SIGINT, 130, "stopped by the user"),
        (signal.SIGTERM, 143, "stopped from outside (signal 15)"),
        (signal.SIGHUP, 129, "stopped from outside (signal 1)"),
    ],
)
def test_a_signal_ends_a_run_in_order(number, status, error, notebook, runs_folder):
    process = start(notebook(SLEEP, AFTER))
    wait_for(runs_folder, "toy/.*.partial/reached")
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Traceback" not in said
    folder = runs_folder / "toy" / "default.failed"
    assert error in record(folder)["error"]
    assert states(folder)[-2:] == ["failed", "pending"]
    assert "so far" in (folder / "notebook.ipynb").read_text("utf-8")
    assert left(runs_folder) == [f"toy/default.failed/{n}" for n in FAILED]


FAILED = ["checkpoint/.fingerprint", "kernel.log", "metrics.json", "notebook.ipynb", "reached"]


def test_a_killed_run_has_no_final_name_and_hinders_nobody(notebook, runs_folder):
    process = start(notebook(SLEEP, AFTER))
    wait_for(runs_folder, "toy/.*.partial/reached")
    process.kill()
    assert process.wait() == -9
    assert [p.name for p in (runs_folder / "toy").iterdir() if not p.name.startswith(".")] == []
    assert run.execute(notebook(RECORD), {}, report=False) == 0
    assert [p.name for p in (runs_folder / "toy").iterdir()] == ["default"]


def test_two_runs_into_one_name(notebook, runs_folder):
    gate = runs_folder.parent / "gate"
    wait = f"import pathlib\nwhile not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.1)"
    path = notebook("import pathlib\npathlib.Path(run.folder, 'reached').write_text('')", wait, RECORD)
    process = start(path)
    wait_for(runs_folder, "toy/.*.partial/reached")
    clock = time.monotonic()
    with pytest.raises(InputError, match="Another process is building runs/toy/default"):
        run.execute(path, {})
    assert time.monotonic() - clock < 5
    assert (runs_folder / "toy" / ".default.lock").exists()
    gate.touch()
    process.communicate()
    assert process.returncode == 0
    assert record(runs_folder / "toy" / "default")["status"] == "completed"
    assert [p.name for p in (runs_folder / "toy").iterdir()] == ["default"]


def test_a_mistake_found_in_the_kernel_is_one_sentence(notebook, runs_folder, command):
    path = notebook("from helpers import InputError", "raise InputError('my.csv has no rows: add some.')", AFTER)
    done = command("run", path)
    assert done.status == 2
    assert done.err.splitlines()[-1] == "error: my.csv has no rows: add some."
    assert "Traceback" not in done.err
    assert record(runs_folder / "toy" / "default.failed")["cells_not_run"] == 1


def test_the_kernel_is_reached_by_pipes_not_ports(notebook, runs_folder):
    show = "import json, ipykernel\nprint(json.loads(ipykernel.get_connection_info())['transport'])"
    assert run.execute(notebook(show), {}, report=False) == 0
    book = nbformat.read(runs_folder / "toy" / "default" / "notebook.ipynb", 4)
    assert book.cells[-1].outputs[0].text == "ipc\n"


def test_stopping_while_the_report_is_made_loses_no_run(notebook, runs_folder, monkeypatch):
    monkeypatch.setattr(reports, "render", lambda *_: signal.raise_signal(signal.SIGINT))
    assert run.execute(notebook(), {}) == 0
    assert record(runs_folder / "toy" / "default")["status"] == "completed"
    assert [p.name for p in (runs_folder / "toy").iterdir()] == ["default"]


def test_a_run_that_could_have_been_resumed_says_so(notebook, runs_folder, capsys):
    path = notebook(TRAINING, "1 / 0")
    assert run.execute(path, {}, report=False) == 1
    assert run.execute(path, {}, report=False) == 1
    assert "--resume would have continued it" in capsys.readouterr().err


def test_a_mistake_found_after_training_keeps_the_training(notebook, runs_folder, capsys):
    path = notebook(TRAINING, "from helpers import InputError\nraise InputError('The hub is away: try again.')")
    for _ in range(2):
        with pytest.raises(InputError, match=r"^The hub is away: try again.$"):
            run.execute(path, {}, report=False, resume=True)
        assert record(runs_folder / "toy" / "default.failed")["status"] == "failed"
        assert "is kept in runs/toy/default.failed/" in capsys.readouterr().err
    assert "begins after epoch 3" in (runs_folder / "toy" / "default.failed" / "notebook.ipynb").read_text("utf-8")


def test_a_file_without_rows_to_choose_by_is_refused(notebook, tmp_path):
    (tmp_path / "few.csv").write_text("text,label\na,x\nb,x\nc,y\nd,y\n", "utf-8")
    path = notebook(parameters='DATA: str = "x"  # a file')
    with pytest.raises(InputError, match=r"few.csv has too few texts to choose a model by"):
        run.plan(path, {"DATA": str(tmp_path / "few.csv")})


# ---------------------------------------------------------------- disks


def test_a_full_disk_while_the_notebook_runs(notebook, runs_folder, monkeypatch, capsys):
    write, count = files.write_atomic, []

    def full(path, content, **options):
        count.append(path)
        if len(count) > 2:
            raise OSError(28, "No space left on device")
        write(path, content, **options)

    monkeypatch.setattr(engine, "write_atomic", full)
    monkeypatch.setattr(engine, "SAVE_EVERY", 0.0)
    assert run.execute(notebook(), {}) == 1
    folder = runs_folder / "toy" / "default.failed"
    nbformat.validate(nbformat.read(folder / "notebook.ipynb", 4))
    assert "No space left on device" in capsys.readouterr().err
    assert not (runs_folder / "toy" / "default").exists()


def test_a_full_disk_at_the_end_leaves_what_is_whole(notebook, runs_folder, monkeypatch, capsys):
    def full(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "write_json", full)
    assert run.execute(notebook(), {}) == 1
    assert "its record cannot be written (No space left on device)" in capsys.readouterr().err
    assert set(states(runs_folder / "toy" / "default.failed")) == {"completed"}


def test_a_report_that_cannot_be_made_loses_no_run(notebook, runs_folder, monkeypatch, capsys):
    monkeypatch.setattr(reports, "render", lambda *_: (_ for _ in ()).throw(RuntimeError("no template")))
    assert run.execute(notebook(), {}) == 0
    assert "The run has no report.html (RuntimeError: no template)" in capsys.readouterr().err
    assert record(runs_folder / "toy" / "default")["status"] == "completed"


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(small_disk, notebook, command, monkeypatch):
    monkeypatch.setenv("HELPERS_RUNS", str(small_disk / "runs"))
    done = command("run", notebook("print('x' * 100_000)"))
    assert done.status in (1, 2)
    assert "No space left on device" in done.err
    assert "Traceback" not in done.err
    assert not (small_disk / "runs" / "toy" / "default").exists()


def test_a_place_that_cannot_be_written(notebook, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HELPERS_RUNS", str(tmp_path / "file" / "runs"))
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\)"):
        run.execute(notebook(), {})


def test_a_read_only_disk(small_disk, notebook, monkeypatch):
    monkeypatch.setenv("HELPERS_RUNS", str(small_disk / "runs"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
        run.execute(notebook(), {})


# ---------------------------------------------------------------- resume

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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_run_goes_on_from_its_checkpoint(number, notebook, runs_folder, monkeypatch):
    path, folder = notebook(TRAINING, RECORD), runs_folder / "toy" / "default"
    monkeypatch.setenv("PAUSE", "0.2")
    process = start(path, "-p", "EPOCHS", "60")
    state = wait_for(runs_folder, "toy/.*.partial/checkpoint/model-1/state.json")
    while json.loads(state.read_text("utf-8"))["done"] < 3:
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate()
    monkeypatch.setenv("PAUSE", "0")
    assert run.execute(path, {"EPOCHS": "60"}, resume=True, report=False) == 0
    assert record(folder)["resumed"] is True
    said = (folder / "notebook.ipynb").read_text("utf-8")
    assert int(re.search(r"begins after epoch (\d+)", said)[1]) >= 3
    assert [p.name for p in (runs_folder / "toy").iterdir()] == ["default"]


def test_resume_hands_on_only_what_fits(notebook, runs_folder):
    path = notebook(TRAINING, "import os, signal\nif not (run.folder / 'checkpoint' / 'again').exists():\n    "
                    "(run.folder / 'checkpoint' / 'again').mkdir()\n    os.kill(os.getpid(), 9)", RECORD)  # fmt: skip
    folder = runs_folder / "toy"

    def begins():
        name = "default" if (folder / "default").exists() else "default.failed"
        return (folder / name / "notebook.ipynb").read_text("utf-8").count("begins after epoch 3")

    assert run.execute(path, {}, report=False) == 1
    assert run.execute(path, {"RATE": 0.5}, report=False, resume=True) == 1
    assert begins() == 0
    assert run.execute(path, {"RATE": 0.5}, report=False, resume=True) == 0
    assert begins() == 1
    assert record(folder / "default")["resumed"] is True
    assert "checkpoint" not in [p.name for p in (folder / "default").iterdir()]


def test_trainings_of_one_name_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv(runs.FOLDER_VARIABLE, str(tmp_path))
    runs._fits.clear()
    assert [runs.checkpoint(label).name for label in ("a", "a", "../b c/新")] == [
        "a-1",
        "a-2",
        "..%2Fb%20c%2F%E6%96%B0-1",
    ]
    assert {p.parent for p in tmp_path.glob("checkpoint/*")} == {tmp_path / "checkpoint"}


# ---------------------------------------------------------------- the command line


def test_help_is_quick_and_needs_no_tensorflow(command):
    script = "import sys\nfrom helpers import __main__, runs, parameters\n"
    script += "try: __main__.main(['--help'])\nexcept SystemExit: pass\n"
    script += (
        "print([m for m in ('tensorflow', 'keras', 'pandas', 'numpy', 'nbconvert', 'papermill') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    taken = []
    for _ in range(3):
        clock = time.perf_counter()
        assert command("--help").status == 0
        taken.append(time.perf_counter() - clock)
    assert min(taken) < 0.3


def test_a_run_on_the_command_line(notebook, command, runs_folder, tmp_path):
    (tmp_path / "p.yaml").write_text("RATE: 1e-3\nEPOCHS: 9\n", "utf-8")
    done = command(
        "run", notebook("# Train", RECORD), "-f", "p.yaml", "-p", "EPOCHS", "7", "--name", "mine", "--no-report"
    )
    assert done.status == 0, done.err
    assert done.out.startswith("toy (mine): done in ")
    found = record(runs_folder / "toy" / "mine")["parameters"]
    assert (found["RATE"], found["EPOCHS"]) == (0.001, 7)
    assert re.search(r"^EPOCHS +int +3 ", command("params", notebook()).out, re.MULTILINE)
    assert command("run", notebook("1 / 0"), "--no-report").status == 1
