"""Runs: a notebook executed once with checked parameters, kept as a folder that is whole or not there.

A run folder ``runs/<notebook>/<name>/`` holds ``notebook.ipynb``, ``report.html``, ``metrics.json`` and, where it
applies, ``predictions.csv``, ``history.csv``, ``figures/`` and ``model/``. It is built under a hidden name beside it
and renamed when it is complete. ``$HELPERS_RUNS`` moves ``runs/``.

Two sides use this module: the notebook (:func:`start`, :class:`Run`) and the command line (:func:`execute`).
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import html
import io
import json
import math
import os
import re
import shutil
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from helpers import InputError, parameters
from helpers.data import project_root

FOLDER_VARIABLE, SECRETS_VARIABLE = "HELPERS_RUN_FOLDER", "HELPERS_SECRETS"
REMOTE = ("http://", "https://", "hf:")
CHECKPOINT, MASK = "checkpoint", "(secret)"
PACKAGES = ("tensorflow", "keras", "keras-hub", "numpy", "pandas", "scikit-learn", "matplotlib", "papermill")


def runs_root() -> Path:
    """The folder of all runs: ``$HELPERS_RUNS``, else ``runs/`` in the project."""
    return Path(os.environ.get("HELPERS_RUNS") or project_root() / "runs").resolve()


def write_atomic(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Writes a file under a temporary name, syncs it and renames it: it is whole or not there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
            file.flush()
            if sync:
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

    def show(self, ax: Any, name: str, alt: str = "") -> None:
        """Displays the figure of ``ax`` with a text alternative and keeps it as ``figures/<name>.png``."""
        from helpers import plots

        (self.folder / "figures").mkdir(exist_ok=True)
        write_atomic(self.folder / "figures" / f"{name}.png", plots.show(ax, alt))

    def finish(self) -> None:
        """Writes ``metrics.json``; a run by hand is now moved to its final name."""
        secrets = os.environ.get(SECRETS_VARIABLE, "").split()
        record = {
            "notebook": self.notebook,
            "name": "interactive",
            "status": "completed",
            "parameters": self.values | {name: MASK for name in secrets if name in self.values},
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
    _recover(final)
    folder = final.with_name(f".interactive.{os.getpid()}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Run(notebook, folder, values, final)


_fits: collections.Counter[str] = collections.Counter()


def checkpoint(label: str) -> Path | None:
    """A private folder in which one training keeps its state, so that ``--resume`` can continue it.

    The folder of an interrupted run's n-th training named ``label`` is handed to the n-th of the run that resumes it,
    which is a run of the same notebook, helpers, parameters and data. It is gone when the run is complete.

    Args:
        label: the model's name.

    Returns:
        The folder, empty at first; None in a notebook by hand, which cannot be resumed.
    """
    if not (run := os.environ.get(FOLDER_VARIABLE)):
        return None
    _fits[label] += 1
    folder = Path(run) / CHECKPOINT / f"{quote(label, safe='')[:80]}-{_fits[label]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
    folder = project_root() / "notebooks"
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name).resolve()
    known = {p.stem: p for p in sorted(folder.glob("[0-9]*.ipynb"))}
    stem = Path(name).stem if name.endswith(".ipynb") else name
    matches = [s for s in known if s == stem or s.split("_")[0] == stem]
    if matches:
        return known[matches[0]]
    hint = parameters.near(stem, known, 0.4).replace("it has", "there are")
    raise InputError(f"There is no notebook {name}: {hint}")


@dataclass(frozen=True)
class Plan:
    """A run that is checked and may start.

    Attributes:
        notebook: the file.
        name: the run's name.
        given, values: the parameters that differ from the defaults, and all of them.
        secrets: names of parameters whose values are written nowhere.
        mark: a digest of what decides the result.
        final: the run's folder.
    """

    notebook: Path
    name: str
    given: dict[str, Any]
    values: dict[str, Any]
    secrets: tuple[str, ...]
    mark: str
    final: Path

    @property
    def failed(self) -> Path:
        """Where a failed attempt is kept; a run's own name cannot have a dot."""
        return self.final.with_name(f"{self.name}.failed")

    def partial(self) -> list[Path]:
        """The hidden folders in which the run is being built, or was when it was killed."""
        return list(self.final.parent.glob(f".{self.name}.*.partial"))

    def record(self) -> dict[str, Any]:
        """The beginnings of ``metrics.json``."""
        return {
            "notebook": self.notebook.stem,
            "name": self.name,
            "status": "completed",
            "parameters": self.values | dict.fromkeys(self.secrets, MASK),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "fingerprint": self.mark,
        }

    def mask(self, text: str) -> str:
        """The text without the values of secret parameters, in any form that Python, JSON, CSV or HTML give them."""
        for name in self.secrets:
            for form in _forms(str(self.values[name])) if self.values[name] else ():
                text = text.replace(form, MASK)
        return text


