"""Sweeps: a notebook executed once for each point of a grid, into one table and one page.

Each point is an ordinary run in a process of its own, ``runs/<notebook>/<grid>-...``. joblib spreads them over this
machine's cores (loky) or over a Dask cluster whose workers have this project too. A worker of a cluster gets notebook
and data by value and gives the run back by value, so no disk is shared.
A sweep that was stopped runs only what is missing when it is started again.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import InputError, execution, files, parameters, plans, plots, progress, runs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAX_RUNS = 10_000


@dataclass(frozen=True)
class Cluster:
    """Where runs are executed.

    Attributes:
        backend: ``loky``, processes here, or ``dask``.
        jobs: how many runs at the same time, here; a Dask cluster runs as many as it has threads.
        scheduler: the address of a Dask cluster.
    """

    backend: str = "loky"
    jobs: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if (self.backend == "dask") != bool(self.scheduler):
            raise InputError("--backend dask and --scheduler ADDRESS go together: give both or none.")

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Within it, joblib sends its calls there.

        Raises:
            InputError: nobody answers at the scheduler's address, or Dask is not installed.
        """
        import joblib

        if self.backend == "loky":
            with joblib.parallel_config("loky", n_jobs=self.jobs):
                yield
            return
        with _client(self.scheduler), joblib.parallel_config("dask"):
            yield


def _client(address: str | None) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--backend dask needs the package distributed: pip install distributed.") from None
    try:
        client = Client(address, timeout=5, set_as_default=True)
    except (OSError, ValueError, TimeoutError):
        raise InputError(
            f"No Dask scheduler answers at {address}: check the address, or start dask scheduler."
        ) from None
    try:
        client.wait_for_workers(1, timeout=60)
    except TimeoutError:
        client.close()
        raise InputError(f"The Dask scheduler at {address} has no workers: start dask worker {address}.") from None
    return client


# ---------------------------------------------------------------- the grid


def read_grid(path: Path) -> list[dict[str, Any]]:
    """The points of a grid file.

    A mapping ``NAME: [value, ...]`` gives every combination; a list of mappings gives the runs one by one.

    Raises:
        InputError: the file is neither, or empty.
    """
    found = parameters.load_structure(path)
    if isinstance(found, dict) and found:
        columns = [value if isinstance(value, list) else [value] for value in found.values()]
        if math.prod(map(len, columns)) > MAX_RUNS:
            raise InputError(f"The grid {path.name} has more than {MAX_RUNS:,} points: thin it out.")
        found = [dict(zip(found, values, strict=True)) for values in itertools.product(*columns)]
    if not (isinstance(found, list) and found and all(isinstance(point, dict) and point for point in found)):
        raise InputError(f"The grid {path.name} has no points: write NAME: [value, ...] for each parameter.")
    return found


def plan(
    notebook: Path, grid: Path, given: Mapping[str, Any], secrets: Sequence[str] = ()
) -> tuple[list[plans.Plan], list[str]]:
    """The runs of a grid, each checked, and the names of the parameters that it varies.

    Raises:
        InputError: a mistake in the grid or in any of its points.
    """
    if not re.fullmatch(r"\w[\w-]{0,40}", grid.stem):
        raise InputError(f"{grid.name} cannot name a sweep: use up to 40 letters, digits, - and _.")
    declared, orders = parameters.read(notebook), {}
    points = read_grid(grid)
    varied = list(dict.fromkeys(name for point in points for name in point))
    if twice := [name for name in varied if name in given or name in secrets]:
        raise InputError(f"{twice[0]} is in the grid {grid.name}: give it there only, and not as a secret.")
    for point in points:
        parameters.resolve(declared, point, notebook.stem)
        name = _name(grid.stem, {n: declared[n].accept(v) for n, v in point.items()})
        orders[name] = plans.plan(notebook, {**given, **point}, name, secrets)
    return list(orders.values()), varied


def _name(grid: str, point: Mapping[str, Any]) -> str:
    """A run's name that a reader recognises and that only this point has."""
    said = "-".join(f"{name}_{value}" for name, value in point.items()).lower()
    digest = hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:6]
    return f"{grid}-{re.sub(r'[^a-z0-9_-]+', '_', said)[:30]}-{digest}"


