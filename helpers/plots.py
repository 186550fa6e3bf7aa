"""Every figure of the notebooks: one style, one width, a palette told apart in grey, Chinese labels.

Functions take data and an optional ``ax`` and return the ``ax``; no global state changes. :func:`show` displays the
figure with a text alternative that gives its values. Titles say what is to be seen and are computed by the caller.
"""

import base64
import dataclasses
import functools
import io
import textwrap
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import IPython.display
import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch
from PIL import Image

from helpers.alternatives import describe

SIZES = {"small": (7.2, 3.3), "medium": (7.2, 4.2), "large": (7.2, 5.6)}  # inches: one width
PALETTE = ("#1f4e79", "#e07b1f", "#2a8c6e", "#a3246b", "#b5473a", "#5aa6d8", "#5b3a8c", "#777777", "#3f7d20", "#111111")
DPI, COLOURS, SHADES = 200, 40, 128  # fewer would paint small marks in another one, or a scale in steps


@functools.cache
def cjk_font() -> str:
    """Returns the name of the font with Chinese characters that the package zhplot brings."""
    fonts = font_manager.fontManager
    fonts.addfont(Path(find_spec("zhplot").origin).with_name("fonts") / "NotoSansSC-Regular.ttf")
    fonts.ttflist.append(dataclasses.replace(fonts.ttflist[-1], weight=700))  # else bold titles bring warnings
    return fonts.ttflist[-1].name


def style() -> dict[str, Any]:
    """Returns the house style as rcParams, with a font that has Chinese characters."""
    return {
        "axes.axisbelow": True, "axes.grid": True, "axes.prop_cycle": cycler(color=PALETTE), "axes.spines.right": False,
        "axes.spines.top": False, "axes.titlelocation": "left", "axes.titlesize": 11, "axes.titleweight": "bold",
        "axes.unicode_minus": False, "figure.constrained_layout.use": True, "font.size": 9.5,
        "font.family": ["DejaVu Sans", cjk_font()], "grid.alpha": 0.35, "grid.linewidth": 0.6,
        "legend.fontsize": 9, "legend.frameon": False, "lines.linewidth": 1.8,
    }  # fmt: skip


def styled(function: Callable[..., Axes]) -> Callable[..., Axes]:
    """Draws within the house style; makes a figure of the keyword ``size`` where no ``ax`` is given."""

    @functools.wraps(function)
    def wrapper(*args: Any, ax: Axes | None = None, size: str = "medium", **kwargs: Any) -> Axes:
        with mpl.rc_context(style()):
            return function(*args, ax=new_axes(size) if ax is None else ax, **kwargs)

    return wrapper


def new_axes(size: str = "medium", rows: int = 1, columns: int = 1) -> Any:
    """Returns axes of a new figure in the house style, one or an array; pyplot does not keep the figure."""
    with mpl.rc_context(style()):
        return Figure(figsize=SIZES[size], layout="constrained").subplots(rows, columns)


def to_png(ax: Axes) -> bytes:
    """Returns the figure of ``ax`` as PNG, 200 dots an inch in 40 colours, or 128 of a scale; long titles wrap."""
    drawn, small = io.BytesIO(), io.BytesIO()
    with mpl.rc_context(style()):
        titles = {part: title for part in ax.figure.axes if (title := part.get_title(loc="left"))}
        for part in titles:
            part.set_title("", loc="left")
        ax.figure.draw_without_rendering()  # so that it is known where the axes, and with them the titles, begin
        begins = [part.get_position().x0 for part in titles]
        for (part, title), left in zip(titles.items(), begins, strict=True):
            room = min([x for x in begins if x > left + 0.1], default=1) - left - 0.03
            wide = sum(ord(letter) > 0x2E80 for letter in title) / len(title) + 1
            most = int(ax.figure.get_figwidth() * room / 0.092 / wide)
            if len(title) > most:
                title = textwrap.fill(" ".join(title.split()), most, break_long_words=wide > 1.3)
            part.set_title(title, loc="left", parse_math=False)
        ax.figure.savefig(drawn, format="png", dpi=DPI, facecolor="white")
    wide = any(line.get_alpha() and line.get_linewidth() > 3 for part in ax.figure.axes for line in part.lines)
    many = wide or any(part.images or part.collections for part in ax.figure.axes)
    picture = Image.open(drawn).convert("RGB").quantize(SHADES if many else COLOURS, dither=Image.Dither.NONE)
    picture.save(small, "PNG", optimize=True)
    return small.getvalue()


