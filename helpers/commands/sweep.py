"""``python -m helpers sweep``: a notebook executed once for each point of a grid, into one table.

Each point is an ordinary run, ``python -m helpers run`` in a process of its own, on this machine or on the workers of
a Dask cluster. All workers see the project, the data and the folder of runs under the same paths. A run whose process
or worker dies is a failed row; the same command again runs what is missing.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import InputError, files, parameters, runs
from helpers.commands.run import Plan, plan

if TYPE_CHECKING:
    import pandas as pd

MAX_RUNS = 10_000
BUSY = "Another process is building"  # a run that outlived its worker or its sweep
_stopped, _processes = threading.Event(), set()


def read_grid(path: Path) -> list[dict[str, Any]]:
    """Returns the points of a grid file: every combination of ``NAME: [value, ...]``, or a list of runs as it stands.

    Raises:
        InputError: the file is neither, empty, or too large.
    """
    from sklearn.model_selection import ParameterGrid

    found = parameters.load_file(path, object)
    if isinstance(found, dict) and all(value != [] for value in found.values()):
        found = ParameterGrid({name: value if isinstance(value, list) else [value] for name, value in found.items()})
        if len(found) > MAX_RUNS:
            raise InputError(f"The grid {path.name} has more than {MAX_RUNS:,} points: thin it out.")
        found = list(found)
    if not (isinstance(found, list) and found and all(isinstance(point, dict) and point for point in found)):
        raise InputError(f"The grid {path.name} has no points: write NAME: [value, ...] for each parameter.")
    return found


def plan_all(notebook: Path, grid: Path, given: Mapping[str, Any]) -> tuple[dict[str, Plan], list[str]]:
    """Returns the runs of a grid by name, each checked, and the parameters that it varies.

    Raises:
        InputError: a mistake in the grid or in any of its points.
    """
    if not re.fullmatch(r"\w[\w-]{0,40}", grid.stem):
        raise InputError(f"{grid.name} cannot name a sweep: use up to 40 letters, digits, - and _.")
    points, found = read_grid(grid), {}
    varied = list(dict.fromkeys(name for point in points for name in point))
    if twice := [name for name in varied if name in given]:
        raise InputError(f"{twice[0]} is in the grid {grid.name}: give it there only.")
    for point in points:
        run = plan(notebook, {**given, **point}, f"{grid.stem}-0")
        values = {name: run.values[name] for name in point}
        said = re.sub(r"[^a-z0-9_-]+", "_", "-".join(f"{n}_{v}" for n, v in values.items()).lower())[:30]
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
        name = f"{grid.stem}-{said}-{digest}"
        if name in found:
            raise InputError(f"{grid.name} has the point {json.dumps(point)[:80]} twice: keep one.")
        found[name] = replace(run, name=name, final=run.final.with_name(name))
    return found, varied


def execute(
    notebook: Path, grid: Path, given: Mapping[str, Any], *, jobs: int = 1, scheduler: str = "",
    options: Sequence[str] = (),
) -> int:  # fmt: skip
    """Executes what is missing of a grid, and writes ``runs/<notebook>/sweep-<grid>/`` with results.csv and a page.

    Args:
        notebook: the file.
        grid: the grid's file; its name names the sweep.
        given: parameters that are the same for every run.
        jobs: how many runs at the same time, on this machine.
        scheduler: the address of a Dask cluster, which runs as many as its workers have threads.
        options: more words for ``python -m helpers run``.

    Returns:
        Exit status: 0 if every run of the grid is completed, 1 if not, 130 if stopped by the user.

    Raises:
        InputError: a mistake in the grid, or nobody answers at the scheduler's address, before any run.
    """
    found, varied = plan_all(notebook, grid, given)
    folder = files.runs_root() / notebook.stem / f"sweep-{grid.stem}"
    errors: dict[str, str] = {}
    with _pool(jobs, scheduler) as pool, files.writable(folder), files.locked(folder / ".lock", folder.name):
        rows = {name: _row(run, varied) for name, run in found.items()}
        waiting = [name for name, row in rows.items() if row["status"] != "completed"]
        print(f"{len(found)} runs, {len(found) - len(waiting)} of them done before", file=sys.stderr)
        clock, place = time.monotonic(), (os.getcwd(), str(files.runs_root()))
        _write(folder, rows)
        futures = {}
        for name in waiting:
            words = [str(notebook), "--name", name, "-f", "-", "--update", "--resume", *options]
            futures[pool.submit(run_one, words, found[name].given, *place)] = name
        for future in concurrent.futures.as_completed(futures):
            name, died = futures[future], future.exception()
            status, said = (1, f"its worker died ({type(died).__name__})") if died else future.result()
            told = {0: "the worker has other code or data: bring it up to date, start again"}
            errors[name] = told.get(status, said or f"the run ended with status {status}")
            rows[name] = _row(found[name], varied, errors[name])
            _write(folder, rows)
            end = f"{rows[name]['status']} {rows[name]['error']}".strip()
            print(f"  {time.monotonic() - clock:4.0f} s  {name}: {end}", file=sys.stderr, flush=True)
        _write_page(folder, f"{folder.name} of {notebook.stem}", rows, varied)
    counts = Counter(row["status"] for row in rows.values())
    told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    print(f"{len(found)} runs: {told}; {files.shown(folder)}/report.html")
    return int(counts["completed"] < len(found))


def _row(run: Plan, varied: Sequence[str], error: str = "") -> dict[str, Any]:
    """Returns one line of the table; without an error, what did not complete is missing."""
    status, record = "failed" if error else "missing", {}
    for state, folder in (("completed", run.final), ("failed", run.failed)):
        with contextlib.suppress(InputError):
            kept = runs.load(folder) if folder.is_dir() else {}
            if not record and kept.get("fingerprint") == run.fingerprint:
                status, record = state, kept
    values = {name: run.values[name] for name in varied} | record.get("metrics", {})
    error = "" if status in ("completed", "missing") else str(record.get("error") or error)
    return {"run": run.name, "status": status, **values, "seconds": record.get("seconds"), "error": error}


def _write(folder: Path, rows: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Writes ``results.csv``, metrics between the parameters and ``seconds``, and returns it."""
    import pandas as pd

    table = pd.DataFrame(list(rows.values()))
    table = table[[*table.columns.drop(["seconds", "error"]), "seconds", "error"]]
    files.write_atomic(folder / "results.csv", table.to_csv(index=False))
    return table


