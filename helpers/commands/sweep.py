"""``python -m helpers sweep``: a notebook executed once for each point of a grid, into one table and one page.

Each point is ``python -m helpers run`` in a process of its own, here or on the workers of a Dask cluster, which see
everything under the same paths. Where a worker dies, the row is failed; the same command again runs what is missing.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from helpers import InputError, files, parameters, printable
from helpers.commands.report import list_runs
from helpers.commands.run import Plan, plan, signals, stops

_stopped, _processes = threading.Event(), set()


def read_grid(path: Path) -> list[dict[str, Any]]:
    """Returns the points of a grid file: each combination of ``NAME: [value, ...]``, or a list of runs as it stands."""
    found = parameters.load_file(path, object)
    if isinstance(found, dict) and found:
        columns = [value if isinstance(value, list) else [value] for value in found.values()]
        found = [dict(zip(found, values, strict=True)) for values in itertools.product(*columns)]
    if not (isinstance(found, list) and found and all(isinstance(point, dict) and point for point in found)):
        raise InputError(f"The grid {path.name} has no points: write NAME: [value, ...] for each parameter.")
    return found


def plan_all(notebook: Path, grid: Path, given: Mapping[str, Any]) -> tuple[dict[str, Plan], list[str]]:
    """Returns the runs of a grid by name, each checked, and the parameters that it varies."""
    if not re.fullmatch(r"\w[\w-]{0,40}", grid.stem):
        raise InputError(f"{grid.name} cannot name a sweep: use up to 40 letters, digits, - and _.")
    points, found = read_grid(grid), {}
    varied = list(dict.fromkeys(name for point in points for name in point))
    if twice := [name for name in varied if name in given]:
        raise InputError(f"{twice[0]} is in the grid {grid.name}: give it there only.")
    for point in points:
        run = plan(notebook, {**given, **point}, f"{grid.stem}-0")
        values = {name: run.values[name] for name in point}
        told = "-".join(f"{n}_{files.without_password(v)}" for n, v in values.items())
        said = re.sub(r"[^a-z0-9_-]+", "_", told.lower())[:30]
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
        name = f"{grid.stem}-{said}-{digest}"
        found[name] = replace(run, name=name, final=run.final.with_name(name))
    return found, varied


def execute(
    notebook: Path, grid: Path, given: Mapping[str, Any], *, jobs: int | None = None, backend: str = "local",
    scheduler: str = "", report: bool = True, cell_timeout: int | None = None,
) -> int:  # fmt: skip
    """Executes what is missing of a grid, and writes ``runs/<notebook>/sweep-<grid>/`` with results.csv and a page.

    Returns the exit status: 0 if every run of the grid is completed. A mistake in the grid is an InputError before any.
    """
    found, varied = plan_all(notebook, grid, given)
    folder = files.runs_root() / notebook.stem / f"sweep-{grid.stem}"
    words = [str(notebook), "-f", "-", "--update", "--resume", *["--no-report"] * (not report)]
    words += ["--cell-timeout", str(cell_timeout)] if cell_timeout else []
    with workers(jobs, backend, scheduler) as pool, files.locked(folder / ".lock", folder.name):
        records = {name: _record(run) for name, run in found.items()}
        waiting = [run for name, run in found.items() if records[name]["status"] != "completed"]
        print(f"{len(found)} runs, {len(found) - len(waiting)} of them done before", file=sys.stderr)
        _write(folder, found, records, varied)
        place = (os.getcwd(), str(files.runs_root()))
        futures = {pool.submit(run_one, [*words, "--name", run.name], run.given, *place): run for run in waiting}
        for future in tqdm(as_completed(futures), folder.name, len(futures), leave=False, disable=None, unit="run"):
            run = futures[future]
            try:
                status, said = future.result()
            except Exception as error:  # of a cluster, by any of its names
                status, said = 1, f"its worker died ({type(error).__name__})"
            told = "the worker has other code or data: bring it up to date and start again" if status == 0 else said
            record = records[run.name] = _record(run, told or f"the run ended with status {status}")
            _write(folder, found, records, varied)
            said = f"  {run.name}: {record['status']} {printable(record.get('error', ''))}"
            tqdm.write(said.rstrip(), file=sys.stderr)
    counts = Counter(record["status"] for record in records.values())
    told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    print(f"{len(found)} runs: {told}; {files.shown(folder)}/report.html")
    return int(counts["completed"] < len(found))


def _record(run: Plan, error: str = "") -> dict[str, Any]:
    """Returns a run's record from its folder; without one, ``error`` is what went wrong."""
    told = {"notebook": run.notebook.stem, "name": run.name, "status": "failed" if error else "missing", "metrics": {}}
    return run.kept(run.final) or run.kept(run.failed) or told | {"error": error}