def show(ax: Axes, alt: str = "") -> bytes:
    """Displays the figure of ``ax``; its text alternative is ``alt``, else the values in it. Returns the PNG."""
    png, width = to_png(ax), round(96 * ax.figure.get_figwidth())
    titles = "; ".join(" ".join(a.get_title(loc="left").split()) for a in ax.figure.axes if a.get_title(loc="left"))
    data = {"image/png": base64.b64encode(png).decode(), "text/plain": f"<figure: {alt or titles}>"}
    IPython.display.display(data, raw=True, metadata={"image/png": {"alt": alt or describe(ax), "width": width}})
    return png


def _legend(ax: Axes) -> None:
    """Names right of the axes, in the order in which the lines end and in their colours."""
    lines, _ = ax.get_legend_handles_labels()
    lines.sort(key=lambda line: np.asarray(line.get_ydata(), float)[-1:].max(initial=-np.inf), reverse=True)
    ax.legend(handles=lines, loc="center left", bbox_to_anchor=(1.0, 0.5), labelcolor="linecolor")


@styled
def bars(values: pd.Series, title: str, xlabel: str, ax: Axes, decimals: int = 2, highlight: str = "") -> Axes:
    """Horizontal bars, one for each entry of ``values``, with the value written beside; ``highlight`` names one bar."""
    names = [str(name).replace("$", r"\$") for name in values.index]  # else a formula, or an error
    ax.barh(names, values.to_numpy(), color=[PALETTE[int(str(name) == highlight)] for name in values.index])
    for place, value in enumerate(values):
        ax.text(value, place, f" {value:.{decimals}f}", va="center")
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.grid(axis="y", visible=False)
    ax.set(title=title, xlabel=xlabel)
    return ax


@styled
def intervals(table: pd.DataFrame, title: str, xlabel: str, ax: Axes, highlight: str = "") -> Axes:
    """A dot with its interval for each row: columns ``value``, ``low``, ``high``; ``highlight`` names one row."""
    for place, (name, row) in enumerate(table.iterrows()):
        colour = PALETTE[1] if name == highlight else PALETTE[0]
        points, look = [row["low"], row["value"], row["high"]], {"markersize": 6, "markevery": [1], "label": str(name)}
        ax.plot(points, [place] * 3, "o-", color=colour, **look)
        ax.text(row["high"], place, f"  {row['value']:.3f}", va="center")
    ax.set_yticks(range(len(table)), [str(name) for name in table.index])
    ax.invert_yaxis()
    ax.margins(x=0.15, y=0.12)
    ax.set(title=title, xlabel=xlabel)
    return ax


@styled
def histogram(values: Sequence[float], title: str, xlabel: str, ax: Axes, ylabel: str = "texts") -> Axes:
    """Draws a histogram of ``values`` in 30 bins; of fewer than 60 equal steps, such as counts, each has its bar."""
    low, high = np.min(values), np.max(values)
    steps = (high - low) / np.diff(np.unique(np.asarray(values, float))).min(initial=np.inf)
    half = (high - low) / steps / 2 if 0 < steps < 60 else 0
    ax.hist(values, bins=round(steps) + 1 if steps < 60 else 30, range=(low - half, high + half), color=PALETTE[0])
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return ax