# ---------------------------------------------------------------- where runs are executed


@contextlib.contextmanager
def _pool(jobs: int, scheduler: str) -> Iterator[concurrent.futures.Executor]:
    """Threads here, each of which waits for a process, or the workers of a cluster; gone in order when stopped."""

    def stop(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    _stopped.clear()
    pool = None
    try:
        with _client(scheduler) if scheduler else contextlib.nullcontext() as client:
            pool = client.get_executor(pure=False) if client else concurrent.futures.ThreadPoolExecutor(jobs)
            yield pool
    except (KeyboardInterrupt, SystemExit):
        print("Stopped: the same command again runs what is missing.", file=sys.stderr)
        raise
    finally:
        _stopped.set()
        for process in list(_processes):
            process.terminate()
        if pool:
            pool.shutdown(wait=not scheduler, cancel_futures=True)
        if main:
            signal.signal(signal.SIGTERM, before)


def _client(address: str) -> Any:
    """Returns a client of a Dask cluster that has workers."""
    try:
        from distributed import Client

        client = Client(address, timeout=5, set_as_default=False)
    except ImportError:
        raise InputError("--backend dask needs the package distributed: pip install distributed.") from None
    except (OSError, ValueError, TimeoutError):
        raise InputError(f"No Dask scheduler answers at {address}: check it, or start dask scheduler.") from None
    try:
        client.wait_for_workers(1, timeout=60)
    except TimeoutError:
        client.close()
        raise InputError(f"The Dask scheduler at {address} has no workers: start dask worker {address}.") from None
    return client


def run_one(words: Sequence[str], given: Mapping[str, Any], folder: str, runs_folder: str) -> tuple[int, str]:
    """Executes a run in a process of its own, in this folder; returns its exit status and the last line it said.

    Where another process is still building that run, its worker or its sweep has died: it is waited for.
    """
    status, said = 2, BUSY
    while status == 2 and BUSY in said and not _stopped.wait(said != BUSY):
        process = subprocess.Popen(
            [sys.executable, "-m", "helpers", "run", *words],
            cwd=folder, env=os.environ | {"HELPERS_RUNS": runs_folder},
            text=True, encoding="utf-8", errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        _processes.add(process)
        lines = process.communicate(json.dumps(given))[1].strip().splitlines()
        _processes.discard(process)
        status, said = process.returncode, (lines or [""])[-1].removeprefix("error: ")
    return status, said


# ---------------------------------------------------------------- the page


def _write_page(folder: Path, title: str, rows: Mapping[str, dict[str, Any]], varied: Sequence[str]) -> None:
    """Writes ``report.html``: the table with a link to each run, and the mean of its metric by each parameter."""
    import base64

    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, writes

    from helpers import plots
    from helpers.commands import report

    table = _write(folder, rows)
    shown = table.dropna(axis="columns", how="all").loc[:, lambda t: (t != "").any()]
    page = shown.to_html(index=False, na_rep="", border=0)
    for name, row in rows.items():
        place = name + ".failed" * (row["status"] == "failed")
        if (folder.parent / place / "report.html").exists():
            page = page.replace(f">{name}<", f'><a href="../{place}/report.html">{name}</a><')
    outputs = [new_output("display_data", {"text/html": page, "text/plain": shown.to_string(index=False)})]
    known = list(table.columns[2 + len(varied) : -2])
    metric = next((m for m in (*report.HEADLINE, *known) if m in known and table[m].notna().any()), None)
    for name in varied if metric else ():
        means = table.dropna(subset=[metric]).groupby(table[name].map(str), sort=False)[metric].mean()
        if len(means) > 1:
            ax = plots.bars(means, f"Mean {metric} by {name}", metric, decimals=3)
            image, alt = base64.b64encode(plots.to_png(ax)).decode(), plots.describe(ax)
            outputs.append(new_output("display_data", {"image/png": image}, metadata={"image/png": {"alt": alt}}))
    source = new_code_cell('import pandas as pd\n\npd.read_csv("results.csv")', outputs=outputs)
    book = new_notebook(cells=[new_markdown_cell(f"# {title}"), source])
    files.write_atomic(folder / "sweep.ipynb", writes(book))
    report.render(folder / "sweep.ipynb", folder / "report.html")
