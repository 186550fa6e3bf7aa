"""``python -m helpers compare my.csv``: data checks, every model on one split, and one page with the answer first.

It runs 03, 04 and 05 as any other run, so that one that was stopped goes on where it was.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import InputError, checks, data, evaluation, files, runs, significance, text
from helpers.commands import execution, plans

if TYPE_CHECKING:
    import pandas as pd

SMALLEST = 200  # texts; less than that is not worth a budget
STEPS = ((20, 3), (12, 2), (8, 1))  # epochs of the LSTM and of BERT, from the settings that are best to the fastest


@dataclass(frozen=True)
class Question:
    """What is compared.

    Attributes:
        source, test: values of ``DATA`` and ``TEST``.
        text_column, label_column: ``""`` to guess them.
        name: of the comparison, ``""`` for the file's.
        budget: seconds that all runs may take, or None.
        seeds: how many splits and initial weights to try.
        seed: the first of them.
        preset: the pretrained model of 04.
    """

    source: str
    test: str = ""
    text_column: str = ""
    label_column: str = ""
    name: str = ""
    budget: float | None = None
    seeds: int = 1
    seed: int = 42
    preset: str = "minilm"


@dataclass(frozen=True)
class Plan:
    """Settings that fit the budget.

    Attributes:
        lstm_epochs, bert_epochs: at most.
        texts: how many training texts to sample, or None for all.
        seconds: the estimate for all runs.
    """

    lstm_epochs: int
    bert_epochs: int
    texts: int | None
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What the runs gave.

    Attributes:
        plan: the settings.
        splits: the texts of the first seed's runs, a sample where the budget asks for one.
        seeded: for each seed, its run folders; the rest is of the first seed.
        table, costs: from :func:`helpers.evaluation.read_runs` and ``read_costs``, models as index of the costs.
        found: the answer.
    """

    plan: Plan
    splits: data.Splits
    seeded: Sequence[Sequence[str]]
    table: pd.DataFrame
    costs: pd.DataFrame
    found: significance.Recommendation


def compare(question: Question, out: Path | None = None, *, checks_only: bool = False, force: bool = False) -> int:
    """Checks, estimates, runs, and writes the page.

    Args:
        question: what is compared.
        out: the folder for the page and the full reports; by default ``reports/<name>/``.
        checks_only: stop after the data checks.
        force: run again what is finished.

    Returns:
        Exit status as of :func:`helpers.commands.execution.execute`; the same command goes on where a failed one ended.

    Raises:
        InputError: something about the data, the columns or the budget, before any training.
    """
    from helpers import answer

    question, splits = _read(question)
    _tell(question, splits)
    findings = checks.check(splits, question.seed) + checks.slow_checks(splits, question.seed)
    for finding in findings:
        print(f"  {finding.level + ':':9}{finding.finding}" + (f" {finding.advice}" if finding.level != "fine" else ""))
    folder = files.runs_root() / "compare" / question.name
    out = out or Path("reports") / question.name
    if checks_only:
        answer.write(folder, out, question, splits, findings)
        return 0
    plan = make_plan(splits, question)
    sampled, used = _sample(question, splits, plan, folder)
    print(f"Estimated time: {_minutes(plan.seconds)} on this machine. {_settings(plan)}", flush=True)
    print("".join(f"  {note}\n" for note in used.notes if used is not splits), end="")
    clock, seeds = time.monotonic(), range(question.seed, question.seed + question.seeds)
    made = {seed: _run_both(sampled, plan, seed, force) for seed in seeds}
    if failed := [status for status, _ in made.values() if status]:
        print("The same command goes on with what is missing.", file=sys.stderr)
        return failed[0]
    folders = made[question.seed][1]
    table, _, _ = evaluation.read_runs(folders)
    costs = evaluation.read_costs(folders).set_index("model")
    found = significance.recommend(table, costs)
    best = found.model or evaluation.candidates(table)[0]
    given = {"RUNS": folders, "MODEL": best}
    status = execution.execute(plans.find_notebook("05"), given, f"compare-{question.name}", update=True, force=force)
    if status:
        return status
    print(f"All runs: {_minutes(time.monotonic() - clock)}.\n\n" + "\n".join(found.sentences) + "\n")
    seeded = [folders for _, folders in made.values()]
    answer.write(folder, out, question, splits, findings, Outcome(plan, used, seeded, table, costs, found))
    return 0


