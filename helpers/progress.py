"""Bars, until the rooms that use them take tqdm."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = ".progress"


class Line:
    """A line on a terminal that is written over three times a second; elsewhere nothing.

    Args:
        text: gives what to show now.
    """

    def __init__(self, text: Callable[[], str]) -> None:
        self._text, self._stop = text, threading.Event()
        self.live = sys.stderr.isatty()

    def __enter__(self) -> Line:
        if self.live:
            threading.Thread(target=self._refresh, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _refresh(self) -> None:
        while not self._stop.wait(0.3):
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{self._text()[:width]}", end="", file=sys.stderr, flush=True)


def bar(done: int, total: int) -> str:
    """Twenty characters that show a share."""
    full = round(20 * done / max(total, 1))
    return "█" * full + "·" * (20 - full)


def note(folder: Path) -> str:
    """What a run in this folder says of itself: its section, or how far its training is."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (folder / FILE).read_text("utf-8")
    return ""


class Bar:
    """A bar by hand, and nothing where ``TQDM_DISABLE`` is set, as in a run; nothing stays in the notebook.

    Use as ``with Bar(total, "LSTM") as bar: bar.step("loss 0.3")``.
    """

    def __init__(self, total: int, label: str) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, desc=label, leave=False)

    def __enter__(self) -> Bar:
        return self

    def step(self, note: str = "") -> None:
        """One unit of work is done."""
        self._bar.set_postfix_str(note)
        self._bar.update()

    def __exit__(self, *_: Any) -> None:
        self._bar.close()
