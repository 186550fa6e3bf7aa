"""A papermill engine whose record can be trusted, registered as ``honest``.

papermill 2.7 marks every cell completed after a dead kernel, a timeout or a signal. Here the cell at fault is marked
failed, those that never ran stay pending, what was printed so far is saved, and SIGTERM ends in order with status 143.
papermill loads this module by its entry point, so import papermill first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.translators import PythonTranslator, papermill_translators
from traitlets import Unicode
from traitlets.config import Config

SAVE_EVERY = 1.0


class TimeLimit(SystemExit):
    """The run took too long; a SystemExit, because an event loop holds back any other exception."""


class OwnPython(AsyncKernelManager):
    """Starts the Python that runs this process; a kernel installed as python3 may belong to another environment.

    What the kernel itself says, such as a library's last words, goes into ``log_file``.
    """

    log_file = Unicode(os.devnull).tag(config=True)

    @property
    def kernel_spec(self) -> KernelSpec:
        """How to start it."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3 (ipykernel)", language="python")

    async def _async_start_kernel(self, **kwargs: Any) -> None:
        with open(self.log_file, "ab") as log:
            await super()._async_start_kernel(stderr=log, **kwargs)

    start_kernel = _async_start_kernel


class HonestEngine(NBClientEngine):
    """papermill's own engine over pipes instead of network ports, with true cell states."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        on_cell: Callable[[int, NotebookNode], None] | None = None,
        save: Callable[[NotebookNode], None] | None = None,
        log: Path | None = None,
        time_limit: float | None = None,
        **kwargs: Any,
    ) -> NotebookNode:
        """Runs the notebook; see papermill's engines.

        Args:
            nb_man: papermill's manager of the notebook.
            kernel_name: the kernel to start; ``python3`` is this process's own Python.
            on_cell: called with index and cell before each cell.
            save: keeps the notebook, instead of papermill's own way; called at most once a second, and at the end.
            log: a file for what the kernel says of itself.
            time_limit: seconds for the whole notebook.
            **kwargs: handed on to nbclient.
        """
        if kernel_name == "python3":
            kwargs.setdefault("kernel_manager_class", OwnPython)
        if save:
            _save_by(nb_man, save)
        _keep_pending(nb_man)
        if on_cell:
            _announce(nb_man, on_cell)
        try:
            with _transport(log) as config, _orderly_signals(time_limit):
                return super().execute_managed_notebook(nb_man, kernel_name, config=config, **kwargs)
        except BaseException as error:
            _mark_failed(nb_man, error)
            raise


@contextlib.contextmanager
def _transport(log: Path | None) -> Iterator[Config]:
    """Sockets in a private folder where the system has them: no ports that two runs could both want."""
    settings: dict[str, Any] = {"shutdown_wait_time": 1.0}
    folder = tempfile.mkdtemp(prefix="helpers-")
    try:
        if os.name == "posix" and len(os.fsencode(folder)) < 90:  # the system cuts a socket's path at 104
            settings |= {"transport": "ipc", "ip": os.path.join(folder, "k")}
        yield Config({"KernelManager": settings, "OwnPython": {"log_file": str(log)} if log else {}})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save_by(nb_man: NotebookExecutionManager, save: Callable[[NotebookNode], None]) -> None:
    last = -SAVE_EVERY

    def throttled() -> None:
        nonlocal last
        ended = nb_man.end_time is not None
        if ended or time.monotonic() - last >= SAVE_EVERY:
            save(nb_man.nb)
            last = time.monotonic()
            nb_man.last_save_time = nb_man.now()

    nb_man.save, nb_man.autosave_cell_every = throttled, SAVE_EVERY


def _announce(nb_man: NotebookExecutionManager, on_cell: Callable[[int, NotebookNode], None]) -> None:
    start = nb_man.cell_start

    def cell_start(cell: NotebookNode, cell_index: int | None = None, **kwargs: Any) -> None:
        on_cell(cell_index, cell)
        start(cell, cell_index, **kwargs)

    nb_man.cell_start = cell_start


def _keep_pending(nb_man: NotebookExecutionManager) -> None:
    """Undoes papermill's habit of calling cells completed that never ran."""
    complete = nb_man.notebook_complete

    def notebook_complete(**kwargs: Any) -> None:
        pending = [c for c in nb_man.nb.cells if c.metadata.papermill["status"] == nb_man.PENDING]
        keep, nb_man.save = nb_man.save, lambda: None
        complete(**kwargs)
        nb_man.save = keep
        for cell in pending:
            cell.metadata.papermill["status"] = nb_man.PENDING
        nb_man.save()

    nb_man.notebook_complete = notebook_complete


def _mark_failed(nb_man: NotebookExecutionManager, error: BaseException) -> None:
    started = [i for i, c in enumerate(nb_man.nb.cells) if c.metadata.papermill.get("start_time")]
    if started:
        nb_man.cell_exception(nb_man.nb.cells[started[-1]], cell_index=started[-1], exception=error)
    nb_man.nb.metadata.papermill["exception"] = True
    nb_man.nb.metadata.papermill["exception_type"] = type(error).__name__


@contextlib.contextmanager
def _orderly_signals(time_limit: float | None) -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into SystemExit and the time limit into TimeLimit, in the main thread only."""

    def terminate(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    def too_long(*_: Any) -> None:
        raise TimeLimit(f"the run took longer than {time_limit:g} s")

    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        yield
        return
    before = {n: signal.signal(n, terminate) for n in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, time_limit or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


class ReadableTranslator(PythonTranslator):
    """Writes Chinese into the injected cell as it is, not as escapes."""

    @classmethod
    def translate_escaped_str(cls, str_val: Any) -> str:
        """The text as a Python literal."""
        return repr(str(str_val))


papermill_engines.register("honest", HonestEngine)
papermill_translators.register("python", ReadableTranslator)
