"""``python -m helpers compare my.csv``: notebook 06 on a file, its leaderboard live, the answer last."""

import contextlib
import csv
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from os.path import abspath, isfile
from pathlib import Path
from typing import Any

from helpers import InputError, files, parameters, runs
from helpers.commands import run


def compare(source: str, given: dict[str, Any], name: str = "", *, force: bool = False) -> int:
    """Answers "which model should I use?" for the value ``source`` of ``DATA``; returns the exit status of the run.

    The same command goes on where it ended. A fault of the file or the name is an InputError before any training.
    Parameters of 06 that are empty are left to the notebook; without a ``name`` the run is called as the file.
    """
    notebook = run.find_notebook("06")
    given = {"DATA": source} | {key: value for key, value in given.items() if value not in (None, "")}
    if Path.cwd() != files.project_root():  # two folders may each have a my.csv
        given |= {key: abspath(given[key]) for key in ("DATA", "TEST") if isfile(given.get(key, ""))}
    source = given["DATA"]
    folder = files.runs_root() / notebook.stem
    name = name or _free_name(folder, source)
    if (other := _data_of(folder / name)) not in (None, source) and not force:
        other = files.without_password(other)
        raise InputError(f"The run {name} belongs to {other}: choose another --name, or replace it with --force.")
    run.plan(notebook, given, name)  # what is wrong with the file comes first
    if not {"PRESET", "CONTENDERS"} & given.keys():
        from helpers import weights

        with contextlib.suppress(InputError):  # the notebook will say it; not in the time that is promised
            weights.fetch()
    print(f"{files.without_password(source)}: run {name}, {given.get('MINUTES', 10):g} min", flush=True)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_show_live, folder, name, done := threading.Event())
        try:
            status = run.execute(notebook, given, name, update=True, resume=True, force=force)
        finally:
            done.set()
    answer = folder / name / "answer.txt"
    if status == 0 and answer.is_file():
        print("\n" + answer.read_text("utf-8"))
        print(f"\nThe whole report: {folder / name / 'report.html'}")
    return status


def _free_name(folder: Path, source: str) -> str:
    path = Path(files.without_password(source))
    stem = path.parent.name if path.stem in ("train", "data") else path.stem
    stem = re.sub(r"[^\w-]+", "-", stem).strip("-")[:60] or "data"
    names = (stem, *(f"{stem}-{i}" for i in range(2, 1000)))
    name = next(n for n in names if _data_of(folder / n) in (None, source))
    if name != stem:
        print(f"The name {stem} belongs to {files.without_password(_data_of(folder / stem))}: this one is {name}.")
    return name


def _data_of(folder: Path) -> str | None:
    """The DATA of a finished or failed run of that name, or None."""
    for place in (folder, folder.with_name(f"{folder.name}.failed")):
        with contextlib.suppress(InputError):
            return runs.load(place)["parameters"].get("DATA")
    return None


def _show_live(folder: Path, name: str, done: threading.Event) -> None:
    """Prints each new state of the run's leaderboard until it is done."""
    seen = [""]
    while not done.wait(1):
        for path in folder.glob(f".{name}.*/leaderboard.csv"):
            with contextlib.suppress(OSError):
                if (board := path.read_text("utf-8")) not in seen:
                    seen.append(board)
                    print(parameters.aligned(list(csv.reader(board.splitlines()))), end="\n\n", flush=True)
