"""What the pages of reports show of two runs side by side, and how they write numbers, times and figures."""

import base64
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

HEADLINE = ("accuracy", "macro_f1", "log_loss", "test_perplexity", "probe_hits", "stsb_spearman")


def comparison(pair: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the template `compare.html.j2` shows of two runs, which have a `label` by now."""
    return {
        "pair": pair,
        "parameters": _parameters(pair),
        "metrics": _metrics(pair),
        "figures": _pictures(pair),
        "seconds": _difference(*(run.get("seconds") for run in pair), duration),
    }


def labels(pair: Sequence[Mapping[str, Any]]) -> list[str]:
    """A short name for each of two runs, by which a reader can tell them apart."""
    names = [run["name"] for run in pair]
    if names[0] == names[1] and pair[0]["notebook"] != pair[1]["notebook"]:
        names = [f"{run['notebook']}/{run['name']}" for run in pair]
    names = [name + " (failed)" * run["failed"] for name, run in zip(names, pair, strict=True)]
    if names[0] == names[1]:
        names = [f"{name} ({place})" for name, place in zip(names, ("first", "second"), strict=True)]
    return names


def _parameters(pair: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, bool]]:
    """Name, both values as Python writes them, and whether they differ, of each parameter."""
    values = [
        {name: repr(list(value) if isinstance(value, tuple) else value) for name, value, _ in run["values"]}
        for run in pair
    ]
    names = dict.fromkeys(name for run in values for name in run)
    rows = [(name, *(run.get(name, "–") for run in values)) for name in names]
    return [(name, left, right, left != right) for name, left, right in rows]


def _metrics(pair: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any, Any, str]]:
    """Name, both values and their difference of each metric; those that headline a report come first."""
    known = dict.fromkeys(str(name) for run in pair for name in run["metrics"])
    names = sorted(known, key=lambda name: HEADLINE.index(name) if name in HEADLINE else len(HEADLINE))
    rows = [(name, *(run["metrics"].get(name) for run in pair)) for name in names]
    return [(name, left, right, _difference(left, right, _small)) for name, left, right in rows]


def _pictures(pair: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[dict[str, str] | None]]]:
    """File name, and the figure of each run or None, for each PNG file of `figures/`."""
    found = [figures_of(run) for run in pair]
    return [(name, [figures.get(name) for figures in found]) for name in sorted({*found[0], *found[1]})]


def _difference(left: Any, right: Any, shown: Callable[[Any], str]) -> str:
    """The second number less the first, with its sign; nothing where one of them is no number."""
    if not (is_number(left) and is_number(right)):
        return ""
    change = right - left
    sign = "+" if change > 0 else "−" if change < 0 else "±"
    return sign + shown(abs(change))


def _small(value: float) -> str:
    """A difference; one that three decimals would hide is shown with its power of ten."""
    return f"{value:.0e}" if 0 < value < 0.0005 else number(value)


def figures_of(run: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The pictures in a run's folder by file name, with the text alternative that the notebook gives the same one."""
    alts, figures = _alts(run["nb"]), {}
    for path in sorted((run["folder"] / "figures").glob("*.png")):
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if content.startswith(b"\x89PNG\r\n\x1a\n"):
                data = base64.b64encode(content).decode()
                figures[path.name] = {
                    "data": data,
                    "alt": alts.get(data) or f"{path.stem} of the run {run.get('label') or run['name']}",
                }
    return figures


def _alts(nb: Any) -> dict[str, str]:
    """The text alternative of each PNG output, by its base64 text."""
    alts = {}
    for cell in nb.cells:
        for output in cell.get("outputs", ()):
            if isinstance(data := output.get("data", {}).get("image/png"), str):
                alts["".join(data.split())] = described(cell, output, "image/png")
    return alts


def described(cell: Any, output: Any, kind: str) -> str:
    """What the output, else its cell, says of a picture; empty where neither says anything."""
    details = output.metadata.get(kind)
    return str((details.get("alt") if isinstance(details, dict) else None) or cell.metadata.get("alt") or "")


def is_number(value: Any) -> bool:
    """Whether it is a finite number and no truth value."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number with more than 308 digits
        return False


def number(value: Any) -> str:
    """A metric as a page shows it: three decimals, or thousands apart; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if is_number(value) else str(value)


def duration(seconds: Any) -> str:
    """Seconds as a person says them, or nothing where it is no number."""
    if not is_number(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def when(started: Any) -> str:
    """A date in ISO form, to the minute."""
    try:
        return f"{datetime.fromisoformat(str(started)):%Y-%m-%d %H:%M %Z}".strip()
    except ValueError:
        return str(started)