def _forms(secret: str) -> list[str]:
    """How a text may be spelled in the files of a run, longest first."""
    forms = {secret, repr(secret)[1:-1], secret.encode("unicode_escape").decode(), secret.replace('"', '""')}
    forms |= {quote(secret), quote(secret, safe="")}
    for _ in range(2):  # JSON in a cell's output is spelled as JSON once more in the notebook's file
        forms |= {json.dumps(f, ensure_ascii=ascii)[1:-1] for f in forms for ascii in (True, False)}
        forms |= {html.escape(f) for f in forms}
    return sorted(forms, key=len, reverse=True)


def plan(notebook: Path, given: dict[str, Any], name: str = "default", secrets: Sequence[str] = ()) -> Plan:
    """Checks everything that can be checked before a kernel starts.

    Raises:
        InputError: name, parameters or the data they name are not as they should be.
    """
    if not re.fullmatch(r"\w[\w-]{0,80}", name) or name == "interactive" or name.startswith("sweep-"):
        raise InputError(
            f"{name[:80]!r} cannot name a run: use letters, digits, - and _, not interactive or sweep-...."
        )
    declared = parameters.read(notebook)
    values = parameters.resolve(declared, given, notebook.stem)
    parameters.refuse_overwritten(notebook, given)
    for secret in secrets:
        if secret not in values:
            raise InputError(f"{notebook.stem} has no parameter {secret}: {parameters.near(secret, values)}")
        if not isinstance(values[secret], str) or 0 < len(values[secret]) < 6:
            raise InputError(f"{secret} cannot be kept secret: a secret is a text of 6 characters or more.")
    _check_inputs(values)
    final = runs_root() / notebook.stem / name
    used = {n: values[n] for n in given}
    return Plan(notebook, name, used, values, tuple(secrets), fingerprint(notebook, values, secrets), final)