def _read(question: Question) -> tuple[Question, data.Splits]:
    """Guesses what was not said, and loads the texts."""
    columns = question.text_column, question.label_column
    if not all(columns):
        table, _ = data.read_table(question.source)
        guessed = data.guess_columns(table)
        columns = question.text_column or guessed[0], question.label_column or guessed[1]
    path = Path(question.source)
    stem = path.parent.name if path.stem in ("train", "data") else path.stem
    name = re.sub(r"[^\w-]+", "-", question.name or stem).strip("-")[:60] or "data"
    question = replace(question, text_column=columns[0], label_column=columns[1], name=name)
    return question, data.load(question.source, question.test, *columns, question.seed)


def _tell(question: Question, splits: data.Splits) -> None:
    sizes = [len(part) for part in (splits.train, splits.validation, splits.test)]
    unit = text.guess_unit(splits.train["text"][:2000])
    said = "Chinese, read by character" if unit == "character" else "written with spaces, read by word"
    print(f"{question.source}: {sum(sizes):,} texts in {len(splits.labels)} classes, {said};")
    print(f"  text in column {question.text_column!r}, class in column {question.label_column!r};")
    print("  {:,} texts to train, {:,} to choose by, {:,} to test.".format(*sizes))
    for note in splits.notes:
        print(f"  {note}")


def make_plan(splits: data.Splits, question: Question) -> Plan:
    """The best settings whose estimated time is within the budget; without one, the notebooks' defaults.

    Fewer epochs come first, then a sample of the texts.

    Raises:
        InputError: the budget is too short for anything.
    """
    every = len(splits.train) + len(splits.validation)
    sizes = [None, *(n for n in (50_000, 20_000, 10_000, 5_000, 2_000, 1_000, 500, SMALLEST) if n < every)]
    lengths = _lengths(splits)
    least = np.inf
    for size in sizes:
        for lstm, bert in STEPS if size is None else STEPS[1:]:
            seconds = question.seeds * estimate(splits, lengths, lstm, bert, size)
            least = min(least, seconds)
            if question.budget is None or seconds <= question.budget:
                return Plan(lstm, bert, size, seconds)
    needed = f"{math.ceil(least / 60)} minutes"  # rounded up, so that it fits when it is asked for
    raise InputError(f"A budget of {_minutes(question.budget)} is too short: the fastest settings need {needed}.")


def _lengths(splits: data.Splits) -> tuple[float, float]:
    """Mean tokens that the LSTM (at most 100) and BERT (at most 64) read of a text, from a sample."""
    unit = text.guess_unit(splits.train["text"][:2000])
    counts = np.array([len(text.tokenize(t, unit)) for t in splits.train["text"][:2000]])
    return float(np.minimum(counts, 100).mean()), float(np.minimum(1.3 * counts + 2, 64).mean())


