"""What strict nbval 0.11 lacks; `make test` loads it as ``-p tests.nbval_plugin``.

- A kernel that dies is noticed within a second; nbval waits for the whole cell timeout.
- What cells write to stderr is not compared: it holds paths and timings.
- A cell tagged ``nbval-tolerance-1e-3`` has its words compared exactly and its numbers by ``math.isclose``: they may
  differ by that share of the larger one, so 0.0004 is not 0.0009, or by a billionth, so 0 is 1e-17.

Notebooks run without progress bars and write their runs into a temporary folder. Private names of nbval are replaced
here, so its version is fixed in pyproject.toml.
"""

import contextlib
import functools
import math
import os
import re
import shutil
import tempfile
from queue import Empty
from typing import Any

import pytest
from nbval import kernel, plugin

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\w)|(?<!\w)[-+]?(?:nan|inf)(?!\w)")
_plain_sanitize, _plain_get = plugin.IPyNbCell.sanitize, kernel.RunningKernel.get_message


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


def sanitize(self: Any, text: Any) -> Any:
    """nbval's own clean-up, then a text that compares with the tolerance that a tag of the cell names."""
    text = _plain_sanitize(self, text)
    tags = [t for t in self.cell.metadata.get("tags", []) if t.startswith("nbval-tolerance-")]
    if tags and isinstance(text, str):
        text = Approximate(text)
        text.tolerance = float(tags[0].removeprefix("nbval-tolerance-"))
    return text


def get_message(self: Any, stream: str, timeout: float) -> Any:
    """nbval's own, but asks every second whether the kernel is still alive."""
    for _ in range(math.ceil(timeout)):
        with contextlib.suppress(Empty):
            return _plain_get(self, stream, 1)
        if not self.is_alive():
            pytest.fail("the kernel died while this cell was running (out of memory?)", pytrace=False)
    raise Empty


plugin.IPyNbCell.sanitize, kernel.RunningKernel.get_message = sanitize, get_message
