"""How sure a test set can be: bootstrap intervals, paired tests between models, and what they mean in words.

Taught in ``05_evaluation_plots``. All functions take plain arrays or a predictions table (:mod:`helpers.evaluation`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from helpers import evaluation

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05  # a difference with a smaller p-value is called more than chance
MARGIN = 0.01  # models this close to the best on validation rows count as equally good


def resamples(targets: np.ndarray, repeats: int, seed: int) -> Iterator[np.ndarray]:
    """Rows drawn with replacement within each class, so that every resample has the same classes (Efron 1979).

    Yields:
        Blocks (some, n) of row numbers, together ``repeats`` lines of them.
    """
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(targets == c) for c in np.unique(targets)]
    block = max(1, 2_000_000 // max(len(targets), int(targets.max() + 1) ** 2))
    for start in range(0, repeats, block):
        size = min(block, repeats - start)
        yield np.concatenate([g[rng.integers(0, len(g), (size, len(g)))] for g in groups], axis=1)


def intervals(targets: np.ndarray, probabilities: np.ndarray, repeats: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The usual metrics with 95 % percentile bootstrap intervals.

    An interval says how much other test texts of the same classes might change the value; the trained model stays as
    it is. Where a metric is at its limit in every resample, as with no mistakes at all, it has no width.

    Args:
        targets: (n,) class indices.
        probabilities: (n, classes), rows summing to 1.
        repeats, seed: of :func:`resamples`.

    Returns:
        Metric as index, columns ``value``, ``low``, ``high``. ``accuracy``, ``macro_f1``, ``weighted_f1`` and
        ``balanced_accuracy`` are in [0, 1], ``mcc`` (Matthews) in [-1, 1]; ``log_loss`` is in nats; ``brier`` is the
        squared distance to the truth over all classes, in [0, 2].
    """
    import pandas as pd

    everything = np.arange(len(targets))[None]
    value = {name: v[0] for name, v in evaluation.scores(targets, probabilities, everything).items()}
    blocks = [evaluation.scores(targets, probabilities, rows) for rows in resamples(targets, repeats, seed)]
    drawn = {name: np.concatenate([block[name] for block in blocks]) for name in value}
    ends = {name: np.quantile(v, [0.025, 0.975]) for name, v in drawn.items()}
    rows = [(name, value[name], *ends[name]) for name in value]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high"]).set_index("metric")


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Exact McNemar test (1947): could two classifiers that disagree so often in favour of one be equally good?

    Only rows where exactly one is right count. If both were equally good, each would be the right one with
    probability 1/2, as a coin.

    Args:
        right_a, right_b: (n,) bool, whether each is right on the same rows.

    Returns:
        The two-sided p-value.
    """
    from scipy.stats import binomtest

    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def paired_interval(targets: np.ndarray, right_a: np.ndarray, right_b: np.ndarray) -> tuple[float, float]:
    """The 95 % paired bootstrap interval of accuracy of a minus accuracy of b, on the same resampled rows."""
    gaps = right_a.astype(np.int8) - right_b.astype(np.int8)
    drawn = np.concatenate([gaps[rows].mean(axis=1) for rows in resamples(targets, 1000, 0)])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Every two models of a predictions table on its test rows.

    Args:
        table: predictions of two or more models on the same rows.

    Returns:
        One row a pair, ``better`` and ``worse`` by test accuracy: ``difference`` with ``low`` and ``high`` of the
        paired bootstrap, not corrected; ``only_better`` and ``only_worse`` (rows that only one gets right); ``p`` of
        McNemar, ``p_holm`` corrected for the number of pairs (Holm 1979), and ``verdict`` in words.
    """
    import pandas as pd
    from statsmodels.stats.multitest import multipletests

    right, truth = right_by_model(table[table["split"] == "test"])
    order = sorted(right, key=lambda name: -right[name].mean())
    rows = []
    for a, b in combinations(order, 2):
        low, high = paired_interval(truth, right[a], right[b])
        only = int((right[a] & ~right[b]).sum()), int((~right[a] & right[b]).sum())
        gap = float(right[a].mean() - right[b].mean())
        rows.append((a, b, gap, low, high, *only, mcnemar(right[a], right[b])))
    names = ["better", "worse", "difference", "low", "high", "only_better", "only_worse", "p"]
    found = pd.DataFrame(rows, columns=names)
    found["p_holm"] = multipletests(found["p"], method="holm")[1] if len(found) else []
    found["verdict"] = [_verdict(row) for row in found.itertuples()]
    return found


