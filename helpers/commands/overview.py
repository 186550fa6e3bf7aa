"""What the index of reports shows, computed from run folders alone: the ladder, the cards, how runs ended."""

import base64
import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from helpers import InputError
from helpers.files import without_folders

HEADLINE = ("accuracy", "macro_f1", "log_loss", "test_perplexity", "probe_hits", "stsb_spearman")


def card(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a notebook at a glance: its figure, the question it asks, a Chinese line, and its answer."""
    texts = "\n".join(cell.source for cell in entry["nb"].cells[:3] if cell.cell_type == "markdown")
    found = {"question": r"\*\*([^*]+[?？])\*\*", "chinese": r"摘要[*：:\s]*(.+)"}
    found = {name: hit[1].replace("`", "") for name, pattern in found.items() if (hit := re.search(pattern, texts))}
    return found | {"entry": entry, "figure": _figure(entry), "answer": _answer(entry)}


def _figure(entry: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """The cell and the output of a picture: the one kept as telling.png, else as ladder.png, else the last one."""
    shown = [(cell, output) for cell in entry["nb"].cells for output in cell.get("outputs", ())
             if "image/png" in output.get("data", ())]  # fmt: skip
    kept = [entry["folder"] / "figures" / f"{name}.png" for name in ("ladder", "telling")]
    rank = {base64.b64encode(file.read_bytes()).decode(): i for i, file in enumerate(kept, 1) if file.is_file()}
    return max(reversed(shown), key=lambda pair: rank.get(pair[1].data["image/png"], 0), default=None)


def _answer(entry: Mapping[str, Any]) -> str:
    """The first sentence of the first ``answer`` cell, else the headline metrics."""
    for cell in (cell for cell in entry["nb"].cells if "answer" in cell.metadata.get("tags", ())):
        for output in cell.get("outputs", [{"text": cell.source}]):
            text = output.get("text") or output.get("data", {}).get("text/markdown", "")
            if text := " ".join(re.sub(r"(?m)^#.*$|[*`|]", "", text).split()):
                first = re.split(r"(?<=[.!?。])\s", text)[0]
                return first if len(first) <= 240 else f"{first[:239].rpartition(' ')[0] or first[:239]}…"
    named = [name for name in HEADLINE if name in entry["metrics"]][:2] or list(entry["metrics"])[:1]
    return ", ".join(f"{name.replace('_', ' ')} {number(entry['metrics'][name])}" for name in named)


def ladder(main: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the models of 06, or of all default runs on one split, as ``index.html.j2`` draws them.

    The best is chosen on validation rows and judged on the test rows, against TF-IDF or else the last candidate.
    """
    from scipy.stats import binomtest

    from helpers import evaluation, significance

    runs = [entry for entry in main if (entry["folder"] / "predictions.csv").is_file() and not entry["failed"]]
    kept, table = [], None
    for entry in [entry for entry in runs if entry["notebook"].startswith("06")] or runs:
        with contextlib.suppress(InputError):  # a file that is damaged, or rows of another DATA, TEST or SEED
            table = evaluation.read_runs([str(e["folder"]) for e in (*kept, entry)])[0]
            kept.append(entry)
    if table is None or set(table["split"]) != {"validation", "test"}:
        return None
    right = (table["label"] == table["prediction"]).groupby([table["model"], table["split"]]).mean().unstack("split")
    texts = len(table[table["split"] == "test"]) // len(right)
    rows = []
    for name, share in right.sort_values("validation").iterrows():
        interval = binomtest(round(share.test * texts), texts).proportion_ci(method="wilson")
        rows.append((name, share.validation, share.test, *interval))
    names = evaluation.candidates(table)
    best, floor = names[0], "tfidf" if "tfidf" in names[1:] else names[-1]
    rows.sort(key=lambda row: (row[1], row[0] == best))
    pairs = significance.pairs(table[table["model"].isin(names)])
    pair = next((pair for pair in pairs.itertuples() if {pair.better, pair.worse} == {best, floor}), None)
    return {
        "rows": rows, "best": next(row for row in rows if row[0] == best), "floor": floor, "texts": texts,
        "pair": pair, "pairs": len(pairs), "p": pair and significance.p_value(pair.p_holm),
        "settled": pair and pair.p_holm < significance.LEVEL,
        "data": str(without_folders(kept[0]["parameters"].get("DATA", ""))),
    }  # fmt: skip


def number(value: float) -> str:
    """Returns a metric as a page shows it: three decimals, or thousands apart."""
    decimals = 0 if value.is_integer() and abs(value) >= 10 else 3 if abs(value) < 10 else 1
    return f"{value:,.{decimals}f}"
