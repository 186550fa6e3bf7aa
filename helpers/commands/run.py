"""``python -m helpers run``: a notebook executed once, strictly, and kept as a run that is whole or not there.

A run is built in a hidden folder and renamed when it is complete. A failed one is kept as ``<name>.failed``, a killed
one stays hidden; ``--resume`` hands what their trainings had kept to the next attempt.
"""

import contextlib
import functools
import hashlib
import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from os.path import expanduser
from pathlib import Path
from typing import Any

from helpers import InputError, parameters, printable, runs
from helpers.files import bases, locked, project_root, recover, replace_folder, runs_root, shown, write_json

MISTAKE = "InputError: "  # how a cell's error begins
REMOTE = ("http://", "https://", "hf:")
HUB = ("bert_", "bge_", "all_minilm_", "paraphrase_", "multi_", "msmarco_", "mxbai_", "hf://", "kaggle://")  # presets


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

    def kept(self, folder: Path) -> dict[str, Any] | None:
        """Returns the record of a folder that holds this very run."""
        with contextlib.suppress(InputError):
            record = runs.load(folder)
            return record if record.get("fingerprint") == self.fingerprint else None


def plan(notebook: Path, given: dict[str, Any], name: str = "default") -> Plan:
    """Checks name, parameters and the data they name before a kernel starts; raises InputError at the first fault."""
    if not re.fullmatch(r"(?!interactive$|sweep-)\w[\w-]{0,84}", name) or len(name.encode()) > 200:
        said = f"{name[:80]!r} cannot name a run"
        raise InputError(f"{said}: use letters, digits, - and _, not interactive or sweep-....")
    values = parameters.resolve(notebook, given)
    source, test = values.get("DATA"), values.get("TEST") or ""
    if isinstance(source, str) and source and not any(name.lower().startswith(REMOTE) for name in (source, test)):
        columns = values.get("TEXT_COLUMN", "text"), values.get("LABEL_COLUMN", "label")
        _check_data(source, test, *columns)
    preset = values.get("PRESET") or "minilm"
    if preset != "minilm" and not preset.startswith(HUB):
        from helpers import weights

        if not weights.find(preset).is_dir():
            said = f"PRESET={preset[:80]} is none of minilm, a folder, bert_base_zh and the like, hf://owner/name."
            raise InputError(said)
    if folders := values.get("RUNS") or [*filter(None, [values.get("RUN")])]:
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
    """Returns a digest of what decides a run: cells, helpers, versions, parameters, and the bytes they name."""
    cells = [cell["source"] for cell in json.loads(notebook.read_text("utf-8"))["cells"]]
    digest = hashlib.sha256(json.dumps([values, runs.versions(), cells], sort_keys=True).encode())
    package = Path(__file__).parent.parent
    found = [*sorted(package.rglob("*.py")), *sorted(package.glob("report/*.*"))]
    for item in (i for value in values.values() for i in (value if isinstance(value, list) else [value])):
        found += named_files(item) if isinstance(item, str) and item else []
    if values.get("RUNS") == []:
        found += sorted((project_root() / "data" / "recorded").rglob("*.*"))
    for source in found:
        digest.update(_digest(source))
    return digest.hexdigest()[:32]


@functools.lru_cache(maxsize=1000)  # the runs of a sweep share nearly all files, and read an address once
def _digest(source: Path | str) -> bytes:
    """Returns a digest of a file, or of what an address holds."""
    if isinstance(source, str):
        from helpers import tables

        return hashlib.sha256(tables.download(source)).digest()
    return hashlib.sha256(source.read_bytes()).digest()


def named_files(value: str) -> list[Path | str]:
    """Returns what a parameter names: an address, a file by its path or its shipped name, or the files of a folder."""
    if value.lower().startswith(REMOTE[:2]):
        return [value]
    places = (*bases(), runs_root().parent, project_root() / "data")  # wherever find_file and find_run look
    for path in (base / expanduser(name) for base in places for name in (value, f"{value}.csv")):
        with contextlib.suppress(OSError, ValueError):
            if path.is_file():
                return [path]
            if path.is_dir():  # of a run, a corpus or pretrained weights
                found = sorted(p for pattern in ("*", "assets/**/*") for p in path.glob(pattern))
                return [p for p in found if p.is_file() and not p.name.startswith(".")]
    return []


def execute(
    notebook: Path, given: dict[str, Any], name: str = "default", *, force: bool = False, update: bool = False,
    resume: bool = False, report: bool = True, cell_timeout: int | None = None,
) -> int:  # fmt: skip
    """Executes a notebook strictly and keeps the result as a run; what the user can mend is an InputError.

    A finished run is replaced with ``force``, with ``update`` if what decides it has changed; with ``resume`` an
    unchanged one is skipped, and an interrupted one goes on from its checkpoint. One cell may take ``cell_timeout``
    seconds. Returns the exit status: 0 only if every cell completed, 1 for a failed run, 128 + n after signal n.
    """
    run = plan(notebook, given, name)
    with locked(run.final.with_name(f".{name}.lock"), shown(run.final)):
        recover(run.final)
        if run.final.exists() and not force:
            if (update or resume) and run.kept(run.final):
                shutil.rmtree(run.failed, ignore_errors=True)  # of an attempt with other code or data
                print(f"{notebook.stem} ({name}): unchanged, skipped")
                return 0
            if not update:
                raise InputError(f"The run {shown(run.final)} is finished: add --force, or choose another --name.")
        folder, resumed = _open(run, resume)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"notebook": notebook.stem, "name": name, "status": "completed", "parameters": run.values}
        record |= {"started": started, "fingerprint": run.fingerprint, "resumed": resumed}
        ends = stops()
        with signals(dict.fromkeys((*ends, signal.SIGINT), signal.SIG_IGN)) as before:  # what is computed is kept
            status = _papermill(run, folder, record, cell_timeout, before | ends)
            return _close(run, folder, record, status, report)


