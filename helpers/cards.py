"""A model card for a finished run, ``model_card.md``, from recorded values only (Mitchell et al. 2019)."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers import evaluation, files, runs, significance, weights


def write(folder: Path, model: str, faults: Sequence[str] = ()) -> Path:
    """Writes the card of one model of a run, ``faults`` (sentences) first, into its folder; returns it."""
    from jinja2 import Environment, FileSystemLoader
    from sklearn.metrics import precision_recall_fscore_support

    record, table = runs.load(folder), evaluation.read_predictions(str(folder))
    table = table[table["model"] == model]
    costs = evaluation.read_costs([str(folder)]).set_index("model")
    settings = folder / "model" / "classifier.json"  # of the run's network, not of its cheaper models
    saved = weights.read_json(settings) if model not in ("tfidf", "frozen") and settings.exists() else {}
    test, held_out = (table[table["split"] == part] for part in ("test", "validation"))
    y, p = evaluation.targets(test), evaluation.probabilities(test)
    t = evaluation.temperature(evaluation.targets(held_out), evaluation.probabilities(held_out))
    names = evaluation.label_names(table)
    scores = precision_recall_fscore_support(test["label"], test["prediction"], labels=names, zero_division=0)
    values = {
        "record": record, "model": model, "faults": faults, "saved": saved, "names": names, "temperature": t,
        "data": Path(str(files.without_password(record["parameters"].get("DATA", "?")))).name,
        "sizes": {"validation": len(held_out), "test": len(test)}, "cost": costs.to_dict("index").get(model),
        "intervals": significance.intervals(y, p).iterrows(),
        "errors": [evaluation.calibration_error(y, q) for q in (p, evaluation.scale(p, t))],
        "classes": sorted(zip(names, *scores, strict=True), key=lambda row: row[3]),
        "confused": evaluation.confused(test, 3).itertuples(),
    }  # fmt: skip
    templates = FileSystemLoader(Path(__file__).parent / "report")
    environment = Environment(loader=templates, trim_blocks=True, keep_trailing_newline=True, finalize=plain)
    environment.filters["shared"] = files.without_folders
    files.write_atomic(card := folder / "model_card.md", environment.get_template("model_card.md.j2").render(values))
    return card


def plain(text: Any) -> str:
    r"""Returns a value from data as plain Markdown: no markup, no line breaks, nothing that a viewer would run.

    Examples:
        >>> print(plain("a|b <img> [x](y)"))
        a\|b &lt;img&gt; \[x\](y)
    """
    return html.escape(re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(str(text).split())), quote=False)
