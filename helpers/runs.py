"""Runs: a notebook executed once with checked parameters, kept as a folder that is whole or not there.

A run folder ``runs/<notebook>/<name>/`` holds ``notebook.ipynb``, ``report.html``, ``metrics.json`` and, where it
applies, ``predictions.csv``, ``history.csv``, ``figures/`` and ``model/``. It is built under a hidden name beside it
and renamed when it is complete. ``$HELPERS_RUNS`` moves ``runs/``.

Two sides use this module: the notebook (:func:`start`, :class:`Run`) and the command line (:func:`execute`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers import InputError, parameters
from helpers.data import project_root

FOLDER_VARIABLE, PROGRESS_VARIABLE = "HELPERS_RUN_FOLDER", "HELPERS_PROGRESS"
PACKAGES = ("tensorflow", "keras", "keras-hub", "numpy", "pandas", "scikit-learn", "matplotlib", "papermill")


def runs_root() -> Path:
    """The folder of all runs: ``$HELPERS_RUNS``, else ``runs/`` in the project."""
    return Path(os.environ.get("HELPERS_RUNS") or project_root() / "runs").resolve()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file under a temporary name, syncs it and renames it: it is whole or not there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON atomically; a number that is not finite becomes null."""

    def strict(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(k): strict(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return [strict(v) for v in item]
        if hasattr(item, "item"):
            item = item.item()
        return None if isinstance(item, float) and not math.isfinite(item) else item

    write_atomic(path, json.dumps(strict(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n")


# ---------------------------------------------------------------- the notebook's side


class Run:
    """What a notebook writes: metrics, predictions, figures and a model, in one folder.

    Attributes:
        notebook: the notebook's name, such as ``03_lstm_classifier``.
        folder: where files go while the notebook runs; after :meth:`finish` the final folder.
        metrics: name to number, as recorded so far.
    """

    def __init__(self, notebook: str, folder: Path, values: dict[str, Any], final: Path | None) -> None:
        self.notebook, self.folder, self.values, self._final = notebook, folder, values, final
        self.metrics: dict[str, float] = {}
        self._started, self._clock = datetime.now(UTC), time.monotonic()

    @property
    def is_default(self) -> bool:
        """True if every parameter has the value that the notebook's file declares."""
        file = project_root() / "notebooks" / f"{self.notebook}.ipynb"
        declared = parameters.read(file) if file.exists() else {}
        return bool(declared) and all(self.values.get(p.name) == p.default for p in declared.values())

    def record(self, **metrics: float) -> None:
        """Adds metrics (numbers); the names are those of the field, with a prefix that says whose they are."""
        self.metrics |= {name: float(value) for name, value in metrics.items()}

    def write_table(self, name: str, frame: Any) -> None:
        """Writes a data frame as CSV into the run, atomically."""
        write_atomic(self.folder / name, frame.to_csv(index=False))

    def show(self, ax: Any, name: str, alt: str) -> None:
        """Displays the figure of ``ax`` with a text alternative and keeps it as ``figures/<name>.png``."""
        from helpers import plots

        (self.folder / "figures").mkdir(exist_ok=True)
        write_atomic(self.folder / "figures" / f"{name}.png", plots.show(ax, alt))

    def finish(self) -> None:
        """Writes ``metrics.json``; a run by hand is now moved to its final name."""
        record = {
            "notebook": self.notebook,
            "name": "interactive",
            "status": "completed",
            "parameters": self.values,
            "metrics": self.metrics,
            "seconds": round(time.monotonic() - self._clock, 1),
            "versions": versions(),
            "started": self._started.isoformat(timespec="seconds"),
        }
        write_json(self.folder / "metrics.json", record)
        if self._final:
            _replace_folder(self.folder, self._final)
            self.folder, self._final = self._final, None


def start(notebook: str, variables: dict[str, Any]) -> Run:
    """Opens the run folder from within a notebook.

    Args:
        notebook: the notebook's name without suffix.
        variables: the notebook's ``globals()``; its UPPER_CASE names are the parameters.

    Returns:
        The run. By hand it is built hidden and replaces ``runs/<notebook>/interactive`` when it finishes.
    """
    values = {k: v for k, v in variables.items() if k.isupper() and not k.startswith("_") and k != "REPO"}
    if given := os.environ.get(FOLDER_VARIABLE):
        return Run(notebook, Path(given), values, None)
    final = runs_root() / notebook / "interactive"
    folder = final.with_name(f".interactive.{os.getpid()}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Run(notebook, folder, values, final)


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide a run's numbers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def load(folder: str | Path) -> dict[str, Any]:
    """Reads ``metrics.json`` of a run folder.

    Raises:
        InputError: no such run, or a file that is not as it should be.
    """
    path = find_run(folder) / "metrics.json"
    try:
        record = json.loads(path.read_text("utf-8"))
        record["notebook"], record["metrics"], record["parameters"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder} is not a finished run (no readable metrics.json): run the notebook again."
        ) from None
    return record


def find_run(folder: str | Path) -> Path:
    """Resolves a run folder from the current directory, from where the command was typed, or from the project."""
    bases = [Path.cwd(), Path(os.environ.get("HELPERS_CWD", ".")), runs_root().parent, project_root()]
    for base in bases:
        if (base / folder).is_dir():
            return (base / folder).resolve()
    raise InputError(f"{folder} is not a run folder: runs are folders such as runs/03_lstm_classifier/default.")


# ---------------------------------------------------------------- the command line's side


def find_notebook(name: str) -> Path:
    """The notebook file of a name, number or path.

    Raises:
        InputError: no such notebook, with a near miss.
    """
    import difflib

    folder = project_root() / "notebooks"
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name).resolve()
    known = {p.stem: p for p in sorted(folder.glob("[0-9]*.ipynb"))}
    stem = Path(name).stem if name.endswith(".ipynb") else name
    matches = [s for s in known if s == stem or s.split("_")[0] == stem]
    if matches:
        return known[matches[0]]
    close = difflib.get_close_matches(stem, known, 1, 0.4)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
    raise InputError(f"There is no notebook {name}: {hint}")


def execute(
    notebook: Path,
    given: dict[str, Any],
    name: str = "default",
    *,
    force: bool = False,
    update: bool = False,
    cell_timeout: float | None = None,
    time_limit: float | None = None,
) -> int:
    """Executes a notebook strictly and keeps the result as a run.

    Args:
        notebook: the file.
        given: parameters that differ from the defaults.
        name: the run's name.
        force: replace a finished run of that name.
        update: replace it only if notebook, helpers, parameters or data have changed.
        cell_timeout, time_limit: seconds for one cell and for the whole run.

    Returns:
        Exit status: 0 only if every cell completed, 1 for a failed run, 130 or 143 after a signal.

    Raises:
        InputError: something the user can mend; no kernel was started, or it stopped at that.
    """
    if not re.fullmatch(r"\w[\w-]{0,80}", name):
        raise InputError(f"{name!r} cannot name a run: use letters, digits, - and _.")
    values = parameters.resolve(parameters.read(notebook), given, notebook.stem)
    _check_inputs(values)
    final = runs_root() / notebook.stem / name
    mark = fingerprint(notebook, values)
    if final.exists() and update and load(final).get("fingerprint") == mark and not force:
        print(f"{notebook.stem} ({name}): unchanged, skipped")
        return 0
    if final.exists() and not (force or update):
        raise InputError(f"The run {_shown(final)} is finished: add --force to replace it, or choose another --name.")
    with _building(final) as folder:
        record = {
            "notebook": notebook.stem,
            "name": name,
            "status": "completed",
            "parameters": values,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "fingerprint": mark,
        }
        status = _papermill(notebook, folder, {k: values[k] for k in given}, record, cell_timeout, time_limit)
        target = final if status == 0 else final.with_name(f"{name}.failed")
        _close(folder, record, target)
        (final.with_name(f"{name}.failed") != target) and shutil.rmtree(f"{final}.failed", ignore_errors=True)
    return status


def _check_inputs(values: dict[str, Any]) -> None:
    """Reads DATA and TEST once before a kernel starts, where they are files, so that mistakes show at once."""
    from helpers import data

    source, test = values.get("DATA"), values.get("TEST", "")
    if source and not source.startswith(("http://", "https://", "hf:")):
        test = "" if test.startswith(("http://", "https://", "hf:")) else test
        data.load(source, test, values.get("TEXT_COLUMN", "text"), values.get("LABEL_COLUMN", "label"))
    for folder in values.get("RUNS", []):
        load(folder)


def fingerprint(notebook: Path, values: dict[str, Any]) -> str:
    """A digest of what decides a run: cells, helpers, parameters, and the content of the data they name."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    digest.update("\0".join("".join(c["source"]) for c in cells).encode())
    files = sorted(Path(__file__).parent.rglob("*.py")) + sorted(Path(__file__).parent.glob("report/*"))
    for value in [v for item in values.values() for v in (item if isinstance(item, list) else [item])]:
        files += _named_files(value)
    if values.get("RUNS") == []:
        files += sorted((project_root() / "data" / "recorded").rglob("*.*"))
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _named_files(value: Any) -> list[Path]:
    if not isinstance(value, str) or not value:
        return []
    for base in (Path.cwd(), project_root(), project_root() / "data"):
        for path in (base / value, base / f"{value}.csv"):
            with contextlib.suppress(OSError, ValueError):
                if path.is_file():
                    return [path]
                if path.is_dir():
                    return [path / n for n in ("metrics.json", "predictions.csv") if (path / n).is_file()]
    return []


@contextlib.contextmanager
def _building(final: Path) -> Iterator[Path]:
    """A hidden folder beside the final one, held by one process at a time, gone if nothing took it over."""
    folder = final.with_name(f".{final.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(final.with_name(f".{final.name}.lock"), _shown(final)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"The run folder {_shown(final)} cannot be written ({error.strerror}): free space, or set HELPERS_RUNS."
        ) from None


@contextlib.contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"Another process is building {what}: wait for it, or choose another --name.") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _shown(path: Path) -> str:
    return (
        os.path.relpath(path, project_root())
        if path.is_relative_to(project_root())
        else f"{path.parent.name}/{path.name}"
    )


def _replace_folder(source: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    source.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _papermill(
    notebook: Path, folder: Path, given: dict, record: dict, cell_timeout: float | None, time_limit: float | None
) -> int:
    """Runs the notebook into ``folder`` and completes ``record``; returns the exit status."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from helpers import engine  # noqa: F401  (registers the engine)
    from helpers.progress import Progress

    os.environ |= {FOLDER_VARIABLE: str(folder), "HELPERS_CWD": str(Path.cwd())}
    clock, output, status = time.monotonic(), folder / "notebook.ipynb", 1
    with Progress(notebook, folder) as progress:
        try:
            papermill.execute_notebook(
                str(notebook), str(output), given, engine_name="honest", kernel_name="python3",
                cwd=str(notebook.parent), progress_bar=False, start_timeout=120, execution_timeout=cell_timeout and int(cell_timeout),
                on_cell=progress.cell, time_limit=time_limit,
            )  # fmt: skip
            status = 0
        except PapermillExecutionError as error:
            record["error"] = f"{error.ename}: {error.evalue}"
        except KeyboardInterrupt:
            status, record["error"] = 130, "stopped by the user (SIGINT)"
        except SystemExit:
            status, record["error"] = 143, "stopped from outside (SIGTERM)"
        except Exception as error:
            record["error"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    record["seconds"] = round(time.monotonic() - clock, 1)
    return _judge(output, record, status)


def _judge(output: Path, record: dict, status: int) -> int:
    """Checks that every cell completed and says which did not."""
    cells = json.loads(output.read_text("utf-8"))["cells"] if output.exists() else []
    states = [c["metadata"].get("papermill", {}).get("status") for c in cells]
    at_fault = next((i for i, s in enumerate(states) if s in ("failed", "running")), None)
    if status == 0 and any(s in ("failed", "running", "pending") for s in states):
        status, record["error"] = 1, "a cell ended the kernel (sys.exit?) before the last cell"
    if status:
        record |= {"status": "failed", "failed_cell": at_fault, "cells_not_run": states.count("pending")}
        if str(record.get("error", "")).startswith("InputError: "):
            raise InputError(record["error"].removeprefix("InputError: "))
    return status


def _close(folder: Path, record: dict, target: Path) -> None:
    """Merges what the notebook recorded, renders the report and gives the folder its name."""
    from helpers import reports

    found = folder / "metrics.json"
    noted = json.loads(found.read_text("utf-8")) if found.exists() else {}
    record |= {"metrics": noted.get("metrics", {}), "versions": noted.get("versions") or versions()}
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    write_json(found, record)
    if (folder / "notebook.ipynb").exists():
        reports.render(folder / "notebook.ipynb", folder / "report.html")
    _replace_folder(folder, target)
    if record["status"] == "failed":
        print(f"{record['notebook']} ({record['name']}) failed: {record['error']}", file=sys.stderr)
        print(f"What it had done is kept in {_shown(target)}/", file=sys.stderr)
    else:
        print(
            f"{record['notebook']} ({record['name']}): done in {record['seconds']:.0f} s, {_shown(target)}/report.html"
        )
