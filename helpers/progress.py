"""One progress display: a bar in a notebook by hand, a line in the terminal for ``python -m helpers run``."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any


class Progress:
    """The terminal's side: section and share done, plus what the kernel reports of its training.

    On a terminal one line is rewritten; elsewhere (CI) one line is printed for each section.
    """

    def __init__(self, notebook: Path, folder: Path) -> None:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        self._total, self._name, self._file = len(cells), notebook.stem, folder / ".progress"
        self._section, self._index, self._shown = "starting the kernel", 0, ""
        self._live, self._stop, self._clock = sys.stderr.isatty(), threading.Event(), time.monotonic()
        os.environ["HELPERS_PROGRESS"] = str(self._file)

    def __enter__(self) -> Progress:
        if self._live:
            threading.Thread(target=self._refresh, daemon=True).start()
        else:
            print(f"{self._name}: {self._total} cells", file=sys.stderr, flush=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._file.unlink(missing_ok=True)

    def cell(self, index: int, cell: Any) -> None:
        """Notes that a cell starts."""
        self._index = index
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            self._section = cell.source.splitlines()[0].lstrip("# ")
            if not self._live:
                print(f"  {time.monotonic() - self._clock:4.0f} s  {self._section}", file=sys.stderr, flush=True)

    def _refresh(self) -> None:
        while not self._stop.wait(0.3):
            try:
                note = self._file.read_text("utf-8")
            except OSError:
                note = ""
            done = round(20 * self._index / max(self._total, 1))
            bar = "█" * done + "·" * (20 - done)
            line = f"{self._name} {bar} {time.monotonic() - self._clock:.0f} s  {self._section}  {note}"
            print(f"\r\x1b[K{line[:110]}", end="", file=sys.stderr, flush=True)


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
            Path(self._file).write_text(f"{self._label} {self._done}/{self._total} {note}", "utf-8")

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()
