"""The page of a comparison: the answer first, then why, how sure, where it fails, and what it costs.

The page is a notebook without code that :mod:`helpers.reports` renders like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import cards, checks, comparison, evaluation, reports, runs, significance

if TYPE_CHECKING:
    import pandas as pd

    from helpers.data import Splits

LEVELS = {"problem": "Problem", "note": "Note", "fine": "Fine"}
SECTIONS = {
    "Where it fails": ("confusion", "per_class", "slices"),
    "Can its confidence be believed?": ("reliability", "temperature", "coverage"),
    "More labels, or more computing?": ("sizes", "cost"),
}


def write(
    folder: Path, out: Path, question: comparison.Question, splits: Splits, findings: Sequence[checks.Finding],
    *, plan: comparison.Plan | None = None, seeded: Sequence[Sequence[str]] = (),
    found: significance.Recommendation | None = None,
) -> int:  # fmt: skip
    """Writes the page and its record into ``folder``, and what a reader opens into ``out``.

    Args:
        folder: ``runs/compare/<name>/``.
        out: gets ``answer.html`` and, after runs, their full reports.
        question, splits, findings: what was asked, read and found before any training.
        plan, seeded, found: settings, run folders by seed, and the answer; absent if only the data were checked.

    Returns:
        0.
    """
    import nbformat

    folder.mkdir(parents=True, exist_ok=True)
    cells = [_text(f"# Which model for {cards.plain(question.name)}?")]
    metrics: dict[str, float] = {}
    if found:
        cells += _answer(found, seeded, metrics)
    cells += _data(question, splits, findings)
    if found and plan:
        cells += _score_without_overlap(seeded[0], splits, metrics)
        cells += _mistakes(seeded[0], found, folder)
        cells += _figures(runs.runs_root() / "05_evaluation_plots" / f"compare-{question.name}")
        cells += _made(question, plan, seeded)
    runs.write_atomic(folder / "notebook.ipynb", nbformat.writes(nbformat.v4.new_notebook(cells=cells)))
    record = {"notebook": "compare", "name": question.name, "status": "completed"}
    record["parameters"] = {name: value for name, value in asdict(question).items() if value}
    record |= {"metrics": metrics, "answer": list(found.sentences) if found else [], "versions": runs.versions()}
    runs.write_json(folder / "checks.json", [{k: v for k, v in asdict(f).items() if k != "rows"} for f in findings])
    runs.write_json(folder / "metrics.json", record)
    _publish(folder, out, question.name, seeded)
    print(f"Open {out / 'answer.html'}: it needs no network. It contains texts of the data it was made from.")
    return 0


def _publish(folder: Path, out: Path, name: str, seeded: Sequence[Sequence[str]]) -> None:
    """The page, and beside it the full reports that it links to."""
    pages = {}
    if seeded:
        full = [*map(Path, seeded[0]), runs.runs_root() / "05_evaluation_plots" / f"compare-{name}"]
        reports.build(full, out)
        pages = {path.parent.name: f"{path.parent.name}-{path.name}.html" for path in full}
    reports.render(folder / "notebook.ipynb", folder / "report.html")
    reports.render(folder / "notebook.ipynb", out / "answer.html", pages=pages)


def _answer(found: significance.Recommendation, seeded: Sequence[Sequence[str]], metrics: dict[str, float]) -> list:
    table, _, _ = evaluation.read_runs(seeded[0])
    costs = evaluation.read_costs(seeded[0]).set_index("model")
    names = evaluation.candidates(table)
    shown = overview(table[table["model"].isin(names)], costs)
    metrics |= {f"{name}_accuracy": value for name, value in shown["accuracy"].items()}
    first, *rest = map(cards.plain, found.sentences)
    cells = [
        _text(f"## The answer\n\n**{first}**\n\n" + "\n".join(f"- {sentence}" for sentence in rest)),
        _text("Test rows, the most accurate first; 95 % intervals in brackets. ECE is the expected calibration error."),
        _table(_wordy(shown)),
        _text("Every two models on the same test texts; p-values are corrected for the number of pairs (Holm)."),
        _table(significance.pairs(table[table["model"].isin(names)])[["verdict", "low", "high", "p_holm"]].round(4)),
    ]
    if len(seeded) > 1:
        cells.append(_text(f"Over {len(seeded)} seeds, each with its own split and initial weights: test accuracy."))
        cells.append(_table(comparison.spread(seeded).round(3).reset_index(names="models")))
    return cells


def overview(table: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """One row a model: the seven metrics on test rows, ends of the accuracy's interval, ECE, and costs if measured."""
    import pandas as pd

    rows = {}
    for name, part in table[table["split"] == "test"].groupby("model", sort=False):
        y, p = evaluation.targets(part), evaluation.probabilities(part)
        found = significance.intervals(y, p)
        rows[name] = found["value"].to_dict() | {
            "low": found.loc["accuracy", "low"],
            "high": found.loc["accuracy", "high"],
            "ece": evaluation.calibration_bins(y, p).attrs["ece"],
        }
    return pd.DataFrame(rows).T.join(costs, how="left").sort_values("accuracy", ascending=False)


