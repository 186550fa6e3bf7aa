"""One progress display: a bar in a notebook by hand, a line in the terminal for ``python -m helpers run``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
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


class Progress:
    """The terminal's side: section and share done, plus what the kernel reports of its training.

    On a terminal one line is rewritten; elsewhere (CI) one line is printed for each section.
    """

    def __init__(self, notebook: Path, folder: Path) -> None:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        self._total, self._name, self._folder = len(cells), notebook.stem, folder
        self._section, self._index, self._clock = "starting the kernel", 0, time.monotonic()
        self._line = Line(self._text)

    def __enter__(self) -> Progress:
        self._line.__enter__()
        if not self._line.live:
            print(f"{self._name}: {self._total} cells", file=sys.stderr, flush=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self._line.__exit__()
        (self._folder / FILE).unlink(missing_ok=True)

    def cell(self, index: int, cell: Any) -> None:
        """Notes that a cell starts."""
        self._index = index
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            self._section = cell.source.splitlines()[0].lstrip("# ")
            with contextlib.suppress(OSError):
                (self._folder / FILE).write_text(self._section, "utf-8")
            if not self._line.live:
                print(f"  {time.monotonic() - self._clock:4.0f} s  {self._section}", file=sys.stderr, flush=True)

    def _text(self) -> str:
        said = note(self._folder)
        more = "" if said == self._section else said
        seconds = time.monotonic() - self._clock
        return f"{self._name} {bar(self._index, self._total)} {seconds:.0f} s  {self._section}  {more}"


class Bar:
    """The kernel's side: a bar by hand, a note to the terminal in a run; nothing stays in the notebook.

    Use as ``with Bar(total, "LSTM") as bar: bar.step("loss 0.3")``.
    """

    def __init__(self, total: int, label: str) -> None:
        self._total, self._label, self._done, self._bar = total, label, 0, None
        self._file = os.environ.get("HELPERS_PROGRESS")

    def __enter__(self) -> Bar:
        if self._file is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self._total, desc=self._label, leave=False)
        return self

    def step(self, note: str = "") -> None:
        """One unit of work is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix_str(note)
            self._bar.update()
        elif self._file:
            with contextlib.suppress(OSError):
                Path(self._file).write_text(f"{self._label} {self._done}/{self._total} {note}", "utf-8")

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()