def _write(folder: Path, found: Mapping[str, Plan], records: Mapping[str, dict], varied: Sequence[str]) -> None:
    """Writes ``results.csv``, with parameters and metrics, and ``report.html``, with a link to each run's own."""
    rows, entries = [], []
    for name, run in found.items():
        kept, values = records[name], {name: files.without_password(run.values[name]) for name in varied}
        told = {"run": name, "status": kept["status"], "seconds": kept.get("seconds"), "error": kept.get("error", "")}
        rows.append(told | values | kept["metrics"])
        failed = kept["status"] == "failed"
        page = (run.failed if failed else run.final) / "report.html"
        link = f"../{page.parent.name}/{page.name}" if page.exists() else ""
        settings = [(name, files.without_folders(value), True) for name, value in values.items()]
        entries.append(kept | {"failed": failed, "file": link, "settings": settings})
    files.write_atomic(folder / "results.csv", pd.DataFrame(rows).to_csv(index=False))
    list_runs(folder.name, entries, folder / "report.html")


@contextlib.contextmanager
def workers(jobs: int | None, backend: str, scheduler: str) -> Iterator[Executor]:
    """Gives threads of this process, or a Dask cluster; whatever ends them ends a sweep's processes in order."""
    if (backend == "dask") != bool(scheduler):
        raise InputError("--backend dask and --scheduler ADDRESS go together: give both or none.")
    if scheduler and jobs:
        raise InputError("--jobs is for this machine; a Dask cluster uses all threads of its workers.")
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs} is out of range: at the same time, 1 or more.")
    _stopped.clear()
    pool = ThreadPoolExecutor(jobs or 1)
    try:
        with signals(stops()), _client(scheduler) if scheduler else contextlib.nullcontext() as client:
            yield client.get_executor(pure=False) if client else pool
    except (KeyboardInterrupt, SystemExit):
        print("Stopped: the same command again runs what is missing.", file=sys.stderr)
        raise
    finally:
        _stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(_processes):
            process.terminate()
        pool.shutdown()


def _client(address: str) -> Any:
    """Returns a client of a Dask cluster that has workers."""
    try:
        from distributed import Client

        client = Client(address, timeout=5, set_as_default=False)
        client.wait_for_workers(1, timeout=30)
    except ImportError:
        raise InputError("--backend dask needs the package distributed: pip install distributed.") from None
    except (OSError, ValueError):  # also of a time that is over
        told = f"No Dask scheduler with a worker answers at {address}"
        raise InputError(f"{told}: check it, or start dask scheduler and dask worker.") from None
    return client


def run_one(words: Sequence[str], given: Mapping[str, Any], folder: str, runs_folder: str) -> tuple[int, str]:
    """Executes a run in a process of its own, after one that builds it already; returns its status and last line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers", "run", *words],
        cwd=folder, env=os.environ | {"HELPERS_RUNS": runs_folder, files.WAIT: "1"}, start_new_session=True,
        text=True, encoding="utf-8", errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    _processes.add(process)
    if _stopped.is_set():  # maybe just now, after those that had begun were ended
        process.terminate()
    lines = process.communicate(json.dumps(given))[1].strip().splitlines()
    _processes.discard(process)
    return process.returncode, (lines or [""])[-1].removeprefix("error: ")
