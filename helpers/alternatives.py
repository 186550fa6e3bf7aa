"""What a figure shows, in words: titles, axes and the values drawn, read from the axes of any figure."""

import re
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes


def describe(ax: Axes) -> str:
    """Returns a figure in words: the title of each part, what its axes show, and the values drawn in it."""
    parts = [a for a in ax.figure.axes if a.get_title(loc="left")] or ax.figure.axes
    return "; ".join(said for part in parts for said in _part(part))


def _some(values: Iterable[str], most: int = 12) -> str:
    values = list(values)
    return ", ".join(values[:most]) + f" and {len(values) - most} more" * (len(values) > most)


def _part(a: Axes) -> Iterable[str]:
    title, axes = " ".join(a.get_title(loc="left").split()), " by ".join(filter(None, (a.get_ylabel(), a.get_xlabel())))
    yield f"{title} ({axes})" if axes else title
    rows = [label.get_text().replace(r"\$", "$") for label in a.get_yticklabels()]
    named = any(re.search(r"[^\d.,−%-]", row) for row in rows if "mathdefault" not in row)  # else powers of ten
    for bars in a.containers:
        if bars.orientation == "horizontal":
            yield "bars: " + _some(f"{row} {bar.get_width():.3g}" for row, bar in zip(rows, bars, strict=False))
        elif tallest := max(bars, key=lambda bar: bar.get_height(), default=None):
            middle = tallest.get_x() + tallest.get_width() / 2
            yield f"{len(bars)} bars, the tallest {tallest.get_height():.3g} at {middle:.3g}"
    for line in a.lines:
        (px, py), name = (np.asarray(v, float) for v in line.get_data(orig=False)), line.get_label().replace(r"\$", "$")
        if name.startswith("_") or not len(px):
            continue
        if line.get_markevery() == [1]:  # one of plots.intervals
            yield f"{name} {px[1]:.3g} ({px[0]:.3g} to {px[2]:.3g})"
        elif named and 1 < len(px) == len(rows):
            yield f"{name}: " + _some(f"{row} {value:.3g}" for row, value in zip(rows, px, strict=True))
        elif line.get_linestyle() == "None" and len(px) > 1:
            yield f"{name}: {len(px)} points, {py.min():.3g} to {py.max():.3g} at {px.min():.3g} to {px.max():.3g}"
        else:
            start = f"from {py[0]:.3g} at {px[0]:.3g} to " if len(px) > 1 else ""
            yield f"{name} {start}{py[-1]:.3g} at {px[-1]:.3g}"
    for drawn in [*a.collections, *a.images]:
        values = drawn.get_array()
        if values is not None and values.ndim == 2 and len(a.images) < 2:
            if named and len(values) == values.shape[1] == len(rows):
                yield "diagonal: " + _some(f"{row} {v:.2g}" for row, v in zip(rows, values.diagonal(), strict=True))
            else:
                yield f"{len(values)} by {values.shape[1]} values from {values.min():.3g} to {values.max():.3g}"
        elif values is None and drawn in a.collections and len(points := drawn.get_offsets()) > 1:
            yield "points: " + _some(f"{v:.3g} at {u:.3g}" for u, v in np.asarray(points))
    if len(a.images) > 1:
        yield f"{len(a.images)} pictures: " + _some(t.get_text() for t in a.texts if t.get_text())
    labels = [" ".join(re.sub(r"#\w*", "", str(patch.get_label())).split()) for patch in a.patches]
    if arrows := [label for label in labels if " -> " in label]:
        yield _some(arrows, 30)