def _open(run: Plan, resume: bool) -> tuple[Path, bool]:
    """A new hidden folder, with the newest checkpoint of an interrupted run that would have had the same result."""
    mark = f"{runs.CHECKPOINT}/.{run.fingerprint}"
    old = sorted(run.final.parent.glob(f".{run.name}.*.partial"), reverse=True)  # the newest first
    fitting = (p for p in (*old, run.failed) if (p / mark).exists() and any(p.glob(f"{runs.CHECKPOINT}/*/*")))
    kept = next(fitting, None)
    folder = run.final.with_name(f".{run.name}.{time.time_ns()}.partial")  # a killed run's kernel may still write
    (folder / runs.CHECKPOINT).mkdir(parents=True)
    if kept and resume:
        (kept / runs.CHECKPOINT).replace(folder / runs.CHECKPOINT)
    elif kept:
        print("An interrupted run of this name is given up: --resume would have continued it.", file=sys.stderr)
    for left in old:
        shutil.rmtree(left, ignore_errors=True)
    (folder / mark).touch()
    return folder, bool(kept and resume)


def stops() -> dict[int, Any]:
    """Returns what ends this process in order, but for signals that it was started to ignore, as ``nohup`` does."""
    heeded = (n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN)
    return dict.fromkeys(heeded, lambda number, _: sys.exit(128 + number))  # an event loop lets only SystemExit through


@contextlib.contextmanager
def signals(handlers: dict[int, Any]) -> Iterator[dict[int, Any]]:
    """Within it, signals are handled so; yields what did before."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _papermill(run: Plan, folder: Path, record: dict, cell_timeout: int | None, handlers: dict[int, Any]) -> int:
    """Runs the notebook and completes ``record``; returns the exit status."""
    variables = {runs.FOLDER_VARIABLE: str(folder), "HELPERS_CWD": str(Path.cwd()), "TQDM_DISABLE": "1"}
    clock, status = time.monotonic(), 1
    try:
        with signals(handlers):
            from helpers.commands import engine

            engine.execute(run.notebook, run.given, folder, variables, cell_timeout)
        status = 0
    except KeyboardInterrupt:
        status, record["error"] = 130, "stopped by the user (SIGINT)"
    except SystemExit as error:
        status, record["error"] = error.code, f"stopped from outside (signal {error.code - 128})"
    except Exception as error:
        record["error"] = reason(error)
    record["seconds"] = round(time.monotonic() - clock, 1)
    return _judge(folder / "notebook.ipynb", record, status)


def reason(error: Exception) -> str:
    """Returns what went wrong, in one line."""
    if type(error).__name__ == "DeadKernelError":
        return "the kernel died, killed by the system (out of memory?) or by a fault in a library"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _judge(output: Path, record: dict, status: int) -> int:
    """Checks that every cell completed and says which did not; status 2 is a mistake in the input."""
    cells = json.loads(output.read_text("utf-8"))["cells"] if output.exists() else []
    states = [c["metadata"].get("papermill", {}).get("status") for c in cells]
    fault = next((i for i, state in enumerate(states) if state in ("failed", "running")), None)
    raised = [o for o in (cells[fault].get("outputs", []) if fault is not None else []) if "ename" in o]
    if any(o["ename"] == "SystemExit" for o in raised) or (status == 0 and not raised and set(states) != {"completed"}):
        status, record["error"] = 1, "a cell ended the kernel (sys.exit) before the notebook's end"
    elif raised and status == 0:
        status, record["error"] = 1, f"{raised[-1]['ename']}: {raised[-1]['evalue']}"
    if status:
        record |= {"status": "failed", "failed_cell": fault, "cells_not_run": states.count("pending")}
    return 2 if status and record["error"].startswith(MISTAKE) else status


def _close(run: Plan, folder: Path, record: dict, status: int, report: bool) -> int:
    """Records, renders the report, gives the folder its name and says how the run ended, in this order."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        noted = json.loads((folder / "metrics.json").read_text("utf-8"))
        record |= {key: noted[key] for key in ("metrics", "versions", "parameters") if key in noted}
    write_json(folder / "metrics.json", {"metrics": {}, "versions": runs.versions()} | record)
    if report and (folder / "notebook.ipynb").exists():
        try:
            from helpers.commands import report as reports

            reports.render(folder)
        except Exception as error:  # of a dozen kinds; what the run computed is not lost for it
            print(f"The run has no report.html ({reason(error)}): try python -m helpers report.", file=sys.stderr)
    called = f"{run.notebook.stem} ({run.name})"
    if status == 0:
        shutil.rmtree(folder / runs.CHECKPOINT, ignore_errors=True)
        (folder / "kernel.log").unlink(missing_ok=True)
        replace_folder(folder, run.final)
        shutil.rmtree(run.failed, ignore_errors=True)
        made = next(p for n in ("report.html", "metrics.json") if (p := run.final / n).exists())
        print(f"{called}: done in {record['seconds']:.0f} s, {shown(made)}")
        return 0
    replace_folder(folder, run.failed)
    error = printable(record["error"])
    print(f"What {called} had done is kept in {shown(run.failed)}/", file=sys.stderr)
    if status == 2:
        raise InputError(error.removeprefix(MISTAKE))
    print(f"{called} failed: {error}", file=sys.stderr)
    return status
