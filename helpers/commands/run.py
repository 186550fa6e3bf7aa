"""``python -m helpers run``: a notebook executed once, strictly, and kept as a run that is whole or not there.

A run is built in a hidden folder and renamed when it is complete. A failed one is kept as ``<name>.failed``, a killed
one stays hidden; ``--resume`` hands what their trainings had kept to the next attempt.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import math
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers import InputError, parameters, runs
from helpers.files import bases, locked, project_root, recover, replace_folder, runs_root, shown, write_json

MISTAKE = "InputError: "  # how papermill tells it
REMOTE = ("http://", "https://", "hf:")


def find_notebook(name: str) -> Path:
    """Returns the notebook file of a name, a number or a path; raises InputError with a near miss.

    Examples:
        >>> find_notebook("03").name
        '03_lstm_classifier.ipynb'
    """
    with contextlib.suppress(OSError):  # a name can be too long for a file
        if name.endswith(".ipynb") and Path(name).is_file():
            return Path(name).resolve()
    known = {p.stem: p for p in sorted((project_root() / "notebooks").glob("[0-9]*.ipynb"))}
    stem = name.removesuffix(".ipynb").rpartition("/")[2]
    if found := [path for key, path in known.items() if stem in (key, key.split("_")[0])]:
        return found[0]
    hint = parameters.near(stem, known, 0.4).replace("it has", "there are")
    raise InputError(f"There is no notebook {name[:80]}: {hint}")


# ---------------------------------------------------------------- before a kernel starts


@dataclass(frozen=True)
class Plan:
    """A run that is checked and may start: into ``final``, with the parameters ``given`` and, of all, ``values``."""

    notebook: Path
    name: str
    given: dict[str, Any]
    values: dict[str, Any]
    fingerprint: str  # of what decides the result
    final: Path

    @property
    def failed(self) -> Path:
        """Where a failed attempt is kept."""
        return self.final.with_name(f"{self.name}.failed")


def plan(notebook: Path, given: dict[str, Any], name: str = "default") -> Plan:
    """Checks name, parameters and the data they name before a kernel starts; raises InputError at the first fault."""
    if not re.fullmatch(r"\w[\w-]{0,80}", name) or name == "interactive" or name.startswith("sweep-"):
        raise InputError(
            f"{name[:80]!r} cannot name a run: use letters, digits, - and _, not interactive or sweep-...."
        )
    values = parameters.resolve(notebook, given)
    source, test = values.get("DATA"), values.get("TEST", "")
    if source and not source.lower().startswith(REMOTE):
        test = "" if test.lower().startswith(REMOTE) else test
        _check_data(source, test, values.get("TEXT_COLUMN", "text"), values.get("LABEL_COLUMN", "label"))
    preset = values.get("PRESET", "minilm")
    if not preset.startswith(("minilm", "bert_", "hf://", "kaggle://")) and not Path(preset).expanduser().is_dir():
        raise InputError(
            f"PRESET={preset[:80]} is none of minilm, a folder, bert_base_zh and the like, hf://owner/name."
        )
    if folders := values.get("RUNS"):
        from helpers import evaluation

        evaluation.read_runs(folders)
        evaluation.read_costs(folders)
    used = {key: values[key] for key in given}
    return Plan(notebook, name, used, values, fingerprint(notebook, values), runs_root() / notebook.stem / name)


@functools.lru_cache(maxsize=4)  # the runs of a sweep read the same files
def _check_data(source: str, test: str, text_column: str, label_column: str) -> None:
    from helpers import data

    if not len(data.load(source, test, text_column, label_column).validation):
        raise InputError(f"{source} has too few texts to choose a model by: give every class three or more.")


def fingerprint(notebook: Path, values: dict[str, Any]) -> str:
    """Returns a digest of what decides a run: cells, helpers, parameters, and the bytes of the data they name."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    digest = hashlib.sha256(json.dumps([values, [c["source"] for c in cells]], sort_keys=True).encode())
    package = Path(__file__).parent.parent
    files = [*sorted(package.rglob("*.py")), *sorted(p for p in package.glob("report/*") if p.is_file())]
    for item in (i for value in values.values() for i in (value if isinstance(value, list) else [value])):
        files += named_files(item)
        if isinstance(item, str) and item.lower().startswith(REMOTE[:2]):
            digest.update(_web_digest(item))
    if values.get("RUNS") == []:
        files += sorted((project_root() / "data" / "recorded").rglob("*.*"))
    for path in files:
        digest.update(_digest(path, path.stat().st_mtime_ns, path.stat().st_size))
    return digest.hexdigest()[:32]


