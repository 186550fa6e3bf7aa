"""What the index of reports shows, computed from run folders alone: the ladder, the map, the cards, the runs."""

from __future__ import annotations

import contextlib
import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

HEADLINE = ("accuracy", "macro_f1", "log_loss", "test_perplexity", "probe_hits", "stsb_spearman")
PIPELINE = (
    ("data", "数据", "06"), ("pre-training", "预训练", "07 02"), ("general features", "通用特征", "01"),
    ("fine-tuning", "微调", "04"), ("task features", "任务特征", "03 00"), ("inference", "推断", "08 06"),
    ("predictions", "预测", "05"),
)  # fmt: skip


def contents(entries: Sequence[Mapping[str, Any]], main: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what ``index.html.j2`` shows: of all runs and sweeps, and of ``main``, the first of each notebook."""
    groups = []
    for notebook in dict.fromkeys(entry["notebook"] for entry in entries):
        here = [entry for entry in entries if entry["notebook"] == notebook]
        runs = [entry for entry in here if not entry["sweep"]]
        known = dict.fromkeys(name for run in runs for name in run["metrics"])
        columns = [name for name in HEADLINE if name in known] or list(known)[:3]
        title = runs[0]["title"] if runs else notebook
        sweeps = [entry for entry in here if entry["sweep"]]
        groups.append({"notebook": notebook, "title": title, "columns": columns, "runs": runs, "sweeps": sweeps})
    by_number = {entry["notebook"][:2]: entry for entry in reversed(main)}
    stages = [(name, chinese, next((by_number[n] for n in numbers.split() if n in by_number), None))
              for name, chinese, numbers in PIPELINE]  # fmt: skip
    cards = [_card(entry) for entry in main if not entry["failed"]]
    return {"entries": entries, "groups": groups, "stages": stages, "cards": cards, "ladder": _ladder(main)}


def _card(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A notebook at a glance; its figure is ``telling.png``, else ``ladder.png``, else the last it showed."""
    figures = entry["figures"]
    told = next((figures[name] for name in ("telling.png", "ladder.png") if name in figures), None)
    told = told or next(iter(reversed(figures.values())), None)
    texts = [cell.source for cell in entry["nb"].cells[:3] if cell.cell_type == "markdown"]
    question = next((found[1] for text in texts if (found := re.search(r"\*\*([^*]+[?？])\*\*", text))), "")
    chinese = next((f[1] for text in texts if (f := re.search(r"(?:摘要|中文)[*]*[：:]?[*]*\s*([^\n]+)", text))), "")
    chinese = chinese or next((f[0] for text in texts if (f := re.search(r"(?m)^.*[\u4e00-\u9fff]{6}.*$", text))), "")
    return {"entry": entry, "figure": told, "question": question, "chinese": chinese, "answer": _answer(entry)}


def _answer(entry: Mapping[str, Any]) -> str:
    """The first sentence of the first ``answer`` cell, else the headline metrics."""
    for cell in entry["nb"].cells:
        if "answer" in cell.metadata.get("tags", ()):
            outputs = cell.get("outputs", [{"data": {"text/markdown": cell.source}}])
            for output in outputs:
                text = output.get("text") or output.get("data", {}).get("text/markdown", "")
                if text := " ".join(re.sub(r"(?m)^#.*$|[*`|]", "", text).split()):
                    return re.split(r"(?<=[.!?。])\s", text)[0][:240]
    named = [name for name in HEADLINE if name in entry["metrics"]][:2] or list(entry["metrics"])[:1]
    return ", ".join(f"{name.replace('_', ' ')} {number(entry['metrics'][name])}" for name in named)


def _ladder(main: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Accuracy of every model on the test rows of the default runs that used the same data."""
    runs = [entry for entry in main if (entry["folder"] / "predictions.csv").is_file() and not entry["failed"]]
    runs = [entry for entry in runs if entry["notebook"].startswith("06")] or runs
    right: dict[str, dict[str, bool]] = {}
    labels: dict[str, str] = {}
    for entry in (e for e in runs if str(e["parameters"].get("DATA")) == str(runs[0]["parameters"].get("DATA"))):
        with contextlib.suppress(OSError, ValueError, KeyError, csv.Error), (entry["folder"] / "predictions.csv").open(
                encoding="utf-8", newline="") as file:  # fmt: skip
            for row in csv.DictReader(file):
                if row.get("split") == "test" and labels.setdefault(row["row"], row["label"]) == row["label"]:
                    right.setdefault(row["model"], {})[row["row"]] = row["label"] == row["prediction"]
    share = {model: sum(rows.values()) / len(rows) for model, rows in right.items()}
    if not share:
        return None
    order = sorted(share, key=share.get)
    best, floor = order[-1], next((m for m in ("words", "tfidf") if m in order[:-1]), order[0])
    rows = [(model, share[model], *_wilson(share[model], len(right[model]))) for model in order]
    both = right[best].keys() & right[floor].keys()
    only = [sum(right[a][row] and not right[b][row] for row in both) for a, b in ((best, floor), (floor, best))]
    tail = min(1.0, 2 * sum(math.comb(sum(only), k) for k in range(min(only) + 1)) / 2 ** sum(only))
    found = {"rows": rows, "best": best, "floor": floor, "points": 100 * (share[best] - share[floor])}
    return found | {"texts": len(both), "only": only, "p": tail, "data": runs[0]["parameters"].get("DATA", "")}


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    middle, half = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def states(path: Path) -> Counter[str]:
    """Returns how many runs of a sweep ended how."""
    with contextlib.suppress(OSError, ValueError, csv.Error), path.open(encoding="utf-8", newline="") as file:
        return Counter(str(row.get("status")) for row in csv.DictReader(file))
    return Counter()


def is_number(value: Any) -> bool:
    """Returns whether it is a finite number and no truth value."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number with more than 308 digits
        return False


def sortable(value: Any) -> Any:
    """Returns a number as it is, and nothing for anything else."""
    return value if is_number(value) else ""


def number(value: Any) -> str:
    """Returns a metric as a page shows it: three decimals, or thousands apart; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, float) and not (value.is_integer() and abs(value) >= 10):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,.0f}" if is_number(value) else str(value)


def duration(seconds: Any) -> str:
    """Returns seconds as a person says them, or nothing where it is no number."""
    if not is_number(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def when(started: Any) -> str:
    """Returns a date in ISO form, to the minute."""
    try:
        return f"{datetime.fromisoformat(str(started)):%Y-%m-%d %H:%M %Z}".strip()
    except ValueError:
        return str(started)
