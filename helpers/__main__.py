"""The command line of the project, ``python -m helpers``: compare, run, sweep, params, report, predict, fetch."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import NoReturn

from helpers import InputError


class Parser(argparse.ArgumentParser):
    """Tells a mistake on the command line as one sentence, as any other mistake in the input."""

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        raise InputError(f"{message}: see {self.prog} --help.")


def parser() -> Parser:
    """The commands and their options."""
    top = Parser(prog="python -m helpers", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    compare = commands.add_parser("compare", help="which model should I use for this file of texts and labels?")
    compare.add_argument("data", help="a file with texts and labels, or any other value of DATA")
    compare.add_argument("--test", default="", metavar="FILE", help="a test file (default: a fifth of the texts)")
    compare.add_argument("--text-column", default="", metavar="NAME", help="default: guessed, and said")
    compare.add_argument("--label-column", default="", metavar="NAME", help="default: guessed, and said")
    compare.add_argument("--minutes", type=_seconds, default=10.0, metavar="M", help="the time you give (default: 10)")
    compare.add_argument("--seeds", type=_count, default=1, metavar="N", help="repeat the cheap models on N splits")
    compare.add_argument("--preset", default="minilm", help="the pretrained model (default: minilm)")
    compare.add_argument("--name", default="", help="the comparison's name (default: the file's)")
    compare.add_argument("--force", action="store_true", help="run again what is finished")
    run = commands.add_parser("run", help="execute a notebook once, strictly, into runs/<notebook>/<name>/")
    run.add_argument("notebook", help="name, number or path, such as 03_lstm_classifier or 03")
    run.add_argument("--name", default="default", help="the run's name (default: default)")
    run.add_argument("--force", action="store_true", help="replace a finished run of that name")
    run.add_argument("--update", action="store_true", help="replace it only if code, parameters or data changed")
    run.add_argument("--resume", action="store_true", help="skip a finished run, continue an interrupted one")
    run.add_argument("--with-parent", type=int, metavar="PID", help=argparse.SUPPRESS)
    _add_common(run)
    sweep = commands.add_parser("sweep", help="execute a notebook once for each point of a grid, into one table")
    sweep.add_argument("notebook", help="name, number or path")
    sweep.add_argument("grid", type=Path, help="YAML or JSON: NAME: [value, ...] for each parameter, or a list of runs")
    sweep.add_argument("--jobs", type=_count, default=1, metavar="N", help="runs at the same time (default: 1)")
    sweep.add_argument("--backend", choices=("loky", "dask"), default="loky", help="here, or on a Dask cluster")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="of the Dask cluster, such as tcp://host:8786")
    sweep.add_argument("--metric", help="what to plot (default: the first headline metric of the runs)")
    _add_common(sweep)
    params = commands.add_parser("params", help="list a notebook's parameters")
    params.add_argument("notebook")
    report = commands.add_parser("report", help="HTML reports and an index from finished and failed runs")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run, a sweep, a notebook's runs, or runs/")
    report.add_argument("--out", type=Path, default=Path("reports"), help="where to write (default: reports/)")
    report.add_argument("--update", action="store_true", help="keep the pages that are younger than their runs")
    predict = commands.add_parser("predict", help="apply a finished classifier to new texts")
    predict.add_argument("run", help="a run folder with model/")
    predict.add_argument("data", help="a file with a column of texts")
    predict.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    predict.add_argument("--text-column", default="text")
    predict.add_argument("--model", default="", metavar="NAME", help="tfidf or frozen (default: the run's network)")
    fetch = commands.add_parser("fetch", help="pretrained weights into the cache, verified")
    fetch.add_argument("weights", nargs="?", default="minilm", help="which (default: minilm)")
    return top


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter")
    command.add_argument("-f", metavar="FILE", type=Path, help="parameters from a YAML or JSON file, - for stdin")
    command.add_argument("--no-report", action="store_true", help="write no report.html into the run's folder")
    command.add_argument("--cell-timeout", type=_seconds, metavar="S", help="seconds that one cell may take")


def _seconds(text: str) -> float:
    if not 0 < float(text) < math.inf:
        raise ValueError
    return float(text)


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 2 for a mistake in the input, told in one sentence."""
    try:
        options = parser().parse_args(arguments)
        return globals()[f"_{options.command}"](options)
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _given(options: argparse.Namespace, notebook: Path) -> dict:
    from helpers import parameters

    given = parameters.load_file(options.f) if options.f else {}
    return given | parameters.from_pairs(parameters.read(notebook), options.p)


def _compare(options: argparse.Namespace) -> int:
    from helpers.commands import compare

    given = {
        "TEST": options.test, "TEXT_COLUMN": options.text_column, "LABEL_COLUMN": options.label_column,
        "MINUTES": options.minutes, "SEEDS": options.seeds, "PRESET": options.preset,
    }  # fmt: skip
    return compare.compare(options.data, given, options.name, force=options.force)


def _run(options: argparse.Namespace) -> int:
    from helpers.commands import execution
    from helpers.commands import run as runs

    if options.with_parent:
        execution.end_with_parent(options.with_parent)
    notebook = runs.find_notebook(options.notebook)
    return runs.execute(
        notebook, _given(options, notebook), options.name, force=options.force, update=options.update,
        resume=options.resume, report=not options.no_report, cell_timeout=options.cell_timeout,
    )  # fmt: skip


def _sweep(options: argparse.Namespace) -> int:
    from helpers.commands import plans
    from helpers.commands import sweep as sweeps

    notebook = plans.find_notebook(options.notebook)
    cluster = sweeps.Cluster(options.backend, options.jobs, options.scheduler)
    limit = ["--cell-timeout", str(options.cell_timeout)] if options.cell_timeout else []
    extra = ["--no-report"] * options.no_report + limit
    return sweeps.execute(notebook, options.grid, _given(options, notebook), cluster, options.metric, extra)


def _params(options: argparse.Namespace) -> int:
    from helpers import parameters
    from helpers.commands import plans

    print(parameters.describe(plans.find_notebook(options.notebook)))
    return 0


def _report(options: argparse.Namespace) -> int:
    from helpers import runs
    from helpers.commands import report as reports

    folders = reports.collect(runs.find_run(folder) for folder in options.runs)
    index = reports.build(folders, options.out, update=options.update)
    print(f"Open {index}: it needs no network. It contains texts of the data it was made from.")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from helpers import predict

    rows = predict.predict_file(options.run, options.data, options.out, options.text_column, options.model)
    print(f"{rows} texts labelled in {options.out}")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from helpers import pretrained

    folder = pretrained.fetch(options.weights)
    print(f"{options.weights} is in {folder}; verified by SHA-256: {' and '.join(pretrained.CHECKSUMS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