@styled
def learning_curves(
    history: pd.DataFrame, title: str, ax: Axes, metric: str = "accuracy", chance: float | None = None
) -> Axes:
    """Training (dashed) and validation (solid) ``metric`` by epoch, a colour for each model; ``chance`` is dotted.

    ``history`` has the columns ``model, epoch, <metric>, val_<metric>``, the metric being ``"accuracy"`` or ``"loss"``.
    """
    for colour, (model, part) in zip(PALETTE * 3, history.groupby("model", sort=False), strict=False):
        ax.plot(part["epoch"], part[f"val_{metric}"], color=colour, marker="o", markersize=3, label=model)
        ax.plot(part["epoch"], part[metric], color=colour, linestyle="--", marker=".", alpha=0.6)
    if chance is not None:
        ax.axhline(chance, color="0.4", linestyle=":", linewidth=1.2, label="chance")
    ax.plot([], [], color="0.3", label="validation")
    ax.plot([], [], color="0.3", linestyle="--", label="training")
    _legend(ax)
    ax.set(title=title, xlabel="epoch", ylabel=metric if metric != "loss" else "loss (nats)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


@styled
def confusion(matrix: np.ndarray, labels: Sequence[str], title: str, ax: Axes, totals: Any = None) -> Axes:
    """Counts (classes, classes), rows the true class, colour its share (of ``totals``, if given); up to 20 numbered."""
    import seaborn as sns

    shares = matrix / np.maximum(matrix.sum(axis=1) if totals is None else totals, 1)[:, None]
    few, ticks = len(labels) <= 20, [name.replace("$", r"\$") for name in labels]
    names = dict.fromkeys(("xticklabels", "yticklabels"), ticks if few else "auto") | {"annot_kws": {"size": 9}}
    look = {"cmap": "Blues", "vmin": 0, "vmax": 1, "cbar_kws": {"label": "share of the true class"}, "ax": ax}
    sns.heatmap(pd.DataFrame(shares, ticks, ticks), annot=matrix if few else False, fmt="d", **look, **names)
    ax.set(title=title, xlabel="predicted class", ylabel="true class")
    ax.tick_params(axis="x", rotation=45)
    ax.tick_params(axis="y", rotation=0)
    return ax


@styled
def curves(lines: dict[str, tuple[np.ndarray, np.ndarray]], title: str, xlabel: str, ylabel: str, ax: Axes,
           diagonal: bool = False, highlight: str = "", marker: str = "") -> Axes:  # fmt: skip
    """Lines of (x, y) by name; ``highlight`` names a thick one, ``diagonal`` adds the line of a guess."""
    if diagonal:
        ax.plot([0, 1], [0, 1], color="0.5", linestyle=":", linewidth=1.2)
    for colour, (name, (x, y)) in zip(PALETTE * 10, lines.items(), strict=False):
        dash = ("-", "--", "-.", ":")[PALETTE.index(colour) // 3]
        look = {"color": colour, "linestyle": dash, "linewidth": 1.5, "zorder": 2}
        thick = {"color": "black", "linewidth": 2.6, "zorder": 3}
        ax.plot(x, y, marker=marker, label=name.replace("$", r"\$"), **thick if name == highlight else look)
    if len(lines) <= 12:
        _legend(ax)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return ax


@styled
def reliability(bins: pd.DataFrame, title: str, ax: Axes) -> Axes:
    """Accuracy against confidence (columns ``confidence``, ``accuracy``, ``texts``); the diagonal is calibrated."""
    ax.plot([0, 1], [0, 1], color="0.5", linestyle=":", linewidth=1.2)
    ax.vlines(bins["confidence"], bins["confidence"], bins["accuracy"], color=PALETTE[3], alpha=0.5)
    sizes = 20 + 280 * bins["texts"] / bins["texts"].sum()
    ax.scatter(bins["confidence"], bins["accuracy"], s=sizes, color=PALETTE[0], zorder=3)
    names = {"xlabel": "confidence (mean of the bin)", "ylabel": "accuracy (share right)"}
    ax.set(title=title, **names, xlim=(0, 1.02), ylim=(0, 1.02))
    return ax


@styled
def scatter(groups: dict[str, tuple[np.ndarray, np.ndarray]], title: str, xlabel: str, ylabel: str, ax: Axes) -> Axes:
    """Points (x, y) by name of their group, each group with a colour and a marker of its own."""
    for i, (name, (x, y)) in enumerate(groups.items()):
        ax.plot(x, y, "o^sDvPX"[i % 7], color=PALETTE[i % len(PALETTE)], label=name, markersize=5, alpha=0.8)
    _legend(ax)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return ax


@styled
def images(
    pictures: np.ndarray, captions: Sequence[str], title: str, ax: Axes, columns: int = 10, signed: bool = False
) -> Axes:
    """Small grey pictures (n, height, width), each with its own range from light to dark, a caption over each.

    ``columns`` stand in a row; ``signed`` draws negative values blue and positive ones red, white in the middle.
    """
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = i % columns, -1.3 * (i // columns)
        high = np.abs(picture).max() if signed else picture.max()
        ax.imshow(picture, cmap="RdBu_r" if signed else "Greys", vmin=-high if signed else picture.min(), vmax=high,
                  extent=(left + 0.04, left + 0.96, top - 0.92, top), interpolation="nearest")  # fmt: skip
        ax.text(left + 0.5, top + 0.03, caption, ha="center", va="bottom", fontsize=9)
    rows = -(-len(pictures) // columns)
    ax.set(title=title, xlim=(0, min(columns, max(len(pictures), 1))), ylim=(0.3 - 1.3 * rows, 0.35))
    ax.set_axis_off()
    return ax


KINDS = {
    "plain": ("white", "-", "black"), "frozen": ("#e4e7eb", "--", "black"), "trained": ("#a9d2ee", "-", "black"),
    "new": ("#1f4e79", "-", "white"), "op": ("#fff3d6", "-", "black"), "text": ("none", "-", "black"),
}  # fmt: skip
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}


def diagram(boxes: dict[str, tuple], arrows: Sequence[tuple], title: str = "", height: float = 0.8) -> Axes:
    """Draws a computation graph, an architecture or a pipeline: boxes on a grid, joined by arrows.

    ``boxes`` gives each name ``(column, row)`` and maybe a kind, one of KINDS, and how many columns wide; row 0 is at
    the top, fractions are fine. The name is what is written; a part from ``#`` on is not, so that ``"×#2"`` is a second
    circle ``×``. ``arrows`` are ``(from, to)`` and maybe a label and a bend such as .3; a row takes ``height`` inches.
    """
    boxes = {name: (*box, *("plain", 1)[len(box) - 2 :])[:4] for name, box in boxes.items()}
    left, right = (f(x + s * w / 2 for x, _, _, w in boxes.values()) for f, s in ((min, -1), (max, 1)))
    rows = [y for _, y, _, _ in boxes.values()]
    unit, patches = SIZES["medium"][0] / (right - left), {}
    at = {name: ((x - left) * unit, (min(rows) - y) * height) for name, (x, y, _, _) in boxes.items()}  # inches
    with mpl.rc_context(style()):
        ax = new_axes()
        ax.figure.set_size_inches(SIZES["medium"][0], (np.ptp(rows) + 1) * height + 0.55)
        for name, (_, _, kind, width) in boxes.items():
            (x, y), (fill, line, ink), label = at[name], KINDS[kind], name.partition("#")[0]
            w, h = (width - 0.22) * unit, 0.62 * height
            if kind == "text":
                w = min(w, 0.09 * max(map(len, label.split("\n"))) + 0.1)
            box = FancyBboxPatch((x - w / 2, y - h / 2), w, h, "round,pad=0,rounding_size=0.08")
            patches[name] = ax.add_patch(box if kind != "op" else Ellipse((x, y), h * 0.8, h * 0.8))
            edge = "none" if kind == "text" else "#333333"
            patches[name].set(facecolor=fill, edgecolor=edge, linestyle=line, label=kind, zorder=2)
            ax.text(x, y, label, ha="center", va="center", color=ink, zorder=4)
        for start, end, label, bend in ((*arrow, *("", 0)[len(arrow) - 2 :]) for arrow in arrows):
            (x, y), (u, v) = at[start], at[end]
            ends = {"patchA": patches[start], "patchB": patches[end], "shrinkA": 1, "shrinkB": 1, "mutation_scale": 11}
            arrow = FancyArrowPatch((x, y), (u, v), arrowstyle="-|>", connectionstyle=f"arc3,rad={bend}", **ends)
            ax.add_patch(arrow).set(color="#333333", label=f"{start} -> {end}: {label}".rstrip(": "), zorder=3)
            level = y == v  # then the label stands over the arrow, and over the boxes where space is short
            lift = (0.35 * height if abs(u - x) <= 1.2 * unit else 0.03) * level
            place = (x + u) / 2 + bend * (v - y) / 2, (y + v) / 2 - bend * (u - x) / 2 + lift
            look = {"va": "bottom"} if level else {"va": "center", "bbox": BEHIND if label else None}
            ax.text(*place, label, ha="center", fontsize=9, zorder=3, **look)
        learned = {box[2]: patches[name] for name, box in boxes.items() if box[2] in ("frozen", "trained", "new")}
        if learned:
            ax.legend(learned.values(), learned, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, fontsize=9)
        low = (-np.ptp(rows) - 0.4) * height
        ax.set(title=title, xlim=(0, (right - left) * unit), ylim=(low, 0.55 * height), aspect="equal")
        ax.set_axis_off()
    return ax
