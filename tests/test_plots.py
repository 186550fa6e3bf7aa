"""Figures: Chinese labels render, nothing global changes, alternatives are there."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from helpers import plots

BINS = pd.DataFrame({"confidence": [0.3, 0.9], "accuracy": [0.2, 0.8], "texts": [5, 9]})
SHARE = pd.DataFrame({"value": 0.5, "low": 0.4, "high": 0.6}, index=["bert", "a", "b"])
HISTORY = pd.DataFrame({"model": "模型", "epoch": [1, 2], "accuracy": [0.2, 0.4], "val_accuracy": [0.2, 0.3]})
FIGURES = {  # and what their alternative tells
    "bars": (lambda: plots.bars(pd.Series({"基线 $_$": 0.5, "b": 0.7}), "标题 $_$", "accuracy", highlight="b"),
             "标题 $_$ (accuracy); bars: 基线 $_$ 0.5, b 0.7"),
    "numbered bars": (lambda: plots.bars(pd.Series({"0": 3, "1": 5}), "标题", "x"), "bars: 0 3, 1 5"),
    "histogram": (lambda: plots.histogram([1, 2, 2, 5], "标题", "字"), "5 bars, the tallest 2 at 2"),
    "flat": (lambda: plots.curves({"$_$": ([1, 2, 3], [0, 0, 0])}, "标题", "x", "y"), "$_$ from 0 at 1 to 0 at 3"),
    "learning_curves": (lambda: plots.learning_curves(HISTORY, "标题", chance=0.1), "from 0.2 at 1 to 0.3 at 2"),
    "confusion": (lambda: plots.confusion(np.array([[3, 1], [0, 2]]), ["体育", "财$_$"], "标题"), "体育 0.75, 财$_$ 1"),
    "many classes": (lambda: plots.confusion(np.eye(40, dtype=int), [f"c{i}" for i in range(40)], "标题"),
                     "40 by 40 values from 0 to 1"),
    "curves": (lambda: plots.curves({"a": (np.arange(3), np.arange(3))}, "标题", "x", "y", diagonal=True), "to 2 at 2"),
    "intervals": (lambda: plots.intervals(SHARE, "标题", "x"), "bert 0.5 (0.4 to 0.6)"),
    "scatter": (lambda: plots.scatter({"a": ([1], [2])}, "标题", "x", "y"), "a 2 at 1"),
    "images": (lambda: plots.images(np.eye(4)[None], ["七"], "标题", columns=1), "4 by 4 values from 0 to 1"),
    "diagram": (lambda: plots.diagram({"a": (0, 0), "×#2": (1, 0, "op")}, [("a", "×#2", "f")], "标题"), "a -> ×: f"),
    "reliability": (lambda: plots.reliability(BINS, "标题", size="small"), "0.2 at 0.3, 0.8 at 0.9"),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_figures_render_chinese_tell_their_values_and_change_nothing(name, recwarn, caplog):
    before, (draw, told) = dict(mpl.rcParams), FIGURES[name]
    ax = draw()
    assert told in plots.describe(ax)
    png = plots.to_png(ax)
    assert png.startswith(b"\x89PNG") and len(png) > 2000
    assert dict(mpl.rcParams) == before
    assert not [w for w in recwarn if "lyph" in str(w.message)]
    assert "findfont" not in caplog.text


@pytest.mark.parametrize("label", ["a", "a label that is long, as of a text"])
@pytest.mark.parametrize("title", ["a title that is much too long " * 4, "标题太长title" * 12])
def test_a_title_keeps_to_its_axes(label, title):
    axes = plots.new_axes("medium", 1, 2)
    for ax in axes:
        plots.bars(pd.Series({label: 1.0, "b": 2.0}), title, "x", ax=ax)
    plots.to_png(axes[0])
    axes[0].figure.draw_without_rendering()
    one, two = (next(t for t in ax.get_children() if "title" in getattr(t, "_text", "")) for ax in axes)
    assert one.get_window_extent().x1 < two.get_window_extent().x0 < two.get_window_extent().x1
    assert two.get_window_extent().x1 <= axes[0].figure.bbox.x1


def test_the_alternative_travels_with_the_figure(monkeypatch):
    shown = {}
    monkeypatch.setattr("IPython.display.display", lambda data, **kwargs: shown.update(kwargs, data=data))
    plots.show(FIGURES["bars"][0](), "two bars")
    assert shown["metadata"] == {"image/png": {"alt": "two bars", "width": 691}}
    assert shown["data"]["text/plain"] == "<figure: two bars>"


def test_the_palette_is_told_apart_in_grey_and_seen_on_white():
    rgb = np.array([mpl.colors.to_rgb(colour) for colour in plots.PALETTE])
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    assert (1.05 / (light + 0.05)).min() > 2.5
    first = np.sort(116 * np.cbrt(light[:5]) - 16)
    assert np.diff(first).min() > 5
