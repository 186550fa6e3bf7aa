"""The page of a comparison: the answer first, then why, how sure, where it fails, and what it costs.

The page is a notebook without code that :mod:`helpers.commands.report` renders like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import cards, checks, comparison, evaluation, files, runs, significance
from helpers.commands import report as reports

if TYPE_CHECKING:
    import pandas as pd

    from helpers.data import Splits

LEVELS = {"problem": "Problem", "note": "Note"}
MODELS = {
    "tfidf": "counts words or characters (TF-IDF), and weighs them by logistic regression",
    "frozen": "logistic regression on the vectors of a pretrained BERT that stays as it is",
    "bert": "the pretrained BERT, fine-tuned on these texts",
}
LSTM = "of several LSTMs trained on these texts alone, the best on validation texts"
SECTIONS = {
    "How far apart the models are": ("intervals",),
    "Where it fails": ("confusion", "per_class", "slices"),
    "Can its confidence be believed?": ("reliability", "temperature", "coverage"),
    "More labels, or more computing?": ("sizes", "cost"),
}


def write(
    folder: Path, out: Path, question: comparison.Question, splits: Splits, findings: Sequence[checks.Finding],
    outcome: comparison.Outcome | None = None,
) -> None:  # fmt: skip
    """Writes the page and its record into ``folder``, and what a reader opens into ``out``.

    Args:
        folder: ``runs/compare/<name>/``.
        out: gets ``answer.html`` and, after runs, their full reports.
        question, splits, findings: what was asked, read and found before any training.
        outcome: what the runs gave; None if only the data were checked.
    """
    import nbformat

    folder.mkdir(parents=True, exist_ok=True)
    cells = [_text(f"# Which model for {question.name}?")]
    metrics: dict[str, float] = {}
    if outcome:
        cells += _answer(question, outcome, metrics)
    cells += _data(splits, findings, outcome)
    if outcome:
        cells += _score_without_overlap(outcome, metrics)
        cells += _mistakes(outcome, folder)
        cells += _figures(files.runs_root() / "05_evaluation_plots" / f"compare-{question.name}")
        cells += _made(question, outcome)
    files.write_atomic(folder / "notebook.ipynb", nbformat.writes(nbformat.v4.new_notebook(cells=cells)))
    record = {"notebook": "compare", "name": question.name, "status": "completed", "parameters": _asked(question)}
    record |= {"metrics": metrics, "answer": outcome.found.sentences if outcome else [], "versions": runs.versions()}
    files.write_json(
        folder / "checks.json", [{k: v for k, v in asdict(f).items() if k != "examples"} for f in findings]
    )
    files.write_json(folder / "metrics.json", record)
    _publish(folder, out, question.name, outcome.seeded if outcome else ())
    print(f"Open {out / 'answer.html'}: it needs no network. It contains texts of the data it was made from.")


def _asked(question: comparison.Question) -> dict[str, Any]:
    """What was asked, without the folders of this machine."""
    said = {name: value for name, value in asdict(question).items() if value}
    return said | {name: cards.without_folders(said[name]) for name in ("source", "test", "preset") if name in said}


def _publish(folder: Path, out: Path, name: str, seeded: Sequence[Sequence[str]]) -> None:
    """The page, and beside it the full reports that it links to."""
    pages = {}
    if seeded:
        full = [*map(Path, seeded[0]), files.runs_root() / "05_evaluation_plots" / f"compare-{name}"]
        reports.build(full, out)
        pages = {path.parent.name: f"{path.parent.name}-{path.name}.html" for path in full}
    reports.render(folder / "notebook.ipynb", folder / "report.html")
    reports.render(folder / "notebook.ipynb", out / "answer.html", pages=pages)


def _answer(question: comparison.Question, outcome: comparison.Outcome, metrics: dict[str, float]) -> list:
    table = outcome.table[outcome.table["model"].isin(evaluation.candidates(outcome.table))]
    judged = judge(table)
    metrics |= {f"{name}_accuracy": float(values.loc["accuracy", "value"]) for name, values in judged.items()}
    first, *rest = map(cards.plain, outcome.found.sentences)
    cells = [
        _text(f"## The answer\n\n**{first}**\n\n" + "\n".join(f"- {sentence}" for sentence in rest)),
        _text("\n".join(f"- `{name}`: {MODELS.get(name, LSTM)}" for name in judged)),
        _text(
            "On the test texts, with 95 % intervals from a bootstrap within classes, each model by itself: they say "
            "what other test texts might change, not another training. ECE is the expected calibration error."
        ),
        _table(_quality(judged)),
        _text(
            "Every two models on the same test texts: the difference with the 95 % interval of a paired bootstrap, "
            "each pair by itself, and the p-value of the exact McNemar test, corrected for the number of pairs (Holm)."
        ),
        _table(_pairs(table)),
    ]
    if len(outcome.costs):
        cells += [_text("What they cost, measured in the runs:"), _table(_cost(outcome.costs.reindex(list(judged))))]
    if len(outcome.seeded) > 1:
        same = question.test or outcome.plan.texts
        own = "its own weights and validation texts, the test texts the same" if same else "its own weights and split"
        said = f"Over {len(outcome.seeded)} seeds, each with {own}: mean and standard deviation (sd) of test accuracy."
        cells.append(_text(said))
        cells.append(_table(comparison.spread(outcome.seeded).round(3).reset_index(names="models")))
    return cells


def judge(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The seven metrics of each model on test rows with their intervals, and ``ece``; the most accurate model first."""
    found = {}
    for name, part in table[table["split"] == "test"].groupby("model", sort=False):
        y, p = evaluation.targets(part), evaluation.probabilities(part)
        found[name] = significance.intervals(y, p)
        found[name].loc["ece", "value"] = evaluation.calibration_error(y, p)
    return dict(sorted(found.items(), key=lambda item: -item[1].loc["accuracy", "value"]))