def estimate(
    splits: data.Splits, lengths: tuple[float, float], lstm_epochs: int, bert_epochs: int, size: int | None
) -> float:
    """Seconds for 03, 04 and 05 on this machine.

    The constants are seconds a token, fitted to runs of five data sets on 2 cores; they are scaled by how fast this
    machine multiplies matrices. Expect the truth between half and twice as much.
    """
    share = min(1.0, (size or np.inf) / (len(splits.train) + len(splits.validation)))
    train, held_out = share * len(splits.train), share * len(splits.validation)
    test = len(splits.test) if size is None else min(len(splits.test), max(size // 4, 500))
    lstm, bert = lengths
    first = 60 + 1.0e-4 * lstm * (train * lstm_epochs + 10 * (held_out + test))
    learning, reading = 1.1e-3 * bert, 3.7e-4 * bert
    second = 40 + learning * (train * bert_epochs + 2100) + reading * (train + held_out * (2 + bert_epochs) + 5 * test)
    return (first + second + 20) * _slowness()


def _slowness() -> float:
    """How many times longer than the reference machine this one takes for a product of matrices."""
    a = np.ones((1024, 1024), dtype=np.float32)
    times = []
    for _ in range(20):
        clock = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - clock)
    return max(0.1, min(times) / REFERENCE)


REFERENCE = 0.0108  # seconds for that product on the 2 cores where the constants were measured


def _sample(question: Question, splits: data.Splits, plan: Plan, folder: Path) -> tuple[Question, data.Splits]:
    """Writes the sampled texts as files of their own and splits them; the texts as they are without a sample.

    Raises:
        InputError: fewer than two classes are left.
    """
    import pandas as pd

    if plan.texts is None:
        return question, splits
    train = pd.concat([splits.train, splits.validation]).sort_values("row", ignore_index=True)
    sizes = train["label"].value_counts()
    parts = [part[part["label"].isin(sizes.index[sizes > 1])] for part in (train, splits.test)]
    parts = [
        data.sample(part, n, question.seed)
        for part, n in zip(parts, (plan.texts, max(plan.texts // 4, 500)), strict=True)
    ]
    kept = set(parts[0]["label"])
    if len(kept) < 2 or parts[1].empty:
        raise InputError(f"{question.source} is too small for a sample of it: add texts, or give a longer --budget.")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{question.name}-{part}.csv" for part in ("train", "test")]
    for path, frame in zip(paths, parts, strict=True):
        files.write_atomic(path, frame[["text", "label"]].to_csv(index=False))
    sampled = replace(question, source=str(paths[0]), test=str(paths[1]), text_column="text", label_column="label")
    used = data.load(sampled.source, sampled.test, seed=question.seed)
    lost = sorted(set(splits.labels) - kept)
    more = f" and {len(lost) - 5:,} more" if len(lost) > 5 else ""
    note = f"Left out of the sample, for want of a second training text: {', '.join(lost[:5])}{more}."
    return sampled, replace(used, notes=[note] if lost else [])


def _settings(plan: Plan) -> str:
    said = f"LSTM: up to {plan.lstm_epochs} epochs; BERT: {plan.bert_epochs}"
    return f"{said}; on a sample of {plan.texts:,} texts." if plan.texts else f"{said}; all texts."


def _run_both(question: Question, plan: Plan, seed: int, force: bool) -> tuple[int, list[str]]:
    """Runs 03 and 04 on one split; returns the exit status and the run folders."""
    name = f"compare-{question.name}" + (f"-seed{seed}" if seed != question.seed else "")
    columns = {"TEXT_COLUMN": question.text_column, "LABEL_COLUMN": question.label_column}
    shared = {"DATA": question.source, "TEST": question.test, "SEED": seed} | columns
    own = {"03": {"EPOCHS": plan.lstm_epochs}, "04": {"EPOCHS": plan.bert_epochs, "PRESET": question.preset}}
    folders = []
    for number, extra in own.items():
        notebook = plans.find_notebook(number)
        status = execution.execute(notebook, shared | extra, name, update=True, resume=True, force=force)
        if status:
            return status, []
        folders.append(str(files.runs_root() / notebook.stem / name))
    return 0, folders


def _minutes(seconds: float | None) -> str:
    seconds = seconds or 0.0
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def spread(seeded: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Mean and standard deviation of test accuracy over several seeds, given the run folders of each.

    Returns:
        Family of models as index (``tfidf``, ``LSTM``, ``frozen``, ``bert``): ``mean``, ``sd``, ``least``, ``most``.
    """
    import pandas as pd

    rows: dict[str, list[float]] = {}
    for folders in seeded:
        for folder in folders:
            record: dict[str, Any] = runs.load(folder)
            kind = "LSTM" if record["notebook"].startswith("03") else "bert"
            rows.setdefault(kind, []).append(record["metrics"]["accuracy"])
            if kind == "bert":
                for name in ("tfidf", "frozen"):
                    rows.setdefault(name, []).append(record["metrics"][f"{name}_accuracy"])
    values = pd.DataFrame(rows)
    return pd.DataFrame({"mean": values.mean(), "sd": values.std(), "least": values.min(), "most": values.max()})
