"""What a notebook does with its run, ``runs/<notebook>/<name>/``: metrics, predictions, figures and a model.

The folder is built under a hidden name beside it and renamed when it is complete. ``$HELPERS_RUNS`` moves ``runs/``.
"""

import collections
import contextlib
import json
import os
import platform
import shutil
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from helpers import InputError, parameters
from helpers.files import bases, project_root, recover, replace_folder, runs_root, write_atomic, write_json

FOLDER_VARIABLE = "HELPERS_RUN_FOLDER"
CHECKPOINT = "checkpoint"
PACKAGES = ("tensorflow", "keras", "keras-hub", "numpy", "pandas", "scikit-learn", "matplotlib", "papermill")


class Run:
    """A run of ``notebook`` with the parameters ``values`` and the ``metrics`` so far; files go into ``folder``."""

    def __init__(self, notebook: str, folder: Path, values: dict[str, Any], final: Path | None) -> None:
        self.notebook, self.folder, self.values, self._final = notebook, folder, values, final
        self.metrics: dict[str, float] = {}
        self._started, self._clock = datetime.now(UTC), time.monotonic()

    @property
    def is_default(self) -> bool:
        """True if every parameter has the value that the notebook's file declares."""
        file = project_root() / "notebooks" / f"{self.notebook}.ipynb"
        declared = parameters.read(file) if file.exists() else {}
        return bool(declared) and all(self.values.get(p.name) == p.default for p in declared.values())

    def record(self, **metrics: float) -> None:
        """Adds metrics (numbers); the names are those of the field, with a prefix that says whose they are."""
        self.metrics |= {name: float(value) for name, value in metrics.items()}

    def write_table(self, name: str, frame: Any) -> None:
        """Writes a data frame as CSV into the run, atomically."""
        write_atomic(self.folder / name, frame.to_csv(index=False, float_format="%.9g"))

    def show(self, ax: Any, name: str, alt: str = "") -> None:
        """Displays the figure of ``ax`` with a text alternative and keeps it as ``figures/<name>.png``."""
        from helpers import plots

        (self.folder / "figures").mkdir(exist_ok=True)
        write_atomic(self.folder / "figures" / f"{name}.png", plots.show(ax, alt))

    def finish(self) -> None:
        """Writes ``metrics.json``; a run by hand is now moved to its final name."""
        record = {
            "notebook": self.notebook, "name": "interactive", "status": "completed", "parameters": self.values,
            "metrics": self.metrics, "seconds": round(time.monotonic() - self._clock, 1), "versions": versions(),
            "started": self._started.isoformat(timespec="seconds"),
        }  # fmt: skip
        write_json(self.folder / "metrics.json", record)
        if self._final:
            replace_folder(self.folder, self._final)
            self.folder, self._final = self._final, None


def start(notebook: str, variables: dict[str, Any]) -> Run:
    """Returns the run that a notebook opens with ``runs.start("03_lstm_classifier", globals())``.

    Its parameters are the UPPER_CASE ones of ``variables``. By hand it is built hidden, and replaces
    ``runs/<notebook>/interactive`` when it finishes.
    """
    values = {k: v for k, v in variables.items() if k.isupper() and not k.startswith("_") and k != "REPO"}
    if given := os.environ.get(FOLDER_VARIABLE):
        return Run(notebook, Path(given), values, None)
    import psutil

    final = runs_root() / notebook / "interactive"
    recover(final)
    for left in final.parent.glob(".interactive.*.partial"):  # of kernels that were stopped before the last cell
        pid = int(left.name.split(".")[2])
        if pid == os.getpid() or not psutil.pid_exists(pid):
            shutil.rmtree(left, ignore_errors=True)
    folder = final.with_name(f".interactive.{os.getpid()}.partial")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{final.parent} cannot be written ({error.strerror}): set HELPERS_RUNS.") from None
    return Run(notebook, folder, values, final)


_fits: collections.Counter[str] = collections.Counter()


def checkpoint(label: str) -> Path | None:
    """Returns a folder in which the training ``label`` keeps its state, for ``--resume``; None in a notebook by hand.

    A run that resumes gets for its n-th training of that name the folder of the interrupted one's n-th.
    """
    if not (run := os.environ.get(FOLDER_VARIABLE)):
        return None
    _fits[label] += 1
    folder = Path(run) / CHECKPOINT / f"{quote(label, safe='')[:80]}-{_fits[label]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def versions() -> dict[str, str]:
    """Returns Python's version and those of the packages that decide a run's numbers."""
    return {"python": platform.python_version()} | {package: metadata.version(package) for package in PACKAGES}


def load(folder: str | Path) -> dict[str, Any]:
    """Returns ``metrics.json`` of a run folder; raises InputError where it is not as it should be."""
    path = find_run(folder) / "metrics.json"
    try:
        record = json.loads(path.read_text("utf-8"))
        if not isinstance(record["notebook"] + record["name"], str) or not isinstance(record["parameters"], dict):
            raise ValueError
        record["metrics"] = {str(k): float("nan" if v is None else v) for k, v in record["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        told = f"{folder} is not a finished run (no readable metrics.json): run the notebook again."
        raise InputError(told) from None
    return record


def find_run(folder: str | Path) -> Path:
    """Returns a run folder, looked up from :func:`helpers.files.bases` and beside ``runs/``."""
    for base in (*bases(), runs_root().parent):
        with contextlib.suppress(OSError):  # a name can be too long for a folder
            if (base / folder).is_dir():
                return (base / folder).resolve()
    name = str(folder)[:200]
    raise InputError(f"{name} is not a run folder: runs are folders such as runs/03_lstm_classifier/default.")