def right_by_model(part: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """For one split of a predictions table: model to (n,) bool, right or not, in row order; and targets (n,)."""
    tables = {name: rows.sort_values("row") for name, rows in part.groupby("model", sort=False)}
    right = {name: (rows["label"] == rows["prediction"]).to_numpy() for name, rows in tables.items()}
    return right, evaluation.targets(next(iter(tables.values())))


def _verdict(row: object) -> str:
    points = f"{100 * row.difference:.1f} points"
    if row.difference == 0:
        return f"{row.better} and {row.worse} are right equally often"
    if row.p_holm < LEVEL:
        return f"{row.better} is better than {row.worse} by {points}: more than chance"
    return f"{row.better} is ahead of {row.worse} by {points}: that could be chance"


def against_guess(table: pd.DataFrame) -> pd.DataFrame:
    """Each model on the test rows against always answering the most frequent class.

    Returns:
        Model as index: ``accuracy``, ``guess`` (what the constant answer gets), ``p_holm`` of the paired test,
        ``beats`` (better, and more than chance).
    """
    import pandas as pd
    from statsmodels.stats.multitest import multipletests

    test = table[table["split"] == "test"]
    held_out = table[(table["split"] == "validation") & (table["model"] == table["model"].iloc[0])]
    right, truth = right_by_model(test)
    most = evaluation.label_names(table).index(held_out["label"].value_counts(sort=True).index[0])
    guess = truth == most
    found = pd.DataFrame({"accuracy": {m: r.mean() for m, r in right.items()}}).assign(guess=guess.mean())
    found["p_holm"] = multipletests([mcnemar(r, guess) for r in right.values()], method="holm")[1]
    found["beats"] = (found["accuracy"] > found["guess"]) & (found["p_holm"] < LEVEL)
    return found


@dataclass(frozen=True)
class Recommendation:
    """Which model to use.

    Attributes:
        model: its name, or ``""`` if no model beats a constant answer.
        sentences: why, how sure, and at what cost, in that order.
    """

    model: str
    sentences: list[str]


def recommend(table: pd.DataFrame, costs: pd.DataFrame) -> Recommendation:
    """The cheapest candidate within one point of the best on validation rows; test rows say how sure that is.

    Args:
        table: predictions of several models on validation and test rows.
        costs: model as index, ``train_seconds`` and ``texts_per_second_64``; may be empty.
    """
    names = evaluation.candidates(table)
    table = table[table["model"].isin(names)]
    guess = against_guess(table)
    if not guess["beats"].any():
        return Recommendation("", _no_model(guess))
    model = _choose(table, names, costs)
    cheaper = f" {names[0]} is no more than one point better there, and costs more." if model != names[0] else ""
    compared = pairs(table)
    own = compared[(compared["better"] == model) | (compared["worse"] == model)]
    first = f"Use {model}: it is right on {_share(table, model)}. It was chosen on validation texts.{cheaper}"
    words = [f"{verdict}." for verdict in own["verdict"]]
    return Recommendation(model, [first, _how_sure(own, model), *words, *_costs(model, costs)])


def _choose(table: pd.DataFrame, names: list[str], costs: pd.DataFrame) -> str:
    """The cheapest to train of those within the margin of the best on validation rows; the best if not measured."""
    right, _ = right_by_model(table[table["split"] == "validation"])
    seconds = costs["train_seconds"].dropna() if len(costs) else {}
    if names[0] not in seconds:
        return names[0]
    best = right[names[0]].mean()
    close = [name for name in names if best - right[name].mean() <= MARGIN + 1e-9]
    return min(close, key=lambda name: seconds.get(name, np.inf))


def _share(table: pd.DataFrame, model: str) -> str:
    from statsmodels.stats.proportion import proportion_confint

    test = table[(table["split"] == "test") & (table["model"] == model)]
    found = intervals(evaluation.targets(test), evaluation.probabilities(test)).loc["accuracy"]
    low, high = found.low, found.high
    if low == high:  # each class wholly right or wrong, so that all resamples are alike
        low, high = proportion_confint(round(found.value * len(test)), len(test), method="wilson")
    share = f"{100 * found.value:.1f} % of {len(test)} test texts"
    return f"{share} (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def _no_model(guess: pd.DataFrame) -> list[str]:
    best = guess["accuracy"].idxmax()
    return [
        "No model beats chance: none is better than always giving the most frequent answer by more than luck explains.",
        f"The best of them, {best}, is right on {guess.loc[best, 'accuracy']:.1%} of the test texts, "
        f"the constant answer on {guess.loc[best, 'guess']:.1%}.",
        "The labels may not depend on the texts, the texts may be too few to learn from or to judge by, or one class "
        "so frequent that accuracy hides the rest: look at the labels, then add texts.",
    ]


def _how_sure(own: pd.DataFrame, model: str) -> str:
    beaten = own[(own["worse"] == model) & (own["p_holm"] < LEVEL)]
    unsure = own[own["p_holm"] >= LEVEL]
    if len(beaten):
        return (
            f"The test texts contradict the choice: {beaten['better'].iloc[0]} is better on them by more than chance."
        )
    if len(unsure):
        others = [r.worse if r.better == model else r.better for r in unsure.itertuples()]
        return f"How sure: the test texts cannot tell it from {' and '.join(others)}; more test texts would."
    if not len(own):
        return "How sure: there is no other model to compare it with."
    return "How sure: on the test texts it is better than every other model by more than chance."


def _costs(model: str, costs: pd.DataFrame) -> list[str]:
    if model not in costs.index:
        return []
    row, speed = costs.loc[model], costs["texts_per_second_64"]
    said = f"Cost: {row['train_seconds']:.0f} s of training, {row['size_mb']:.0f} MB on disk"
    fastest = speed.idxmax()
    more = "no other model is faster" if fastest == model else f"{fastest} labels {speed[fastest]:,.0f} a second"
    return [f"{said}, {speed[model]:,.0f} texts a second in batches of 64; {more}."]
