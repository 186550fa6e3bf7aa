"""A model card for a finished run, ``model_card.md``, from recorded values only (Mitchell et al. 2019)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import evaluation, files, runs, significance

if TYPE_CHECKING:
    import pandas as pd

METRICS = {
    "accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1",
    "balanced_accuracy": "balanced accuracy", "mcc": "Matthews correlation", "log_loss": "log loss (nats)",
    "brier": "Brier score",
}  # fmt: skip


USES = (("choose by (validation)", "validation"), ("judge by (test)", "test"))


def write(folder: Path, model: str, out: Path | None = None) -> Path:
    """Writes the card of one model of a run into the run's folder, or into ``out``, and returns the file."""
    record, table = runs.load(folder), evaluation.read_predictions(str(folder))
    table = table[table["model"] == model]
    costs = evaluation.read_costs([str(folder)]).set_index("model")
    settings = folder / "model" / "classifier.json"  # of the run's network, not of its cheaper models
    network = model not in ("tfidf", "frozen") and settings.exists()
    saved = json.loads(settings.read_text("utf-8")) if network else {}
    parts = [_opening(record, model, saved), _data(record, table), _results(table), _classes(table)]
    if model in costs.index:
        parts.append(_cost(costs.loc[model]))
    parts.append(_settings(record))
    card = (out or folder) / "model_card.md"
    files.write_atomic(card, "\n\n".join(parts) + "\n")
    return card


def _opening(record: dict[str, Any], model: str, saved: dict[str, Any]) -> str:
    data = Path(str(record["parameters"].get("DATA", "?"))).name
    kinds = {"lstm": "an LSTM trained from scratch", "bert": "a pretrained BERT encoder with a classification head"}
    kinds |= {"tfidf": "logistic regression on TF-IDF", "frozen": "logistic regression on vectors of a frozen BERT"}
    kinds |= {"mixture": "the normalised product of the run's other models"}
    kind = kinds.get(saved.get("kind")) or kinds.get(model, model)
    unit = saved.get("unit", "word piece")
    read = f"It reads up to {saved['length']} {unit}s of a text." if "length" in saved else ""
    return (
        f"# Model card: {plain(model)} on {plain(data)}\n\nA text classifier, {kind}. {read}\n\n"
        "**Meant for** texts like those it was trained on, in the same language and with the same classes. "
        "**Not meant for** other languages, other classes, or decisions about people without a human who looks."
    )


def _data(record: dict[str, Any], table: pd.DataFrame) -> str:
    sizes, names = table["split"].value_counts(), evaluation.label_names(table)
    train = record["metrics"].get("train_texts")
    lines = [f"- texts to train on: {train:.0f}"] if train else []
    lines += [f"- texts to {verb}: {sizes[s]}" for verb, s in USES]
    return "\n".join(["## Data", "", *lines, f"- {len(names)} classes: {', '.join(map(plain, names[:50]))}"])


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, all columns but the first set right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _results(table: pd.DataFrame) -> str:
    test, held_out = (table[table["split"] == part] for part in ("test", "validation"))
    y, p = evaluation.targets(test), evaluation.probabilities(test)
    t = evaluation.temperature(evaluation.targets(held_out), evaluation.probabilities(held_out))
    found = significance.intervals(y, p)
    rows = [(METRICS[name], f"{r.value:.3f}", f"{r.low:.3f} to {r.high:.3f}") for name, r in found.iterrows()]
    before, after = (evaluation.calibration_error(y, q) for q in (p, evaluation.scale(p, t)))
    return (
        f"## Results on the test texts\n\n{_rows(('metric', 'value', '95 % bootstrap interval'), rows)}\n\n"
        f"Expected calibration error {before:.3f}; with confidence scaled by the temperature {t:.2f}, which was chosen "
        f"on validation texts: {after:.3f}."
    )


def _classes(table: pd.DataFrame) -> str:
    from sklearn.metrics import classification_report

    test = table[table["split"] == "test"]
    found = classification_report(test["label"], test["prediction"], labels=evaluation.label_names(table),
                                  output_dict=True, zero_division=0)  # fmt: skip
    found = sorted(((n, found[n]) for n in evaluation.label_names(table)), key=lambda item: item[1]["f1-score"])
    rows = [(plain(name), *(f"{r[k]:.2f}" for k in ("precision", "recall", "f1-score")), f"{r['support']:.0f}")
            for name, r in found]  # fmt: skip
    mixed = [f"- {plain(r.label)} is called {plain(r.prediction)}: {r.texts} texts"
             for r in evaluation.confused(test, 3).itertuples()]  # fmt: skip
    made, mistakes = _rows(("class", "precision", "recall", "F1", "texts"), rows), "\n".join(mixed or ["- none"])
    return f"## By class, weakest first\n\n{made}\n\nMost frequent mistakes:\n\n{mistakes}"


def _cost(row: pd.Series) -> str:
    return f"""## Cost

Measured in the run, on the machine it ran on.

- training: {row["train_seconds"]:.0f} s
- texts a second: {row["texts_per_second_1"]:.0f} one by one, {row["texts_per_second_64"]:.0f} by 64
- 95th percentile: {row["p95_ms_1"]:.0f} ms for one text, {row["p95_ms_64"]:.0f} ms for a batch of 64
- size on disk: {row["size_mb"]:.1f} MB"""


def _settings(record: dict[str, Any]) -> str:
    def items(values: dict[str, Any]) -> str:
        return "\n".join(f"- {name}: {plain(str(without_folders(value)))}" for name, value in values.items())

    settings, versions = items(record["parameters"]), items(record["versions"])
    return f"## Settings\n\nNotebook `{record['notebook']}`.\n\n{settings}\n\n## Versions\n\n{versions}"


def without_folders(value: Any) -> Any:
    """A value for a page that is shared: an absolute path from the current folder on, or its last part."""
    path = Path(value) if isinstance(value, str) else Path()
    if not path.is_absolute():
        return value
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def plain(text: str) -> str:
    """A text from data as plain Markdown: no markup, no line breaks, nothing that a viewer would run."""
    import html
    import re

    return html.escape(re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(text.split())), quote=False)
