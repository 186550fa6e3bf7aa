"""Sweeps: a notebook executed once for each point of a grid, into one table and one page.

Each point is an ordinary run in a process of its own, ``runs/<notebook>/<grid>-...``. joblib spreads them over this
machine's cores or over a Dask cluster whose workers have this project too (:mod:`helpers.commands.cluster`).
A sweep that was stopped runs only what is missing when it is started again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import itertools
import json
import math
import re
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import InputError, files, parameters, plots, progress, runs
from helpers.commands import execution, plans
from helpers.commands.cluster import Broken, Cluster, pack_job, spread

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAX_RUNS = 10_000
MAX_DEATHS = 3  # of workers under one run, the first perhaps another run's fault


# ---------------------------------------------------------------- the grid


def read_grid(path: Path) -> list[dict[str, Any]]:
    """The points of a grid file.

    A mapping ``NAME: [value, ...]`` gives every combination; a list of mappings gives the runs one by one.

    Raises:
        InputError: the file is neither, or empty.
    """
    found = parameters.load_file(path, object)
    if isinstance(found, dict) and found:
        columns = [value if isinstance(value, list) else [value] for value in found.values()]
        if math.prod(map(len, columns)) > MAX_RUNS:
            raise InputError(f"The grid {path.name} has more than {MAX_RUNS:,} points: thin it out.")
        found = [dict(zip(found, values, strict=True)) for values in itertools.product(*columns)]
    if not (isinstance(found, list) and found and all(isinstance(point, dict) and point for point in found)):
        raise InputError(f"The grid {path.name} has no points: write NAME: [value, ...] for each parameter.")
    return found


def plan(notebook: Path, grid: Path, given: Mapping[str, Any]) -> tuple[list[plans.Plan], list[str]]:
    """The runs of a grid, each checked, and the names of the parameters that it varies.

    Raises:
        InputError: a mistake in the grid or in any of its points.
    """
    if not re.fullmatch(r"\w[\w-]{0,40}", grid.stem):
        raise InputError(f"{grid.name} cannot name a sweep: use up to 40 letters, digits, - and _.")
    points, orders = read_grid(grid), {}
    varied = list(dict.fromkeys(name for point in points for name in point))
    if twice := [name for name in varied if name in given]:
        raise InputError(f"{twice[0]} is in the grid {grid.name}: give it there only.")
    for point in points:
        order = plans.plan(notebook, {**given, **point}, f"{grid.stem}-0")
        name = _name(grid.stem, {n: order.values[n] for n in point})
        if name in orders:
            raise InputError(f"{grid.name} has the point {json.dumps(point)[:80]} twice: keep one.")
        orders[name] = replace(order, name=name, final=order.final.with_name(name))
    return list(orders.values()), varied


def _name(grid: str, point: Mapping[str, Any]) -> str:
    """A run's name that a reader recognises and that only this point has."""
    said = "-".join(f"{name}_{value}" for name, value in point.items()).lower()
    digest = hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:12]
    return f"{grid}-{re.sub(r'[^a-z0-9_-]+', '_', said)[:30]}-{digest}"


# ---------------------------------------------------------------- all runs, and what came out