# ---------------------------------------------------------------- one run, on a worker


@dataclass(frozen=True)
class Job:
    """One run as it travels to a worker.

    Attributes:
        name, given, secrets, options: what ``python -m helpers run`` is told.
        notebook: its path here, or its file name if it travels.
        folder: the folder of all runs here; None sends notebook and data along, and the run back.
        files: relative path to content of what travels.
        sweep: the process that sent it.
    """

    name: str
    given: dict[str, Any]
    secrets: tuple[str, ...]
    options: tuple[str, ...]
    notebook: str
    folder: str | None
    files: dict[str, bytes]
    sweep: int


def run_one(job: Job) -> tuple[str, int, str, bytes]:
    """Executes a run in a process of its own, on whatever machine this is.

    Returns:
        The run's name, its exit status, the last line it said, and the run's folder as a zip file (empty here).
    """
    if job.folder:
        if job.sweep != os.getpid():
            _end_with(job.sweep)
        return (job.name, *_call(job, job.notebook, os.getcwd(), job.folder), b"")
    with tempfile.TemporaryDirectory(prefix="helpers-sweep-") as place:
        for name, content in job.files.items():
            path = Path(place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        status, said = _call(job, job.notebook, place, str(Path(place, ".runs")))
        return job.name, status, said, _pack(Path(place, ".runs"), job.name)


def _call(job: Job, notebook: str, folder: str, runs_folder: str) -> tuple[int, str]:
    words = [sys.executable, "-m", "helpers", "run", notebook, "--name", job.name, "-f", "-"]
    words += [
        "--with-parent",
        str(os.getpid()),
        *job.options,
        *(word for name in job.secrets for word in ("--secret", name)),
    ]
    # A session of its own: Ctrl-C reaches the sweep alone, and its runs see their parent go.
    process = subprocess.Popen(
        words, cwd=folder, env=os.environ | {"HELPERS_RUNS": runs_folder}, start_new_session=True,
        text=True, encoding="utf-8", errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    said = process.communicate(json.dumps(job.given))[1].strip().splitlines()
    return process.returncode, (said or [""])[-1].removeprefix("error: ")


@functools.cache
def _end_with(sweep: int) -> None:
    """Ends this worker when the sweep is gone; its run, in turn, sees the worker go and stops in order."""
    execution.end_with_parent(sweep)


def _pack(folder: Path, name: str) -> bytes:
    """The finished or failed run below a folder of runs, as a zip file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for run in (*folder.glob(f"*/{name}"), *folder.glob(f"*/{name}.failed")):
            for file in run.rglob("*"):
                archive.write(file, file.relative_to(run))
    return content.getvalue()


def _job(order: plans.Plan, options: Sequence[str], cluster: Cluster) -> Job:
    here, travelling = cluster.backend == "loky", {}
    if not here:
        travelling[order.notebook.name] = order.notebook.read_bytes()
        for value in order.given.values():
            for item in value if isinstance(value, list) else [value]:
                travelling |= {
                    str(file.relative_to(Path.cwd())): file.read_bytes()
                    for file in plans.named_files(item)
                    if not Path(item).is_absolute() and file.is_relative_to(Path.cwd())
                }
    notebook = str(order.notebook) if here else order.notebook.name
    folder = str(files.runs_root()) if here else None
    return Job(
        order.name,
        order.given,
        order.secrets,
        ("--update", "--resume", *options),
        notebook,
        folder,
        travelling,
        os.getpid(),
    )


# ---------------------------------------------------------------- all runs, and what came out


def execute(
    notebook: Path,
    grid: Path,
    given: Mapping[str, Any],
    cluster: Cluster,
    secrets: Sequence[str] = (),
    metric: str | None = None,
    options: Sequence[str] = (),
) -> int:
    """Executes what is missing of a grid, and writes ``runs/<notebook>/sweep-<grid>/`` with results.csv and a page.

    Args:
        notebook: the file.
        grid: the grid's file; its name names the sweep.
        given: parameters that are the same for every run.
        cluster: where to run.
        secrets: names of parameters whose values no file shows.
        metric: what the page plots; by default the first headline metric that the runs have.
        options: more words for ``python -m helpers run``, such as a time limit.

    Returns:
        Exit status: 0 if every run of the grid is completed, 1 if not, 130 if stopped by the user.

    Raises:
        InputError: a mistake in the grid, before any run.
    """
    orders, varied = plan(notebook, grid, given, secrets)
    sweep = Sweep(orders, varied, files.runs_root() / notebook.stem / f"sweep-{grid.stem}")
    try:
        with cluster.open(), files.writable(sweep.folder), files.locked(sweep.folder / ".lock", sweep.folder.name):
            sweep.write_table()
            sweep.run(cluster, options)
            sweep.write_page(metric)
    except KeyboardInterrupt:
        print("Stopped: the same command again runs what is missing.", file=sys.stderr)
        return 130
    return sweep.tell()


class Sweep:
    """The runs of a grid and their state, as their folders tell it.

    Attributes:
        folder: where table and page go.
    """

    def __init__(self, orders: Sequence[plans.Plan], varied: Sequence[str], folder: Path) -> None:
        self.folder, self._varied, self._clock = folder, list(varied), time.monotonic()
        self._orders = {order.name: order for order in orders}
        self._errors: dict[str, str] = {}
        self._ended: set[str] = set()

    def row(self, order: plans.Plan) -> dict[str, Any]:
        """One line of the table."""
        status, record = "missing", {}
        for state, folder in (("completed", order.final), ("failed", order.failed)):
            with contextlib.suppress(InputError):
                found = runs.load(folder) if folder.is_dir() else {}
                if found.get("fingerprint") == order.mark:
                    status, record = state, found
                    break
        if status == "missing" and order.name in self._errors:
            status = "failed"
        error = record.get("error") or self._errors.get(order.name, "")
        values = {name: order.values[name] for name in self._varied}
        line = {"run": order.name, "status": status, **values, **record.get("metrics", {})}
        return line | {"seconds": record.get("seconds"), "error": order.mask(error) if status == "failed" else ""}

    def table(self) -> pd.DataFrame:
        """All lines; metrics stand between the parameters and ``seconds``."""
        import pandas as pd

        frame = pd.DataFrame([self.row(order) for order in self._orders.values()])
        last = ["seconds", "error"]
        return frame[[c for c in frame.columns if c not in last] + last]

    def write_table(self) -> None:
        """Writes ``results.csv``."""
        files.write_atomic(self.folder / "results.csv", self.table().to_csv(index=False))

    def run(self, cluster: Cluster, options: Sequence[str]) -> None:
        """Executes all that is not completed; a worker that dies takes no more than its own runs with it."""
        waiting = [o for o in self._orders.values() if self.row(o)["status"] != "completed"]
        print(f"{len(self._orders)} runs, {len(self._orders) - len(waiting)} of them done before", file=sys.stderr)
        with progress.Line(self._text) as line:
            for _ in range(3):
                try:
                    for answer in _spread([_job(o, options, cluster) for o in waiting]):
                        self._note(*answer, quiet=line.live)
                except Exception as error:  # each backend has its own for a worker that died
                    print(f"A worker died ({type(error).__name__}); its runs start again.", file=sys.stderr)
                waiting = [o for o in waiting if o.name not in self._ended]
                if not waiting:
                    return
        self._errors |= {o.name: "its worker died three times (out of memory?)" for o in waiting}

    def _note(self, name: str, status: int, said: str, archive: bytes, *, quiet: bool) -> None:
        order = self._orders[name]
        self._ended.add(name)
        try:
            problem = execution.adopt(order, archive) if archive else ""
        except InputError as error:
            problem = str(error)
        status, said = (2, problem) if problem else (status, said)
        row = self.row(order)
        if row["status"] != "completed":
            told = {0: "code or data changed while the sweep ran: start it again", 2: said}
            self._errors[name] = row["error"] or told.get(status, f"the run ended with status {status}")
        self.write_table()
        if not quiet:
            end = f"failed: {self._errors[name]}" if name in self._errors else row["status"]
            print(f"  {time.monotonic() - self._clock:4.0f} s  {name}: {end}", file=sys.stderr, flush=True)

    def _text(self) -> str:
        """The state in one line, with what the runs of this machine say of themselves."""
        said = {o.name: progress.note(p) for o in self._orders.values() for p in o.partial()}
        now = "  ".join(f"{name}: {text}" for name, text in said.items())
        done = sum(o.final.exists() for o in self._orders.values())
        failed = f", {len(self._errors)} failed" if self._errors else ""
        took = time.monotonic() - self._clock
        return f"{progress.bar(done, len(self._orders))} {done}/{len(self._orders)}{failed}  {took:.0f} s  {now}"

    def write_page(self, metric: str | None) -> None:
        """Writes ``report.html``: the table, and a plot of the metric against each parameter that varies."""
        from helpers import reports

        self.write_table()
        table = self.table()
        known = list(table.columns[2 + len(self._varied) : -2])
        if metric and metric not in known:
            print(f"No run has the metric {metric}: {parameters.near(metric, known, 0.4)}", file=sys.stderr)
        chosen = next((m for m in (metric, *reports.HEADLINE, *known) if m in known), None)
        notebook = next(iter(self._orders.values())).notebook
        page = _page(table, self._varied, chosen, f"{self.folder.name} of {notebook.stem}")
        files.write_atomic(self.folder / "sweep.ipynb", page)
        reports.render(self.folder / "sweep.ipynb", self.folder / "report.html")

    def tell(self) -> int:
        """Says how it went; returns the exit status."""
        counts = self.table()["status"].value_counts()
        told = ", ".join(f"{count} {status}" for status, count in counts.items())
        print(f"{len(self._orders)} runs: {told}; {files.shown(self.folder)}/report.html")
        return int(counts.get("completed", 0) < len(self._orders))


def _spread(jobs: Sequence[Job]) -> Iterator[tuple[str, int, str, bytes]]:
    import joblib

    if jobs:
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")
        yield from parallel(joblib.delayed(run_one)(job) for job in jobs)


# ---------------------------------------------------------------- the page


def _page(table: pd.DataFrame, varied: Sequence[str], metric: str | None, title: str) -> str:
    """The page as a notebook, which the reports render like any other."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    shown = table.dropna(axis="columns", how="all").loc[:, lambda t: (t != "").any()]
    data = {"text/html": shown.to_html(index=False, na_rep="", border=0), "text/plain": shown.to_string(index=False)}
    source = 'import pandas as pd\n\npd.read_csv("results.csv")'
    cells = [new_markdown_cell(f"# {title}"), new_code_cell(source, outputs=[new_output("display_data", data)])]
    done = table[table["status"] == "completed"]
    for name in varied if metric else ():
        if done[name].astype(str).nunique() > 1:
            ax = by_parameter(done, name, metric)
            image = {"image/png": base64.b64encode(plots.to_png(ax)).decode()}
            alt = {"image/png": {"alt": plots.describe(ax)}}
            cells.append(new_markdown_cell(f"## {metric} by {name}"))
            cells.append(new_code_cell("", outputs=[new_output("display_data", image, metadata=alt)]))
    return nbformat.writes(new_notebook(cells=cells))


@plots.styled
def by_parameter(table: pd.DataFrame, name: str, metric: str, ax: Axes) -> Axes:
    """A point for each run, and a line through the means, of ``metric`` against the parameter ``name``.

    Args:
        table: finished runs, with the columns ``name`` and ``metric``.
        name: a parameter; numbers keep their distances, on a logarithmic scale where they span two decades.
        metric: the name of a metric.
        ax: where to draw.
    """
    import pandas as pd

    values = table[name]
    numeric = pd.api.types.is_numeric_dtype(values) and not (pd.api.types.is_bool_dtype(values) or values.hasnans)
    places = list(values) if numeric else ["None" if pd.isna(value) else str(value) for value in values]
    means = table[metric].groupby(places).mean()
    ax.scatter(places, table[metric], color=plots.PALETTE[0], zorder=3)
    ax.plot(means.index, means.to_numpy(), color=plots.PALETTE[0], alpha=0.5, linestyle="-" if numeric else "")
    if numeric and values.min() > 0 and values.max() / values.min() >= 100:
        ax.set_xscale("log")
    spread = f"{means.min():.3f} to {means.max():.3f}"
    ax.set(title=f"Mean {metric} by {name}: {spread}, highest at {means.idxmax()}", xlabel=name, ylabel=metric)
    return ax
