"""The command line, ``python -m helpers``; what a command needs is imported when it runs."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from helpers import InputError, printable


class Parser(argparse.ArgumentParser):
    """Tells a mistake on the command line as one sentence, as any other mistake in the input."""

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        raise InputError(f"{message}: see {self.prog} --help.")


def parser() -> Parser:
    """Returns the commands and their options."""
    top = Parser(prog="python -m helpers", description="Notebooks as runs, reports and answers, from the command line.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> Callable[..., Any]:
        return commands.add_parser(name, help=text, description=text).add_argument

    add = command("compare", "which model should I use for this file of texts and labels?")
    add("data", help="a file with texts and labels, or any other value of DATA")
    add("--test", default="", metavar="FILE", help="a test file (default: a fifth of the texts)")
    add("--text-column", default="", metavar="NAME", help="default: guessed, and said")
    add("--label-column", default="", metavar="NAME", help="default: guessed, and said")
    add("--minutes", type=float, default=10.0, metavar="M", help="the time you give (default: 10)")
    add("--seeds", type=int, default=1, metavar="N", help="repeat the cheap models on N splits")
    add("--preset", default="minilm", help="the pretrained model (default: minilm)")
    add("--name", default="", help="the comparison's name (default: the file's)")
    add("--force", action="store_true", help="run again what is finished")
    run = command("run", "execute a notebook once, strictly, into runs/<notebook>/<name>/")
    sweep = command("sweep", "execute a notebook once for each point of a grid, into one table")
    for add in (run, sweep):
        add("notebook", help="name, number or path, such as 03_lstm_classifier or 03")
        add("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter")
        add("-f", metavar="FILE", type=Path, help="parameters from a YAML or JSON file, - for stdin")
        add("--no-report", dest="report", action="store_false", help="write no report.html into the run's folder")
        add("--cell-timeout", type=int, metavar="S", help="seconds that one cell may take")
    run("--name", default="default", help="the run's name (default: default)")
    run("--force", action="store_true", help="replace a finished run of that name")
    run("--update", action="store_true", help="replace it only if code, parameters or data changed")
    run("--resume", action="store_true", help="skip a finished run, continue an interrupted one")
    sweep("grid", type=Path, help="YAML or JSON: NAME: [value, ...] for each parameter, or a list of runs")
    add = command("params", "list a notebook's parameters")
    add("notebook", help="name, number or path")
    add = command("report", "HTML reports and an index from finished and failed runs")
    add("runs", nargs="+", type=Path, metavar="RUN", help="a run, a notebook's runs, or runs/")
    add("--out", type=Path, default=Path("reports"), help="where to write (default: reports/)")
    add("--update", action="store_true", help="keep the pages that are younger than their runs")
    predict = command("predict", "apply a finished classifier to new texts")
    serve = command("serve", "a finished classifier as a web page and an HTTP endpoint on this machine")
    for add in (predict, serve):
        add("run", help="a run folder with model/")
        add("--model", default="", metavar="NAME", help="such as tfidf or frozen (default: the run's own)")
        add("--int8", action="store_true", help="round the network to eight bits: faster on most processors")
    predict("source", metavar="data", help="a file with a column of texts")
    predict("--out", type=Path, required=True, help="the CSV file to write")
    predict("--text-column", default="text", metavar="NAME", help="default: text")
    for add in (sweep, predict):
        add("--jobs", type=int, metavar="N", help="runs, or parts of a file, at the same time here (default: 1)")
        add("--backend", choices=("local", "dask"), default="local", help="here (default), or on a Dask cluster whose "
            "workers see project, data and runs under the same paths")  # fmt: skip
        add("--scheduler", default="", metavar="ADDRESS", help="of the cluster, such as tcp://host:8786")
    serve("--port", type=int, default=8000, help="default: 8000")
    serve("--host", default="127.0.0.1", help="default: 127.0.0.1, which only this machine reaches")
    add = command("fetch", "pretrained weights into the cache, verified")
    add("weights", nargs="?", default="minilm", help="which (default: minilm)")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 2 for a mistake in the input, told in one sentence."""
    try:
        status = call(**vars(parser().parse_args(arguments)))
        if sys.stdout:
            sys.stdout.flush()
        return status
    except InputError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except OSError as error:  # of `| head`, a full disk, a current folder that was deleted
        if sys.stdout and error.filename is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 1
        is_gone = isinstance(error, FileNotFoundError) and error.filename is None
        print(f"error: {'The current folder is gone: change to another.' if is_gone else error}", file=sys.stderr)
        return 2


def call(command: str, **options: Any) -> int:
    """Runs a command with its options; returns the exit status."""
    from helpers import parameters, runs
    from helpers.commands import compare, run

    if command in ("run", "sweep"):
        notebook, file, pairs = run.find_notebook(options.pop("notebook")), options.pop("f"), options.pop("p")
        given = parameters.load_file(file) if file else {}
        given |= parameters.from_pairs(parameters.read(notebook), pairs)
    match command:
        case "compare":
            names = ("test", "text_column", "label_column", "minutes", "seeds", "preset")
            return compare.compare(options.pop("data"), {name.upper(): options.pop(name) for name in names}, **options)
        case "run":
            return run.execute(notebook, given, **options)
        case "sweep":
            from helpers.commands import sweep

            return sweep.execute(notebook, options.pop("grid"), given, **options)
        case "params":
            print(parameters.describe(run.find_notebook(options["notebook"])))
        case "report":
            from helpers.commands import report

            index = report.build(report.collect(map(runs.find_run, options.pop("runs"))), **options)
            print(f"Open {index}: it needs no network. It contains texts of the data it was made from.")
        case "predict":
            from helpers import predict
            from helpers.commands import sweep

            with sweep.workers(*(options.pop(name) for name in ("jobs", "backend", "scheduler"))) as pool:
                rows = predict.predict_file(**options, spread=pool.map)
            print(f"{rows} texts labelled in {options['out']}")
        case "serve":
            from helpers.commands import serve

            return serve.serve(**options)
        case "fetch":
            from helpers import weights

            folder, known = weights.fetch(options["weights"]), " and ".join(weights.CHECKSUMS)
            print(f"{options['weights']} is in {folder}; verified by SHA-256: {known}")
    return 0


if __name__ == "__main__":
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a terminal may lack the characters of the data
        stream.reconfigure(errors="replace")
    sys.exit(main())