def execute(
    notebook: Path,
    grid: Path,
    given: Mapping[str, Any],
    where: Cluster,
    metric: str | None = None,
    options: Sequence[str] = (),
) -> int:
    """Executes what is missing of a grid, and writes ``runs/<notebook>/sweep-<grid>/`` with results.csv and a page.

    Args:
        notebook: the file.
        grid: the grid's file; its name names the sweep.
        given: parameters that are the same for every run.
        where: where to run.
        metric: what the page plots; by default the first headline metric that the runs have.
        options: more words for ``python -m helpers run``, such as a time limit.

    Returns:
        Exit status: 0 if every run of the grid is completed, 1 if not, 130 if stopped by the user.

    Raises:
        InputError: a mistake in the grid, before any run.
    """
    orders, varied = plan(notebook, grid, given)
    folder = files.runs_root() / notebook.stem / f"sweep-{grid.stem}"
    try:
        with _stoppable(), where.open(), files.writable(folder), files.locked(folder / ".lock", folder.name):
            sweep = Sweep(orders, varied, folder)
            sweep.run(where, options)
            sweep.write_page(metric)
            return sweep.tell()
    except KeyboardInterrupt:
        print("Stopped: the same command again runs what is missing.", file=sys.stderr)
        return 130


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Within it, SIGTERM ends this process in order: its runs stop, its lock is let go of."""

    def stop(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        print("Stopped from outside: the same command again runs what is missing.", file=sys.stderr)
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Sweep:
    """The runs of a grid and their state, as their folders told it last.

    Attributes:
        folder: where table and page go.
    """

    def __init__(self, orders: Sequence[plans.Plan], varied: Sequence[str], folder: Path) -> None:
        self.folder, self._varied, self._clock = folder, list(varied), time.monotonic()
        self._orders = {order.name: order for order in orders}
        self._errors: dict[str, str] = {}
        self._rows = {order.name: self._row(order) for order in orders}

    def _row(self, order: plans.Plan) -> dict[str, Any]:
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
        error = self._errors.get(order.name) or record.get("error") or ""
        values = {name: order.values[name] for name in self._varied}
        line = {"run": order.name, "status": status, **values, **record.get("metrics", {})}
        return line | {"seconds": record.get("seconds"), "error": order.mask(error) if status == "failed" else ""}

    def table(self) -> pd.DataFrame:
        """All lines; metrics stand between the parameters and ``seconds``."""
        import pandas as pd

        frame = pd.DataFrame(list(self._rows.values()))
        last = ["seconds", "error"]
        return frame[[c for c in frame.columns if c not in last] + last]

    def write_table(self) -> None:
        """Writes ``results.csv``."""
        files.write_atomic(self.folder / "results.csv", self.table().to_csv(index=False))

    def run(self, where: Cluster, options: Sequence[str]) -> None:
        """Executes all that is not completed; what was running when a worker died starts again, each run alone."""
        waiting = [name for name, row in self._rows.items() if row["status"] != "completed"]
        print(f"{len(self._orders)} runs, {len(self._orders) - len(waiting)} of them done before", file=sys.stderr)
        jobs = {name: pack_job(self._orders[name], options, where) for name in waiting}
        self.write_table()
        batches, deaths = deque([waiting] if waiting else []), Counter()
        with progress.Line(self._text) as line:
            while batches:
                batch = batches.popleft()
                try:
                    with contextlib.closing(spread([jobs[name] for name in batch])) as answers:
                        for answer in answers:
                            jobs.pop(answer[0])
                            self._note(*answer, quiet=line.live)
                except Broken as broken:
                    print(f"A worker died ({broken}); its runs start again.", file=sys.stderr)
                    lost = broken.begun or batch
                    rest = [name for name in batch if name in jobs and name not in lost]
                    batches.extendleft([rest] if rest else [])
                    deaths.update(lost)
                    batches.extend([name] for name in lost if deaths[name] < MAX_DEATHS)
                    self._give_up([name for name in lost if deaths[name] >= MAX_DEATHS])

    def _give_up(self, names: Sequence[str]) -> None:
        for name in names:
            self._errors[name] = f"its worker died {MAX_DEATHS} times (out of memory?)"
            self._rows[name] = self._row(self._orders[name])
        self.write_table()

    def _note(self, name: str, status: int, said: str, archive: bytes, *, quiet: bool) -> None:
        order = self._orders[name]
        try:
            problem = execution.adopt(order, archive) if archive else ""
        except InputError as error:
            problem = str(error)
        status, said = (2, problem) if problem else (status, said)
        row = self._row(order)
        if row["status"] != "completed":
            told = {0: "code or data changed while the sweep ran: start it again", 2: said}
            self._errors[name] = order.mask(row["error"] or told.get(status, f"the run ended with status {status}"))
            row = self._row(order)
        self._rows[name] = row
        self.write_table()
        if not quiet:
            end = f"failed: {self._errors[name]}" if name in self._errors else row["status"]
            print(f"  {time.monotonic() - self._clock:4.0f} s  {name}: {end}", file=sys.stderr, flush=True)

    def _text(self) -> str:
        """The state in one line, with what the runs of this machine say of themselves."""
        said = {p.name[1:].partition(".")[0]: progress.note(p) for p in self.folder.parent.glob(".*.partial")}
        now = "  ".join(f"{name}: {text}" for name, text in said.items() if name in self._orders)
        done = sum(row["status"] == "completed" for row in list(self._rows.values()))
        failed = f", {len(self._errors)} failed" if self._errors else ""
        took = time.monotonic() - self._clock
        return f"{progress.bar(done, len(self._orders))} {done}/{len(self._orders)}{failed}  {took:.0f} s  {now}"

    def write_page(self, metric: str | None) -> None:
        """Writes ``report.html``: the table, and a plot of the metric against each parameter that varies.

        The runs and their table stand without it: what is wrong with a page is said, and no more.
        """
        from helpers.commands import report as reports

        table = self.table()
        known = list(table.columns[2 + len(self._varied) : -2])
        if metric and metric not in known:
            print(f"No run has the metric {metric}: {parameters.near(metric, known, 0.4)}", file=sys.stderr)
        chosen = next((m for m in (metric, *reports.HEADLINE, *known) if m in known), None)
        notebook = next(iter(self._orders.values())).notebook
        try:
            page = _page(table, self._varied, chosen, f"{self.folder.name} of {notebook.stem}", self._links())
            files.write_atomic(self.folder / "sweep.ipynb", page)
            reports.render(self.folder / "sweep.ipynb", self.folder / "report.html")
        except Exception as error:  # of a dozen kinds; what the runs computed is not lost for it
            (self.folder / "report.html").unlink(missing_ok=True)
            print(f"The sweep has no report.html ({type(error).__name__}): see results.csv.", file=sys.stderr)

    def _links(self) -> dict[str, str]:
        """The address of each run's report, from the sweep's page."""
        found = {order.name: (order.final, order.failed) for order in self._orders.values()}
        chosen = {name: next((p for p in both if (p / "report.html").exists()), None) for name, both in found.items()}
        return {name: f"../{place.name}/report.html" for name, place in chosen.items() if place}

    def tell(self) -> int:
        """Says how it went; returns the exit status."""
        counts = Counter(row["status"] for row in self._rows.values())
        told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        made = next(p for p in ("report.html", "results.csv") if (self.folder / p).exists())
        print(f"{len(self._orders)} runs: {told}; {files.shown(self.folder)}/{made}")
        return int(counts["completed"] < len(self._orders))


# ---------------------------------------------------------------- the page


def _page(table: pd.DataFrame, varied: Sequence[str], metric: str | None, title: str, links: Mapping[str, str]) -> str:
    """The page as a notebook, which the reports render like any other."""
    import nbformat
    import pandas as pd
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    shown = table.dropna(axis="columns", how="all").loc[:, lambda t: (t != "").any()]
    linked = shown.map(lambda v: v if v is None or isinstance(v, float) else html.escape(str(v)))
    linked.columns = [html.escape(str(column)) for column in shown.columns]
    linked["run"] = [f'<a href="{links[name]}">{name}</a>' if name in links else name for name in shown["run"]]
    with pd.option_context("display.max_colwidth", None):
        table_html = linked.to_html(index=False, na_rep="", border=0, escape=False)
    data = {"text/html": table_html, "text/plain": shown.to_string(index=False)}
    source = 'import pandas as pd\n\npd.read_csv("results.csv")'
    cells = [new_markdown_cell(f"# {title}"), new_code_cell(source, outputs=[new_output("display_data", data)])]
    done = table[(table["status"] == "completed") & (table[metric].notna() if metric else False)]
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

    table = table.dropna(subset=[metric])
    values = table[name]
    numeric = pd.api.types.is_numeric_dtype(values) and not (pd.api.types.is_bool_dtype(values) or values.hasnans)
    places = list(values) if numeric else ["None" if v is None or v != v else str(v) for v in values]  # NaN != NaN
    means = table[metric].groupby(places).mean()
    ax.scatter(places, table[metric], color=plots.PALETTE[0], zorder=3)
    ax.plot(means.index, means.to_numpy(), color=plots.PALETTE[0], alpha=0.5, linestyle="-" if numeric else "")
    if numeric and values.min() > 0 and values.max() / values.min() >= 100:
        ax.set_xscale("log")
    spread = f"{means.min():.3f} to {means.max():.3f}"
    ax.set(title=f"Mean {metric} by {name}: {spread}, highest at {means.idxmax()}", xlabel=name, ylabel=metric)
    return ax