def _wordy(shown: pd.DataFrame) -> pd.DataFrame:
    """The overview for readers: intervals in brackets, names with units."""
    import pandas as pd

    said = pd.DataFrame({"model": shown.index})
    said["accuracy"] = [f"{r.accuracy:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in shown.itertuples()]
    for name in list(cards.METRICS)[1:]:
        said[cards.METRICS[name]] = [f"{v:.3f}" for v in shown[name]]
    said["ECE"] = [f"{v:.3f}" for v in shown["ece"]]
    units = {"train_seconds": "training (s)", "texts_per_second_1": "texts/s, one by one",
             "texts_per_second_64": "texts/s, by 64", "p95_ms_1": "95th percentile of one (ms)",
             "p95_ms_64": "95th percentile of 64 (ms)", "size_mb": "on disk (MB)",
             "peak_memory_mb": "peak memory of the run (MB)"}  # fmt: skip
    for name, title in units.items():
        if name in shown:
            said[title] = ["–" if v != v else f"{v:,.1f}" for v in shown[name].astype(float)]
    return said


def _data(question: comparison.Question, splits: Splits, findings: Sequence[checks.Finding]) -> list:
    sizes = f"{len(splits.train):,} to train, {len(splits.validation):,} to choose by, {len(splits.test):,} to test"
    lines = [f"{len(splits.labels)} classes; texts: {sizes}.", *splits.notes]
    cells = [_text("## The data\n\n" + "\n".join(f"- {cards.plain(line)}" for line in lines))]
    order = sorted(findings, key=lambda f: list(LEVELS).index(f.level))
    for one in order:
        said = f"**{LEVELS[one.level]}: {cards.plain(one.check)}.** {cards.plain(one.finding)}"
        cells.append(_text(said + (f" *{cards.plain(one.advice)}*" if one.advice and one.level != "fine" else "")))
        if len(one.rows) and one.level != "fine":
            cells.append(_table(one.rows.head(5)))
    return cells


def _score_without_overlap(folders: Sequence[str], splits: Splits, metrics: dict[str, float]) -> list:
    """Accuracy of each candidate with and without the test texts that stand in training."""
    import pandas as pd

    seen = checks.overlap(splits)
    if not seen.any() or seen.all():
        return []
    table, _, _ = evaluation.read_runs(folders)
    rows, known = [], set(splits.test["row"][seen])
    for name in evaluation.candidates(table):
        part = table[(table["split"] == "test") & (table["model"] == name)]
        right, unseen = part["label"] == part["prediction"], ~part["row"].isin(known)
        rows.append((name, round(right.mean(), 3), round(right[unseen].mean(), 3)))
        metrics[f"{name}_accuracy_unseen"] = float(right[unseen].mean())
    said = f"The same models without the {seen.sum():,} test texts that stand in the training texts:"
    return [_text(said), _table(pd.DataFrame(rows, columns=["model", "all test texts", "texts not seen in training"]))]


def _mistakes(folders: Sequence[str], found: significance.Recommendation, out: Path) -> list:
    """The pairs of classes that the recommended model mixes up; its card goes beside the page."""
    table, _, _ = evaluation.read_runs(folders)
    model = found.model or evaluation.candidates(table)[0]
    owner = next(f for f in folders if (evaluation.read_csv(Path(f) / "predictions.csv", f)["model"] == model).any())
    cards.write(Path(owner), model, out)
    mixed = evaluation.confused(table[(table["model"] == model) & (table["split"] == "test")])
    return [_text(f"## The most frequent mistakes of {cards.plain(model)}"), _table(mixed)] if len(mixed) else []


def _figures(folder: Path) -> list:
    """The figures that notebook 05 drew of the recommended model, with their text alternatives."""
    known = reports.figures(folder)
    cells = []
    for title, names in SECTIONS.items():
        here = [known[f"{name}.png"] for name in names if f"{name}.png" in known]
        cells += [_text(f"## {title}"), *map(_picture, here)] if here else []
    return cells


def _made(question: comparison.Question, plan: comparison.Plan, seeded: Sequence[Sequence[str]]) -> list:
    lines = [f"- {name}: {cards.plain(str(value))}" for name, value in asdict(question).items() if value]
    said = f"LSTM: up to {plan.lstm_epochs} epochs. BERT: {plan.bert_epochs}. "
    sample = f"On a sample of {plan.texts:,} training texts, because of the budget. " if plan.texts else ""
    names = [*(Path(folder).parent.name for folder in seeded[0]), "05_evaluation_plots"]
    links = ", ".join(f"[{name}]({name}.ipynb)" for name in names)
    rule = "The model is the cheapest within one point of the best on validation texts; test texts were not chosen by."
    return [
        _text("## How this was made\n\n" + "\n".join([*lines, "", said + sample + rule, "", f"Full reports: {links}."]))
    ]


def _text(source: str) -> Any:
    from nbformat.v4 import new_markdown_cell

    return new_markdown_cell(source)


def _table(frame: pd.DataFrame) -> Any:
    from nbformat.v4 import new_code_cell, new_output

    data = {"text/html": frame.to_html(index=False, na_rep="", border=0), "text/plain": frame.to_string(index=False)}
    return new_code_cell("", outputs=[new_output("display_data", data)])


def _picture(figure: dict[str, str]) -> Any:
    from nbformat.v4 import new_code_cell, new_output

    image, alt = {"image/png": figure["data"]}, {"image/png": {"alt": figure["alt"]}}
    return new_code_cell("", outputs=[new_output("display_data", image, metadata=alt)])
