"""For the sweep, until it takes these from :mod:`helpers.commands.run`."""

import io
import os
import signal
import threading
import time
import zipfile
from typing import Any

from helpers.commands import run
from helpers.commands.run import Plan
from helpers.files import locked, replace_folder, shown
from helpers.runs import load


def execute(*arguments: Any, **options: Any) -> int:
    """Executes a notebook; see :func:`helpers.commands.run.execute`."""
    return run.execute(*arguments, **options)


def end_with_parent(parent: int) -> None:
    """Stops this process in order when the process ``parent``, which started it, is gone, as a killed sweep is."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def adopt(order: Plan, archive: bytes) -> str:
    """Puts a run that another machine has made in its place; returns what is wrong with it."""
    order.final.parent.mkdir(parents=True, exist_ok=True)
    with locked(order.final.with_name(f".{order.name}.lock"), shown(order.final)):
        folder = order.final.with_name(f".{order.name}.{time.time_ns()}.partial")
        with zipfile.ZipFile(io.BytesIO(archive)) as content:
            content.extractall(folder)
        if not (folder / "metrics.json").exists():
            return ""
        record = load(folder)
        if record.get("fingerprint") != order.fingerprint:
            return "the worker has another version of this project, or other data: bring it up to date"
        replace_folder(folder, order.final if record["status"] == "completed" else order.failed)
    return ""
