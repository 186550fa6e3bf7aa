"""The command line of the project, ``python -m helpers``: run, params, report, predict, record."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from helpers import InputError


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="execute a notebook once, strictly, into runs/<notebook>/<name>/")
    run.add_argument("notebook", help="name, number or path, such as 03_lstm_classifier or 03")
    run.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter")
    run.add_argument("-f", metavar="FILE", type=Path, help="parameters from a YAML or JSON file")
    run.add_argument("--name", default="default", help="the run's name (default: default)")
    run.add_argument("--force", action="store_true", help="replace a finished run of that name")
    run.add_argument("--update", action="store_true", help="replace it only if code, parameters or data changed")
    run.add_argument("--cell-timeout", type=float, metavar="S", help="seconds that one cell may take")
    run.add_argument("--time-limit", type=float, metavar="S", help="seconds that the whole run may take")
    params = commands.add_parser("params", help="list a notebook's parameters")
    params.add_argument("notebook")
    report = commands.add_parser("report", help="HTML reports and an index from finished runs")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    report.add_argument("--out", type=Path, default=Path("reports"), help="where to write (default: reports/)")
    predict = commands.add_parser("predict", help="apply a finished classifier to new texts")
    predict.add_argument("run", help="a run folder with model/")
    predict.add_argument("data", help="a file with a column of texts")
    predict.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    predict.add_argument("--text-column", default="text")
    commands.add_parser("record", help="keep the latest runs by hand as data/recorded/ (make notebooks does)")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 2 for a mistake in the input, told in one sentence."""
    options = parser().parse_args(arguments)
    try:
        return globals()[f"_{options.command}"](options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    from helpers import parameters, runs

    given = parameters.load_file(options.f) if options.f else {}
    given |= dict(options.p)
    notebook = runs.find_notebook(options.notebook)
    return runs.execute(
        notebook, given, options.name, force=options.force, update=options.update,
        cell_timeout=options.cell_timeout, time_limit=options.time_limit,
    )  # fmt: skip


def _params(options: argparse.Namespace) -> int:
    from helpers import parameters, runs

    print(parameters.table(parameters.read(runs.find_notebook(options.notebook))))
    return 0


def _report(options: argparse.Namespace) -> int:
    from helpers import reports, runs

    index = reports.build([runs.find_run(folder) for folder in options.runs], options.out)
    print(f"Open {index}: it needs no network. It contains texts of the data it was made from.")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from helpers import training

    rows = training.predict_file(options.run, options.data, options.out, options.text_column)
    print(f"{rows} texts labelled in {options.out}")
    return 0


def _record(options: argparse.Namespace) -> int:
    from helpers import data, evaluation, runs

    for notebook, models in evaluation.RECORDED.items():
        folder = runs.runs_root() / notebook / "interactive"
        evaluation.write_recording(str(folder), data.project_root() / "data" / "recorded" / notebook, models)
    return 0


if __name__ == "__main__":
    sys.exit(main())
