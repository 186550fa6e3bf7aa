"""Figures: Chinese labels render, nothing global changes, alternatives are there."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from helpers import plots


def bins():
    return pd.DataFrame({"confidence": [0.3, 0.9], "accuracy": [0.2, 0.8], "texts": [5, 9]})


HISTORY = pd.DataFrame({"model": "模型", "epoch": [1, 2], "accuracy": [0.2, 0.4], "val_accuracy": [0.2, 0.3]})
CLASSES = pd.DataFrame({"precision": [0.5, 1], "recall": [0.2, 0.4], "f1": [0.3, 0.6]}, index=["体育", "财经"])
FIGURES = {
    "bars": lambda: plots.bars(pd.Series({"基线": 0.5, "b": 0.7}), "标题", "accuracy", highlight="b"),
    "histogram": lambda: plots.histogram([1, 2, 2, 5], "标题", "字"),
    "learning_curves": lambda: plots.learning_curves(HISTORY, "标题", chance=0.1),
    "confusion": lambda: plots.confusion(np.array([[3, 1], [0, 2]]), ["体育", "财经"], "标题"),
    "many classes": lambda: plots.confusion(np.eye(40, dtype=int), [f"c{i}" for i in range(40)], "标题"),
    "curves": lambda: plots.curves({"a": (np.arange(3), np.arange(3))}, "标题", "x", "y", diagonal=True),
    "per_class": lambda: plots.per_class(CLASSES, "标题"),
    "reliability": lambda: plots.reliability(bins(), "标题", size="small"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_render_chinese_and_change_nothing(name, recwarn, caplog):
    before = dict(mpl.rcParams)
    ax = FIGURES[name]()
    png = plots.to_png(ax)
    assert png.startswith(b"\x89PNG") and len(png) > 2000
    assert dict(mpl.rcParams) == before
    assert not [w for w in recwarn if "lyph" in str(w.message)]
    assert "findfont" not in caplog.text


def test_a_font_with_chinese_is_found():
    assert plots.cjk_font() is not None


def test_the_alternative_travels_with_the_figure(monkeypatch):
    shown = {}
    monkeypatch.setattr("IPython.display.display", lambda data, **kwargs: shown.update(kwargs, data=data))
    plots.show(FIGURES["bars"](), "two bars")
    assert shown["metadata"] == {"image/png": {"alt": "two bars"}}
    assert shown["data"]["text/plain"] == "<figure: two bars>"


def test_given_axes_are_used():
    ax = plots.new_axes("small")
    assert plots.bars(pd.Series({"a": 1.0}), "t", "x", ax=ax) is ax
