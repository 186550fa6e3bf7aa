"""A notebook executed once, strictly, by papermill, and kept as a run that is whole or not there."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from helpers import InputError, masking
from helpers.commands.plans import Plan, plan
from helpers.files import locked, recover, replace_folder, shown, writable, write_atomic, write_json
from helpers.runs import CHECKPOINT, FOLDER_VARIABLE, SECRETS_VARIABLE, load, versions

MISTAKE = "InputError: "  # how papermill tells it


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
        record = order.record() | ({"resumed": True} if _has_training(folder) else {})
        status = _papermill(order, folder, record, cell_timeout, time_limit)
        with _undisturbed():
            return _close(order, folder, record, status, report)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals that would stop this process wait until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


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
        shutil.rmtree(order.failed, ignore_errors=True)  # of an attempt with other code or data
        print(f"{order.notebook.stem} ({order.name}): unchanged, skipped")
        return True
    if update:
        return False
    raise InputError(f"The run {shown(order.final)} is finished: add --force to replace it, or choose another --name.")


@contextlib.contextmanager
def _building(order: Plan, resume: bool = False, wait: float = 0.0) -> Iterator[Path]:
    """A hidden folder beside the final one, for one process at a time; gone if nothing took it over.

    Its name is new each time: the kernel of a killed run may live, and write, for a second more. A process that is
    interrupted leaves it to be resumed.
    """
    final, folder = order.final, order.final.with_name(f".{order.name}.{os.getpid()}.partial")
    with writable(final.parent), locked(final.with_name(f".{order.name}.lock"), shown(final), wait):
        recover(final)
        shutil.rmtree(folder, ignore_errors=True)
        old = order.partial()
        folder.mkdir()
        _inherit(order, [*old, order.failed], folder, resume)
        for left in old:
            shutil.rmtree(left, ignore_errors=True)
        try:
            yield folder
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
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
        replace_folder(folder, order.final if record["status"] == "completed" else order.failed)
        if record["status"] == "completed":
            shutil.rmtree(order.failed, ignore_errors=True)
    return ""


def _inherit(order: Plan, old: list[Path], folder: Path, resume: bool) -> None:
    """Takes the newest checkpoint of an interrupted run that would have had the same result."""
    fitting = [p for p in old if _has_training(p) and _mark(p) == order.mark]
    if fitting and resume:
        max(fitting, key=lambda p: _mark_file(p).stat().st_mtime).joinpath(CHECKPOINT).rename(folder / CHECKPOINT)
    elif fitting:
        print("An interrupted run of this name is given up: --resume would have continued it.", file=sys.stderr)
    (folder / CHECKPOINT).mkdir(exist_ok=True)
    _mark_file(folder).write_text(order.mark, "utf-8")


def _mark_file(folder: Path) -> Path:
    return folder / CHECKPOINT / ".mark"


def _mark(folder: Path) -> str:
    return _mark_file(folder).read_text("utf-8") if _mark_file(folder).is_file() else ""


def _has_training(folder: Path) -> bool:
    """Whether a training has kept something in the folder of a run."""
    return any((folder / CHECKPOINT).glob("*/*"))


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

    from helpers import progress
    from helpers.commands import engine

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
        with told, progress.Progress(order.notebook, folder) as bar:
            papermill.execute_notebook(
                str(order.notebook).replace("{", "{{").replace("}", "}}"), None, order.given,
                engine_name="honest", kernel_name="python3", language="python", cwd=str(order.notebook.parent),
                progress_bar=False, start_timeout=120, execution_timeout=cell_timeout and math.ceil(cell_timeout),
                time_limit=time_limit, on_cell=bar.cell, save=_saver(order, folder),
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
        shown = masking.hide_notebook(book, order.hidden) if order.hidden else book
        write_atomic(folder / "notebook.ipynb", nbformat.writes(shown))

    return save


def _judge(output: Path, record: dict, status: int) -> int:
    """Checks that every cell completed and says which did not; status 2 is a mistake in the input."""
    cells = json.loads(output.read_text("utf-8"))["cells"] if output.exists() else []
    states = [c["metadata"].get("papermill", {}).get("status") for c in cells]
    at_fault = next((i for i, s in enumerate(states) if s in ("failed", "running")), None)
    if status == 0 and any(s != "completed" for s in states):
        status, record["error"] = 1, "a cell ended the kernel (sys.exit) before the notebook's end"
    if status:
        record |= {"status": "failed", "failed_cell": at_fault, "cells_not_run": states.count("pending")}
        if str(record["error"]).startswith(MISTAKE):
            status = 2
    return status


def _close(order: Plan, folder: Path, record: dict, status: int, report: bool) -> int:
    """Masks, records, renders the report and gives the folder its name, in this order.

    Raises:
        InputError: what the notebook said of its input; what it had trained by then is kept.
    """
    target = order.final if status == 0 else order.failed
    try:
        _complete(order, folder, record)
        if report and (folder / "notebook.ipynb").exists():
            _report(folder)
        if status == 0:
            shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
    except OSError as error:
        target, status = order.failed, 1
        record |= {"status": "failed", "error": f"its record cannot be written ({error.strerror}): free space"}
    if status != 2 or _has_training(folder):
        replace_folder(folder, target)
    if status == 0:
        shutil.rmtree(order.failed, ignore_errors=True)
    return _tell(order, target, record, status)


def _complete(order: Plan, folder: Path, record: dict) -> None:
    """Writes the record, and takes secrets out of what the notebook wrote."""
    path = folder / "metrics.json"
    noted = json.loads(path.read_text("utf-8")) if path.exists() else {}
    record |= {"metrics": noted.get("metrics", {}), "versions": noted.get("versions") or versions()}
    if record["status"] == "completed":
        (folder / "kernel.log").unlink(missing_ok=True)
    write_json(path, masking.hide_tree(record, order.hidden))
    for file in folder.rglob("*") if order.hidden else ():
        if file.is_file() and file.name not in ("metrics.json", "notebook.ipynb"):  # these are masked already
            masking.hide_file(file, order.hidden)


def _tell(order: Plan, target: Path, record: dict, status: int) -> int:
    """Says how the run ended; returns the exit status."""
    if status == 0:
        made = target / ("report.html" if (target / "report.html").exists() else "metrics.json")
        print(f"{order.notebook.stem} ({order.name}): done in {record['seconds']:.0f} s, {shown(made)}")
        return 0
    error = " ".join(order.mask(str(record["error"])).split())
    if status != 2:
        print(f"{order.notebook.stem} ({order.name}) failed: {error}", file=sys.stderr)
    if (target.exists() and status != 2) or _has_training(target):
        print(f"What it had done is kept in {shown(target)}/", file=sys.stderr)
    if status == 2:
        raise InputError(error.removeprefix(MISTAKE))
    return status


def _report(folder: Path) -> None:
    """Renders the run's page; a run without one is still a run."""
    try:
        from helpers.commands import report as reports

        reports.render(folder / "notebook.ipynb", folder / "report.html")
    except Exception as error:  # of a dozen kinds; what the run computed is not lost for it
        print(f"The run has no report.html ({_reason(error)}): try python -m helpers report.", file=sys.stderr)