@functools.lru_cache(maxsize=1000)  # the runs of a sweep share nearly all files
def _digest(path: Path, changed: int, size: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@functools.lru_cache(maxsize=4)
def _web_digest(address: str) -> bytes:
    from helpers import tables

    return hashlib.sha256(tables.download(address)).digest()


def named_files(value: Any) -> list[Path]:
    """Returns the files that a parameter's value names: a path, a shipped name, or what lies in a folder.

    Of a run, these are its record and its tables; of another folder, such as a corpus or pretrained weights, all.
    """
    places = [*bases(), project_root() / "data"] if isinstance(value, str) and value else []
    for path in (base / name for base in places for name in (value, f"{value}.csv")):
        with contextlib.suppress(OSError, ValueError):
            if path.is_file():
                return [path]
            if path.is_dir():
                is_run = (path / "metrics.json").is_file()
                patterns = ("metrics.json", "*.csv") if is_run else ("*", "assets/**/*")
                found = sorted(p for pattern in patterns for p in path.glob(pattern))
                return [p for p in found if p.is_file() and not p.name.startswith(".")]
    return []


# ---------------------------------------------------------------- the run itself


def execute(
    notebook: Path, given: dict[str, Any], name: str = "default", *, force: bool = False, update: bool = False,
    resume: bool = False, report: bool = True, cell_timeout: float | None = None,
) -> int:  # fmt: skip
    """Executes a notebook strictly and keeps the result as a run.

    Args:
        given: parameters that differ from the defaults.
        force: replace a finished run of that name.
        update: replace it only if notebook, helpers, parameters or data have changed.
        resume: skip it if it is finished and unchanged, and continue an interrupted one from its checkpoint.
        cell_timeout: seconds for one cell.

    Returns:
        Exit status: 0 only if every cell completed, 1 for a failed run, 128 + n after signal n. What the user can mend
        is an InputError: no kernel was started, or it stopped at that.
    """
    run = plan(notebook, given, name)
    with locked(run.final.with_name(f".{name}.lock"), shown(run.final)):
        recover(run.final)
        done = run.final.exists() and not force
        if done and (update or resume) and runs.load(run.final).get("fingerprint") == run.fingerprint:
            shutil.rmtree(run.failed, ignore_errors=True)  # of an attempt with other code or data
            print(f"{notebook.stem} ({name}): unchanged, skipped")
            return 0
        if done and not update:
            raise InputError(f"The run {shown(run.final)} is finished: add --force, or choose another --name.")
        folder, resumed = _open(run, resume)
        record = {
            "notebook": notebook.stem, "name": name, "status": "completed", "parameters": run.values,
            "started": datetime.now(UTC).isoformat(timespec="seconds"), "fingerprint": run.fingerprint,
            "resumed": resumed,
        }  # fmt: skip
        with signals(dict.fromkeys((*STOPS, signal.SIGINT), signal.SIG_IGN)) as before:  # what is computed is kept
            status = _papermill(run, folder, record, cell_timeout, before | STOPS)
            return _close(run, folder, record, status, report)


def _open(run: Plan, resume: bool) -> tuple[Path, bool]:
    """A new hidden folder, with the newest checkpoint of an interrupted run that would have had the same result.

    Its name is new each time: the kernel of a killed run may live, and write, for a second more.
    """
    old = list(run.final.parent.glob(f".{run.name}.*.partial"))
    folder = run.final.with_name(f".{run.name}.{time.time_ns()}.partial")
    folder.mkdir()
    kept, fitting = folder / runs.CHECKPOINT, []
    for mark in (p / runs.CHECKPOINT / ".fingerprint" for p in (*old, run.failed)):
        if mark.is_file() and mark.read_text("utf-8") == run.fingerprint and any(mark.parent.glob("*/*")):
            fitting.append(mark.parent)
    if fitting and resume:
        max(fitting, key=lambda p: p.stat().st_mtime).rename(kept)
    elif fitting:
        print("An interrupted run of this name is given up: --resume would have continued it.", file=sys.stderr)
    for left in old:
        shutil.rmtree(left, ignore_errors=True)
    kept.mkdir(exist_ok=True)
    (kept / ".fingerprint").write_text(run.fingerprint, "utf-8")
    return folder, bool(fitting and resume)


def exit_by(number: int, _: Any) -> None:
    """Ends this process in order after a signal."""
    raise SystemExit(128 + number)  # an event loop holds back any other exception


STOPS = {signal.SIGTERM: exit_by, signal.SIGHUP: exit_by}


@contextlib.contextmanager
def signals(handlers: dict[int, Any]) -> Iterator[dict[int, Any]]:
    """Within it, signals are handled so, as only a main thread can have it; yields what did before."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()} if main else {}
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _papermill(run: Plan, folder: Path, record: dict, cell_timeout: float | None, handlers: dict[int, Any]) -> int:
    """Runs the notebook and completes ``record``; returns the exit status."""
    variables = {runs.FOLDER_VARIABLE: str(folder), "HELPERS_CWD": str(Path.cwd()), "TQDM_DISABLE": "1"}
    clock, status = time.monotonic(), 1
    try:
        with signals(handlers):
            import papermill

            # Its search for parameters misses Literal types, then warns of unknown ones; ours has checked them all.
            logging.getLogger("papermill").setLevel(logging.ERROR)
            papermill.execute_notebook(
                str(run.notebook).replace("{", "{{").replace("}", "}}"), None, run.given, engine_name="honest",
                kernel_name="python3", language="python", cwd=str(run.notebook.parent), start_timeout=120,
                progress_bar={"desc": run.notebook.stem, "disable": None, "leave": False},
                execution_timeout=cell_timeout and math.ceil(cell_timeout), folder=folder, variables=variables,
            )  # fmt: skip
        status = 0
    except KeyboardInterrupt:
        status, record["error"] = 130, "stopped by the user (SIGINT)"
    except SystemExit as error:
        status, record["error"] = int(error.code), f"stopped from outside (signal {int(error.code) - 128})"
    except Exception as error:
        record["error"] = reason(error)
    record["seconds"] = round(time.monotonic() - clock, 1)
    return _judge(folder / "notebook.ipynb", record, status)


def reason(error: Exception) -> str:
    """Returns what went wrong, in one line."""
    if hasattr(error, "ename"):  # of a cell, as papermill tells it
        return f"{error.ename}: {error.evalue}"
    if type(error).__name__ == "DeadKernelError":
        return "the kernel died, killed by the system (out of memory?) or by a fault in a library"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _judge(output: Path, record: dict, status: int) -> int:
    """Checks that every cell completed and says which did not; status 2 is a mistake in the input."""
    cells = json.loads(output.read_text("utf-8"))["cells"] if output.exists() else []
    states = [c["metadata"].get("papermill", {}).get("status") for c in cells]
    fault = next((i for i, state in enumerate(states) if state in ("failed", "running")), None)
    ended = fault is not None and any(o.get("ename") == "SystemExit" for o in cells[fault].get("outputs", []))
    if ended or (status == 0 and any(state != "completed" for state in states)):
        status, record["error"] = 1, "a cell ended the kernel (sys.exit) before the notebook's end"
    if status:
        record |= {"status": "failed", "failed_cell": fault, "cells_not_run": states.count("pending")}
    return 2 if status and record["error"].startswith(MISTAKE) else status


def _close(run: Plan, folder: Path, record: dict, status: int, report: bool) -> int:
    """Records, renders the report, gives the folder its name and says how the run ended, in this order."""
    try:
        with contextlib.suppress(OSError, ValueError, KeyError):
            noted = json.loads((folder / "metrics.json").read_text("utf-8"))
            record |= {key: noted[key] for key in ("metrics", "versions")}
        write_json(folder / "metrics.json", {"metrics": {}, "versions": runs.versions()} | record)
        if report and (folder / "notebook.ipynb").exists():
            _report(folder)
    except OSError as error:
        status = 1
        (folder / "metrics.json").unlink(missing_ok=True)  # the notebook's own may say that it is completed
        record |= {"status": "failed", "error": f"its record cannot be written ({error.strerror}): free space"}
    if status == 0:
        shutil.rmtree(folder / runs.CHECKPOINT, ignore_errors=True)
        (folder / "kernel.log").unlink(missing_ok=True)
        replace_folder(folder, run.final)
        shutil.rmtree(run.failed, ignore_errors=True)
        made = next((run.final / n for n in ("report.html", "metrics.json") if (run.final / n).exists()), run.final)
        print(f"{run.notebook.stem} ({run.name}): done in {record['seconds']:.0f} s, {shown(made)}")
        return 0
    replace_folder(folder, run.failed)
    error = " ".join(str(record["error"]).split())
    print(f"What {run.notebook.stem} ({run.name}) had done is kept in {shown(run.failed)}/", file=sys.stderr)
    if status == 2:
        raise InputError(error.removeprefix(MISTAKE))
    print(f"{run.notebook.stem} ({run.name}) failed: {error}", file=sys.stderr)
    return status


def _report(folder: Path) -> None:
    """Renders the run's page; a run without one is still a run."""
    try:
        from helpers.commands import report

        report.render(folder / "notebook.ipynb", folder / "report.html")
    except Exception as error:  # of a dozen kinds; what the run computed is not lost for it
        print(f"The run has no report.html ({reason(error)}): try python -m helpers report.", file=sys.stderr)
