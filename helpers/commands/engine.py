"""A notebook executed by papermill's parts, with a record that can be trusted.

papermill 2.7 calls every cell completed after a dead kernel, a timeout or a signal. Here the cell at fault is failed,
those that never ran stay pending, and the notebook on disk is whole at any time.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager
from papermill.iorw import load_notebook_node

from helpers.files import write_atomic


def execute(
    notebook: Path, given: dict[str, Any], folder: Path, variables: dict[str, str], cell_timeout: int | None = None
) -> None:
    """Runs a notebook, up to a cell that fails, by this process's own Python; errors of the kernel are raised.

    ``folder`` gets ``notebook.ipynb``, which says how far it came, and ``kernel.log``. The kernel's environment has
    ``variables`` besides that of this process; a cell may take ``cell_timeout`` seconds.
    """
    book = load_notebook_node(str(notebook))
    book.cells = [cell for cell in book.cells if "injected-parameters" not in cell.metadata.tags]  # of another run
    if given:
        lines = ["# Parameters", *(f"{name} = {value!r}" for name, value in given.items()), ""]
        injected = new_code_cell("\n".join(lines), metadata={"tags": ["injected-parameters"]})
        declared = next(i for i, cell in enumerate(book.cells) if "parameters" in cell.metadata.tags)
        book.cells.insert(declared + 1, injected)
    bar = {"desc": notebook.stem, "disable": None, "leave": False}
    short = None if len(tempfile.gettempdir()) < 60 else "/tmp"  # the path of a socket has 104 bytes
    manager = Manager(book, folder / "notebook.ipynb", progress_bar=bar)
    manager.notebook_start()
    try:
        with tempfile.TemporaryDirectory(prefix="helpers-", dir=short, ignore_cleanup_errors=True) as place, \
                open(folder / "kernel.log", "ab") as log:  # fmt: skip
            kernel = AsyncKernelManager(
                kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # whatever is installed
                transport="ipc", ip=f"{place}/k",  # no network ports, which two runs could both want
                shutdown_wait_time=1.0,
            )  # fmt: skip
            client = PapermillNotebookClient(manager, kernel, timeout=cell_timeout, startup_timeout=120)
            client.execute(env=os.environ | variables, cwd=str(notebook.parent), stderr=log, cleanup_kc=True)
    finally:
        manager.cleanup_pbar()
        manager.end_time = manager.now()
        manager.save()


class Manager(NotebookExecutionManager):
    """papermill's record of a notebook, with states that are true and a file that is whole."""

    def save(self, **_: Any) -> None:
        """Writes the notebook."""
        write_atomic(self.output_path, nbformat.writes(self.nb))
        self.last_save_time = self.now()

    def cell_complete(self, cell: NotebookNode, cell_index: int | None = None, **_: Any) -> None:
        """Marks the cell as failed where papermill leaves it by an error: a dead kernel, a timeout, a signal."""
        if sys.exception():
            self.cell_exception(cell)
        super().cell_complete(cell)
