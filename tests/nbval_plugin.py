"""What strict nbval 0.11 lacks; `make test` loads it as ``-p tests.nbval_plugin``.

- A kernel that dies is noticed within a second; nbval waits for the whole cell timeout.
- A trailing ``;`` hides a cell's value, as it does in Jupyter.
- A notebook whose outputs were stripped is refused; nbval would compare nothing and pass.
- What cells write to stderr is not compared: it holds paths and timings.
- A cell tagged ``nbval-tolerance-1e-3`` has its words compared exactly and its numbers by ``math.isclose``: they may
  differ by that share of the larger one, so 0.0004 is not 0.0009, or by a billionth, so 0 is 1e-17.

Notebooks run without progress bars and write their runs into a temporary folder. Private names of nbval are replaced
here, so its version is fixed in pyproject.toml.
"""

from __future__ import annotations

import functools
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest
from nbval import kernel, plugin

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\w)|(?<!\w)[-+]?(?:nan|inf)(?!\w)")
_plain_collect, _plain_sanitize = plugin.IPyNbFile.collect, plugin.IPyNbCell.sanitize


class Approximate(str):
    """Text that equals another one if the words are the same and the numbers are near."""

    tolerance = 0.0
    __hash__ = str.__hash__

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __eq__(self, other: object) -> bool:
        if NUMBER.sub("#", " ".join(self.split())) != NUMBER.sub("#", " ".join(str(other).split())):
            return False
        pairs = zip(map(float, NUMBER.findall(self)), map(float, NUMBER.findall(str(other))), strict=True)
        near = functools.partial(math.isclose, rel_tol=self.tolerance, abs_tol=1e-9)
        return all(near(a, b) or (math.isnan(a) and math.isnan(b)) for a, b in pairs)


def pytest_configure() -> None:
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["HELPERS_HEADLESS"] = "1"
    os.environ["HELPERS_RUNS"] = tempfile.mkdtemp(prefix="helpers-nbval-")


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["HELPERS_RUNS"], ignore_errors=True)


def pytest_collectstart(collector: Any) -> None:
    if isinstance(collector, plugin.IPyNbFile):
        collector.skip_compare += ("stderr",)


def tolerance(cell: Any) -> float | None:
    """The number in a cell's tag ``nbval-tolerance-<number>``, or None."""
    tags = [t for t in cell.metadata.get("tags", []) if t.startswith("nbval-tolerance-")]
    return float(tags[0].removeprefix("nbval-tolerance-")) if tags else None


def sanitize(self: Any, text: Any) -> Any:
    """nbval's own clean-up, then a text that compares with the cell's tolerance."""
    text = _plain_sanitize(self, text)
    if isinstance(text, str) and (near := tolerance(self.cell)) is not None:
        text = Approximate(text)
        text.tolerance = near
    return text


def collect(self: Any) -> Iterator[Any]:
    """nbval's own items, if there is something to compare with."""
    items = list(_plain_collect(self))
    for item in items:
        tolerance(item.cell)
        checked = item.options["check"] and not item.options["skip"] and item.cell.source.strip()
        if checked and item.cell.execution_count is None:
            raise self.CollectError(f"code cell {item.cell_num} has no stored outputs to compare: run make notebooks")
    return iter(items)


def execute_cell_input(self: Any, cell_input: str, allow_stdin: bool | None = None) -> str:
    """Sends a cell with its history kept, which is what makes IPython honour a trailing ``;``."""
    return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


def await_reply(self: Any, msg_id: str, timeout: float | None = None) -> None:
    """Waits for the reply to ``msg_id``, and asks every second whether the kernel is still alive."""
    end = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        try:
            message = self.get_message(stream="shell", timeout=1)
        except Empty:
            if not self.is_alive():
                pytest.fail("the kernel died while this cell was running (out of memory?)", pytrace=False)
            if time.monotonic() > end:
                raise
            continue
        if message["parent_header"].get("msg_id") == msg_id:
            if message["content"]["status"] == "aborted":
                raise RuntimeError("the kernel did not accept the cell")
            return


plugin.IPyNbFile.collect, plugin.IPyNbCell.sanitize = collect, sanitize
kernel.RunningKernel.execute_cell_input, kernel.RunningKernel.await_reply = execute_cell_input, await_reply
