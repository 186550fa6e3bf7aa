"""A papermill engine whose record can be trusted: ``honest``, by the entry point in pyproject.toml.

papermill 2.7 calls every cell completed after a dead kernel, a timeout or a signal. Here the cell at fault is failed,
those that never ran stay pending, and the notebook on disk is whole at any time. Import papermill before this module.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager
from papermill.log import logger
from papermill.translators import PythonTranslator, papermill_translators

from helpers.files import write_atomic

SAVE_EVERY = 1.0  # seconds


class Manager(NotebookExecutionManager):
    """papermill's record of a notebook, with states that are true and a file that is whole."""

    _saved = -SAVE_EVERY

    def notebook_start(self, **kwargs: Any) -> None:
        """Starts, without what would differ from one run to the next."""
        about = self.nb.metadata.papermill
        about |= {name: about[name] and Path(about[name]).name for name in ("input_path", "output_path")}
        for cell in self.nb.cells:
            if "injected-parameters" in cell.metadata.get("tags", []):
                cell.id = "injected-parameters"
        super().notebook_start(**kwargs)

    def get_cell_description(self, cell: NotebookNode, *_: Any) -> str | None:
        """Returns the section that begins with the cell, for papermill's bar."""
        heading = cell.cell_type == "markdown" and cell.source.startswith("#")
        return cell.source.splitlines()[0].lstrip("# ")[:40] if heading else None

    def save(self, **_: Any) -> None:
        """Writes the notebook, at most once a second and at the end."""
        if self.output_path and (self.end_time or time.monotonic() - self._saved >= SAVE_EVERY):
            write_atomic(Path(self.output_path), nbformat.writes(self.nb))
            self._saved, self.last_save_time = time.monotonic(), self.now()

    def fail(self, error: BaseException) -> None:
        """Marks the cell that ran when the error came."""
        for cell in [cell for cell in self.nb.cells if cell.metadata.papermill["start_time"]][-1:]:
            self.cell_exception(cell)
        self.nb.metadata.papermill |= {"exception": True, "exception_type": type(error).__name__}

    def notebook_complete(self, **kwargs: Any) -> None:
        """Undoes papermill's habit of calling cells completed that never ran."""
        waiting = [cell for cell in self.nb.cells if cell.metadata.papermill["status"] == self.PENDING]
        super().notebook_complete(**kwargs)
        for cell in waiting:
            cell.metadata.papermill["status"] = self.PENDING
        self.save()


class HonestEngine(Engine):
    """papermill's own client with :class:`Manager`, in this process's own Python."""

    @classmethod
    def execute_notebook(
        cls, nb: NotebookNode, kernel_name: str, output_path: str | None = None, progress_bar: bool | dict = True,
        folder: Path | None = None, variables: dict[str, str] | None = None, start_timeout: int = 60,
        execution_timeout: int | None = None, **_: Any,
    ) -> NotebookNode:  # fmt: skip
        """Runs a notebook as papermill does; ``folder`` of a run gets ``notebook.ipynb`` and ``kernel.log``."""
        manager = Manager(nb, folder / "notebook.ipynb" if folder else output_path, progress_bar=progress_bar)
        manager.notebook_start()
        log_file = folder / "kernel.log" if folder else os.devnull  # what libraries say last, of a kernel that dies
        try:
            with tempfile.TemporaryDirectory(prefix="helpers-", ignore_cleanup_errors=True) as place, \
                    open(log_file, "ab") as log:  # fmt: skip
                own = {"kernel_spec_manager": KernelSpecManager(kernel_dirs=[])}  # this Python, whatever is installed
                if os.name == "posix" and len(place) < 90:  # no network ports, which two runs could both want;
                    own |= {"transport": "ipc", "ip": f"{place}/k"}  # a socket's path has 104 bytes
                client = PapermillNotebookClient(
                    manager, AsyncKernelManager(kernel_name=kernel_name, shutdown_wait_time=1.0, **own),
                    timeout=execution_timeout, startup_timeout=start_timeout, log=logger,
                )  # fmt: skip
                client.execute(env=os.environ | (variables or {}), stderr=log, cleanup_kc=True)
        except BaseException as error:
            manager.fail(error)
            raise
        finally:
            manager.cleanup_pbar()
            manager.notebook_complete()
        return nb


class ReadableTranslator(PythonTranslator):
    """Writes Chinese into the injected cell as it is, not as escapes."""

    @classmethod
    def translate_escaped_str(cls, str_val: Any) -> str:
        """Returns the text as a Python literal."""
        return repr(str(str_val))


papermill_translators.register("python", ReadableTranslator)
