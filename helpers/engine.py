"""A papermill engine whose record can be trusted, registered as ``honest``.

papermill 2.7 marks every cell completed after a dead kernel, a timeout or a signal. Here the cell at fault is marked
failed, those that never ran stay pending, what was printed so far is saved, and SIGTERM ends in order with status 143.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from nbformat import NotebookNode
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.translators import PythonTranslator, papermill_translators
from traitlets.config import Config


class HonestEngine(NBClientEngine):
    """papermill's own engine over pipes instead of network ports, with true cell states."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        on_cell: Callable[[int, NotebookNode], None] | None = None,
        time_limit: float | None = None,
        **kwargs: Any,
    ) -> NotebookNode:
        """Runs the notebook; see papermill's engines.

        Args:
            nb_man: papermill's manager of the notebook.
            kernel_name: the kernel to start.
            on_cell: called with index and cell before each cell.
            time_limit: seconds for the whole notebook.
            **kwargs: handed on to nbclient.
        """
        if os.name == "posix":
            kwargs.setdefault("config", Config({"KernelManager": {"transport": "ipc"}}))
        _keep_pending(nb_man)
        if on_cell:
            _announce(nb_man, on_cell)
        try:
            with _orderly_signals(time_limit):
                return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
        except BaseException as error:
            _mark_failed(nb_man, error)
            raise


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
        complete(**kwargs)
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
    """Turns SIGTERM into SystemExit(143) and the time limit into TimeoutError, in the main thread only."""

    def terminate(*_: Any) -> None:
        raise SystemExit(143)

    def too_long(*_: Any) -> None:
        raise TimeoutError(f"the run took longer than {time_limit:g} s")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    alarm = signal.signal(signal.SIGALRM, too_long) if time_limit else None
    if time_limit:
        signal.setitimer(signal.ITIMER_REAL, time_limit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if time_limit:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)


class ReadableTranslator(PythonTranslator):
    """Writes Chinese into the injected cell as it is, not as escapes."""

    @classmethod
    def translate_escaped_str(cls, str_val: Any) -> str:
        """The text as a Python literal."""
        return repr(str(str_val))


papermill_engines.register("honest", HonestEngine)
papermill_translators.register("python", ReadableTranslator)
