"""What the index of reports shows, computed from run folders alone: the ladder, the map, the cards, the runs."""

from __future__ import annotations

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HEADLINE = ("accuracy", "macro_f1", "log_loss", "test_perplexity", "probe_hits", "stsb_spearman")


def contents(entries: Sequence[Mapping[str, Any]], main: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what ``index.html.j2`` shows: of all runs and sweeps, and of ``main``, the first of each notebook."""
    groups = []
    for notebook in dict.fromkeys(entry["notebook"] for entry in entries):
        runs, sweeps = ([e for e in entries if e["notebook"] == notebook and e["sweep"] == kind] for kind in (0, 1))
        known = dict.fromkeys(name for run in runs for name in run["metrics"])
        columns = [name for name in HEADLINE if name in known] or list(known)[:3]
        title = runs[0]["title"] if runs else notebook
        groups.append({"notebook": notebook, "title": title, "columns": columns, "runs": runs, "sweeps": sweeps})
    by_number = {entry["notebook"][:2]: entry for entry in reversed(main)}
    cards = [_card(entry) for entry in main if not entry["failed"]]
    return {"entries": entries, "groups": groups, "by_number": by_number, "cards": cards, "ladder": _ladder(main)}


def _card(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A notebook at a glance: its figure, the question it asks, a Chinese line, and its answer."""
    texts = "\n".join(cell.source for cell in entry["nb"].cells[:3] if cell.cell_type == "markdown")
    question = re.search(r"\*\*([^*]+[?？])\*\*", texts)
    chinese = re.search(r"(?:摘要|中文)[*]*[：:]?[*]*\s*([^\n]+)", texts)
    chinese = chinese or re.search(r"(?m)^(.*[\u4e00-\u9fff]{6}.*)$", texts)
    found = {"question": question, "chinese": chinese}
    return {"entry": entry, "answer": _answer(entry)} | {name: hit[1] if hit else "" for name, hit in found.items()}


def _answer(entry: Mapping[str, Any]) -> str:
    """The first sentence of the first ``answer`` cell, else the headline metrics."""
    for cell in (cell for cell in entry["nb"].cells if "answer" in cell.metadata.get("tags", ())):
        for output in cell.get("outputs", [{"text": cell.source}]):
            text = output.get("text") or output.get("data", {}).get("text/markdown", "")
            if text := " ".join(re.sub(r"(?m)^#.*$|[*`|]", "", text).split()):
                return re.split(r"(?<=[.!?。])\s", text)[0][:240]
    named = [name for name in HEADLINE if name in entry["metrics"]][:2] or list(entry["metrics"])[:1]
    return ", ".join(f"{name.replace('_', ' ')} {number(entry['metrics'][name])}" for name in named)


def _ladder(main: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The models of 06, or of all default runs on one split: the best on validation rows, judged on the test rows."""
    runs = [entry for entry in main if (entry["folder"] / "predictions.csv").is_file() and not entry["failed"]]
    if not runs:
        return None
    from statsmodels.stats.proportion import proportion_confint

    from helpers import InputError, evaluation, significance

    kept, table = [], None
    for entry in [entry for entry in runs if entry["notebook"].startswith("06")] or runs:
        with contextlib.suppress(InputError):  # a file that is damaged, or rows of another DATA, TEST or SEED
            table = evaluation.read_runs([*(str(e["folder"]) for e in kept), str(entry["folder"])])[0]
            kept.append(entry)
    if table is None or set(table["split"]) != {"validation", "test"}:
        return None
    right = (table["label"] == table["prediction"]).groupby([table["model"], table["split"]])
    texts = int(right.size().xs("test", level="split").iloc[0])
    right = right.mean().unstack("split").sort_values("validation")
    rows = [(name, share.validation, share.test, *proportion_confint(round(share.test * texts), texts, method="wilson"))
            for name, share in right.iterrows()]  # fmt: skip
    names = evaluation.candidates(table)
    best, floor = names[0], "tfidf" if "tfidf" in names[1:] else names[-1]
    pairs = significance.pairs(table[table["model"].isin(names)])
    own = pairs[[{row.better, row.worse} == {best, floor} for row in pairs.itertuples()]]
    found = {"rows": rows, "best": next(row for row in rows if row[0] == best), "floor": floor, "texts": texts}
    found["points"] = 100 * (right["test"][best] - right["test"][floor])
    found["data"] = kept[0]["parameters"].get("DATA", "")
    for row in own.itertuples():
        only = (row.only_better, row.only_worse)[:: 1 if row.better == best else -1]
        found |= {"only": only, "p": significance.p_value(row.p_holm), "pairs": len(pairs)}
        found["settled"] = row.p_holm < significance.LEVEL
    return found


def states(path: Path) -> Counter[str]:
    """Returns how many runs of a sweep ended how."""
    with contextlib.suppress(OSError, ValueError, csv.Error), path.open(encoding="utf-8", newline="") as file:
        return Counter(str(row.get("status")) for row in csv.DictReader(file))
    return Counter()


def sortable(value: Any) -> Any:
    """Returns a number as it is, and nothing for anything else."""
    return value if isinstance(value, int | float) and abs(value) < 1e300 else ""


def number(value: float | None) -> str:
    """Returns a metric as a page shows it: three decimals, or thousands apart; a dash where there is none."""
    if value is None:
        return "–"
    decimals = 0 if value.is_integer() and abs(value) >= 10 else 3 if abs(value) < 10 else 1
    return f"{value:,.{decimals}f}"


def duration(seconds: Any) -> str:
    """Returns seconds as a person says them, or nothing where it is no number.

    Examples:
        >>> duration(3.21), duration(119.7), duration(7260), duration(None)
        ('3.2 s', '2 min 0 s', '2 h 1 min', '')
    """
    if sortable(seconds) == "":
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