def execute(
    notebook: Path,
    given: dict[str, Any],
    name: str = "default",
    *,
    force: bool = False,
    update: bool = False,
    resume: bool = False,
    secrets: Sequence[str] = (),
    report: bool = True,
    wait: float = 0.0,
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
        resume: skip it if it is finished and unchanged, and continue an interrupted one from its checkpoint.
        secrets: names of parameters whose values no file of the run shows.
        report: render ``report.html``.
        wait: seconds to wait for another process that builds this run.
        cell_timeout, time_limit: seconds for one cell and for the whole run.

    Returns:
        Exit status: 0 only if every cell completed, 1 for a failed run, 128 + n after signal n.

    Raises:
        InputError: something the user can mend; no kernel was started, or it stopped at that.
    """
    order = plan(notebook, given, name, secrets)
    if _is_done(order, force=force, update=update, resume=resume):
        return 0
    with _building(order, resume, wait) as folder:
        if _is_done(order, force=force, update=update, resume=resume):  # another process was faster
            return 0
        record = order.record() | ({"resumed": True} if any((folder / CHECKPOINT).glob("*/*")) else {})
        status = _papermill(order, folder, record, cell_timeout, time_limit)
        return _close(order, folder, record, status, report)


def end_with_parent(parent: int) -> None:
    """Stops this process in order when the process ``parent``, which started it, is gone, as a killed sweep is."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _is_done(order: Plan, *, force: bool, update: bool, resume: bool) -> bool:
    """Whether a finished run makes this one needless.

    Raises:
        InputError: it is in the way.
    """
    if force or not order.final.exists():
        return False
    if (update or resume) and load(order.final).get("fingerprint") == order.mark:
        print(f"{order.notebook.stem} ({order.name}): unchanged, skipped")
        return True
    if update:
        return False
    raise InputError(f"The run {shown(order.final)} is finished: add --force to replace it, or choose another --name.")


def _check_inputs(values: dict[str, Any]) -> None:
    """Reads DATA and TEST once before a kernel starts, where they are files, so that mistakes show at once."""
    source, test = values.get("DATA"), values.get("TEST", "")
    if source and not source.startswith(REMOTE):
        test = "" if test.startswith(REMOTE) else test
        _check_data(source, test, values.get("TEXT_COLUMN", "text"), values.get("LABEL_COLUMN", "label"))
    for folder in values.get("RUNS", []):
        load(folder)


@functools.lru_cache(maxsize=4)  # the runs of a sweep read the same files
def _check_data(*arguments: str) -> None:
    from helpers import data

    data.load(*arguments)


def fingerprint(notebook: Path, values: dict[str, Any], secrets: Sequence[str] = ()) -> str:
    """A digest of what decides a run: cells, helpers, parameters, and the content of the data they name."""
    values = {name: value for name, value in values.items() if name not in secrets}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    digest.update("\0".join("".join(c["source"]) for c in cells).encode())
    package = Path(__file__).parent
    files = sorted(package.rglob("*.py")) + sorted(p for p in package.glob("report/*") if p.is_file())
    for value in values.values():
        files += [file for item in (value if isinstance(value, list) else [value]) for file in named_files(item)]
    if values.get("RUNS") == []:
        files += sorted((project_root() / "data" / "recorded").rglob("*.*"))
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


def named_files(value: Any) -> list[Path]:
    """The files that a parameter's value names: a path, a shipped name, a run folder, or a folder of texts."""
    if not isinstance(value, str) or not value:
        return []
    for base in (Path.cwd(), project_root(), project_root() / "data"):
        for path in (base / value, base / f"{value}.csv"):
            with contextlib.suppress(OSError, ValueError):
                if path.is_file():
                    return [path]
                if path.is_dir():
                    run = [path / n for n in ("metrics.json", "predictions.csv") if (path / n).is_file()]
                    return run or sorted(path.glob("*.txt"))
    return []


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Makes a folder; within it, a disk that is full or read-only is told in one sentence.

    Raises:
        InputError: the sentence.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(
            f"The run folder {shown(folder)} cannot be written ({error.strerror or error}): free space, "
            "or set HELPERS_RUNS."
        ) from None
    finally:
        with contextlib.suppress(OSError):  # leaves no empty folders behind
            folder.rmdir()
            folder.parent.rmdir()


@contextlib.contextmanager
def _building(order: Plan, resume: bool = False, wait: float = 0.0) -> Iterator[Path]:
    """A hidden folder beside the final one, for one process at a time; gone if nothing took it over.

    Its name is new each time: the kernel of a killed run may live, and write, for a second more.
    """
    final, folder = order.final, order.final.with_name(f".{order.name}.{os.getpid()}.partial")
    with writable(final.parent), locked(final.with_name(f".{order.name}.lock"), shown(final), wait):
        _recover(final)
        shutil.rmtree(folder, ignore_errors=True)
        old = order.partial()
        folder.mkdir()
        _inherit(order, [*old, order.failed] if resume else [], folder)
        for left in old:
            shutil.rmtree(left, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def adopt(order: Plan, archive: bytes) -> str:
    """Puts a run that another machine has made in its place.

    Args:
        order: what was asked for.
        archive: the run's folder as a zip file.

    Returns:
        What is wrong with it, or an empty text.
    """
    with _building(order) as folder:
        shutil.rmtree(folder / CHECKPOINT)
        with zipfile.ZipFile(io.BytesIO(archive)) as content:
            content.extractall(folder)
        if not (folder / "metrics.json").exists():
            return ""  # it never began, and said why
        record = load(folder)
        if record.get("fingerprint") != order.mark:
            return "the worker has another version of this project, or other data: bring it up to date"
        _replace_folder(folder, order.final if record["status"] == "completed" else order.failed)
        if record["status"] == "completed":
            shutil.rmtree(order.failed, ignore_errors=True)
    return ""


def _inherit(order: Plan, old: list[Path], folder: Path) -> None:
    """Takes the newest checkpoint of an interrupted run that would have had the same result."""
    marks = [p / CHECKPOINT / ".mark" for p in old]
    marks = [m for m in marks if m.is_file() and m.read_text("utf-8") == order.mark]
    if marks:
        max(marks, key=lambda m: max(p.stat().st_mtime for p in m.parent.rglob("*"))).parent.rename(folder / CHECKPOINT)
    (folder / CHECKPOINT).mkdir(exist_ok=True)
    (folder / CHECKPOINT / ".mark").write_text(order.mark, "utf-8")


@contextlib.contextmanager
def locked(path: Path, what: str, wait: float = 0.0) -> Iterator[None]:
    """Held by one process at a time; a process that dies lets go of it.

    Raises:
        InputError: another process holds it, and still does after ``wait`` seconds.
    """
    end = time.monotonic() + wait
    while (file := _lock(path)) is None:
        if time.monotonic() >= end:
            raise InputError(f"Another process is building {what}: wait for it, or choose another --name.")
        time.sleep(0.2)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _lock(path: Path) -> Any:
    """The locked file, or None if another process has it."""
    import fcntl

    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass  # FileNotFoundError: its former owner has just removed it
    file.close()
    return None


def shown(path: Path) -> str:
    """A path without what lies above the project or above ``runs/``."""
    root = project_root() if path.is_relative_to(project_root()) else runs_root().parent
    return os.path.relpath(path, root)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _recover(target: Path) -> None:
    """Brings back the run that a process killed in :func:`_replace_folder` had just moved away."""
    if _old(target).exists() and not target.exists():
        _old(target).rename(target)


def _replace_folder(source: Path, target: Path) -> None:
    old = _old(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    source.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ |= variables
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _papermill(order: Plan, folder: Path, record: dict, cell_timeout: float | None, time_limit: float | None) -> int:
    """Runs the notebook into ``folder`` and completes ``record``; returns the exit status."""
    import logging

    import papermill

    from helpers import engine, progress

    # Its search for parameters misses Literal types and then warns of unknown ones; ours has checked them all.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    clock = time.monotonic()
    told = _environment(
        **{FOLDER_VARIABLE: str(folder), SECRETS_VARIABLE: " ".join(order.secrets)},
        HELPERS_CWD=str(Path.cwd()),
        HELPERS_PROGRESS=str(folder / progress.FILE),
    )
    status = 1
    try:
        with told, progress.Progress(order.notebook, folder) as shown:
            papermill.execute_notebook(
                str(order.notebook).replace("{", "{{").replace("}", "}}"), None, order.given,
                engine_name="honest", kernel_name="python3", language="python", cwd=str(order.notebook.parent),
                progress_bar=False, start_timeout=120, execution_timeout=cell_timeout and math.ceil(cell_timeout),
                time_limit=time_limit, on_cell=shown.cell, save=_saver(order, folder),
                log=folder / "kernel.log",
            )  # fmt: skip
        status = 0
    except engine.TimeLimit as error:
        record["error"] = str(error)
    except KeyboardInterrupt:
        status, record["error"] = 130, "stopped by the user (SIGINT)"
    except SystemExit as error:
        status, record["error"] = int(error.code), f"stopped from outside (signal {int(error.code) - 128})"
    except Exception as error:
        record["error"] = _reason(error)
    record["seconds"] = round(time.monotonic() - clock, 1)
    return _judge(folder / "notebook.ipynb", record, status)


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    if hasattr(error, "ename"):  # of a cell, as papermill tells it
        return f"{error.ename}: {error.evalue}"
    lines = str(error).strip().splitlines() or [""]
    if type(error).__name__ == "DeadKernelError":
        return "the kernel died, killed by the system (out of memory?) or by a fault in a library"
    return f"{type(error).__name__}: {lines[0]}"


def _saver(order: Plan, folder: Path) -> Callable[[Any], None]:
    """Keeps the notebook as far as it has run: whole at any time, without secrets, the same for the same run."""
    import nbformat

    def save(book: Any) -> None:
        book.metadata.papermill["input_path"] = order.notebook.name
        book.metadata.papermill["output_path"] = "notebook.ipynb"
        for cell in book.cells:
            if "injected-parameters" in cell.metadata.get("tags", []):
                cell.id = "injected-parameters"
        write_atomic(folder / "notebook.ipynb", order.mask(nbformat.writes(book)))

    return save


def _judge(output: Path, record: dict, status: int) -> int:
    """Checks that every cell completed and says which did not.

    Raises:
        InputError: what the notebook said of its input.
    """
    cells = json.loads(output.read_text("utf-8"))["cells"] if output.exists() else []
    states = [c["metadata"].get("papermill", {}).get("status") for c in cells]
    at_fault = next((i for i, s in enumerate(states) if s in ("failed", "running")), None)
    if status == 0 and any(s != "completed" for s in states):
        status, record["error"] = 1, "a cell ended the kernel (sys.exit) before the notebook's end"
    if status:
        record |= {"status": "failed", "failed_cell": at_fault, "cells_not_run": states.count("pending")}
        if str(record["error"]).startswith("InputError: "):
            raise InputError(record["error"].removeprefix("InputError: "))
    return status


def _close(order: Plan, folder: Path, record: dict, status: int, report: bool) -> int:
    """Merges what the notebook recorded, renders the report and gives the folder its name."""
    target = order.final if status == 0 else order.failed
    try:
        _complete(order, folder, record)
        if report and (folder / "notebook.ipynb").exists():
            _report(folder)
    except OSError as error:
        target, status = order.failed, 1
        record |= {"status": "failed", "error": f"its record cannot be written ({error.strerror}): free space"}
    _replace_folder(folder, target)
    if status:
        error = " ".join(order.mask(str(record["error"])).split())
        print(f"{order.notebook.stem} ({order.name}) failed: {error}", file=sys.stderr)
        print(f"What it had done is kept in {shown(target)}/", file=sys.stderr)
    else:
        shutil.rmtree(order.failed, ignore_errors=True)
        made = target / ("report.html" if (target / "report.html").exists() else "metrics.json")
        print(f"{order.notebook.stem} ({order.name}): done in {record['seconds']:.0f} s, {shown(made)}")
    return status


def _complete(order: Plan, folder: Path, record: dict) -> None:
    """Writes the record, and takes secrets out of what the notebook wrote."""
    path = folder / "metrics.json"
    noted = json.loads(path.read_text("utf-8")) if path.exists() else {}
    record |= {"metrics": noted.get("metrics", {}), "versions": noted.get("versions") or versions()}
    if record["status"] == "completed":
        shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
        (folder / "kernel.log").unlink(missing_ok=True)
    write_json(path, record)
    for file in folder.rglob("*") if order.secrets else ():
        if file.suffix in (".json", ".csv", ".txt", ".ipynb", ".html", ".log"):
            write_atomic(file, order.mask(file.read_text("utf-8")))


def _report(folder: Path) -> None:
    """Renders the run's page; a run without one is still a run."""
    try:
        from helpers import reports

        reports.render(folder / "notebook.ipynb", folder / "report.html")
    except Exception as error:  # of a dozen kinds; what the run computed is not lost for it
        print(f"The run has no report.html ({_reason(error)}): try python -m helpers report.", file=sys.stderr)