def _quality(judged: dict[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    shown = pd.DataFrame({"metric": [*cards.METRICS.values(), "ECE"]})
    for name, values in judged.items():
        shown[name] = [
            f"{r.value:.3f}" + (f" [{r.low:.3f}, {r.high:.3f}]" if r.low == r.low else "") for r in values.itertuples()
        ]
    return shown


def _pairs(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    found = significance.pairs(table)
    return pd.DataFrame(
        {
            "in words": found["verdict"],
            "difference in accuracy": [f"{r.difference:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in found.itertuples()],
            "p (Holm)": ["< 0.001" if p < 0.001 else f"{p:.3f}" for p in found["p_holm"]],
        }
    )


def _cost(costs: pd.DataFrame) -> pd.DataFrame:
    """The costs for readers, units in the names."""
    units = {"train_seconds": "training (s)", "texts_per_second_1": "texts/s, one by one",
             "p95_ms_1": "its 95th percentile (ms)", "texts_per_second_64": "texts/s, by 64",
             "p95_ms_64": "its 95th percentile (ms) ", "size_mb": "on disk (MB)",
             "peak_memory_mb": "peak memory of the run (MB)"}  # fmt: skip
    shown = costs[[name for name in units if name in costs]].rename(columns=units).astype(float)
    return shown.map(lambda v: "–" if v != v else f"{v:,.1f}").reset_index(names="model")


def _sizes(splits: Splits) -> str:
    return f"{len(splits.train):,} to train, {len(splits.validation):,} to choose by, {len(splits.test):,} to test"


def _data(splits: Splits, findings: Sequence[checks.Finding], outcome: comparison.Outcome | None) -> list:
    lines = [f"{len(splits.labels)} classes; texts: {_sizes(splits)}.", *splits.notes]
    if outcome and outcome.plan.texts:
        lines += [f"The models saw a sample, because of the budget: {_sizes(outcome.splits)}.", *outcome.splits.notes]
    cells = [_text("## The data\n\n" + "\n".join(f"- {cards.plain(line)}" for line in lines))]
    for one in sorted((f for f in findings if f.level != "fine"), key=lambda f: list(LEVELS).index(f.level)):
        said = f"**{LEVELS[one.level]}: {cards.plain(one.name)}.** {cards.plain(one.finding)}"
        cells.append(_text(f"{said} *{cards.plain(one.advice)}*" if one.advice else said))
        cells += [_table(one.examples.head(5))] if len(one.examples) else []
    fine = [f"- {cards.plain(one.name)}: {cards.plain(one.finding)}" for one in findings if one.level == "fine"]
    return [*cells, _text("**Fine:**\n\n" + "\n".join(fine))] if fine else cells


def _score_without_overlap(outcome: comparison.Outcome, metrics: dict[str, float]) -> list:
    """Accuracy of each candidate with and without the test texts that stand in training."""
    import pandas as pd

    seen = checks.overlap(outcome.splits)
    if not seen.any() or seen.all():
        return []
    table, rows, known = outcome.table, [], set(outcome.splits.test["row"][seen])
    for name in evaluation.candidates(table):
        part = table[(table["split"] == "test") & (table["model"] == name)]
        right, unseen = part["label"] == part["prediction"], ~part["row"].isin(known)
        rows.append((name, round(right.mean(), 3), round(right[unseen].mean(), 3)))
        metrics[f"{name}_accuracy_unseen"] = float(right[unseen].mean())
    said = f"The same models without the {seen.sum():,} test texts that stand in the training texts:"
    return [_text(said), _table(pd.DataFrame(rows, columns=["model", "all test texts", "texts not seen in training"]))]


def _mistakes(outcome: comparison.Outcome, out: Path) -> list:
    """The pairs of classes that the recommended model mixes up; its card goes beside the page."""
    table, folders = outcome.table, outcome.seeded[0]
    model = outcome.found.model or evaluation.candidates(table)[0]
    owner = next(f for f in folders if (evaluation.read_predictions(f)["model"] == model).any())
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


def _made(question: comparison.Question, outcome: comparison.Outcome) -> list:
    lines = [f"- {name}: {cards.plain(str(value))}" for name, value in _asked(question).items()]
    said = f"LSTM: up to {outcome.plan.lstm_epochs} epochs. BERT: {outcome.plan.bert_epochs}. "
    names = [*(Path(folder).parent.name for folder in outcome.seeded[0]), "05_evaluation_plots"]
    links = ", ".join(f"[{name}]({name}.ipynb)" for name in names)
    rule = "The model is the cheapest within one point of the best on validation texts; test texts were not chosen by."
    return [_text("## How this was made\n\n" + "\n".join([*lines, "", said + rule, "", f"Full reports: {links}."]))]


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
