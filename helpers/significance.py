"""How sure a test set can be: bootstrap intervals, paired tests between models, and what they mean in words.

Taught in ``05_evaluation_plots``. Everything here asks one question: what if other test texts of the same kind and
class sizes had been drawn? Another training run, another split or other kinds of texts may change more.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from helpers import evaluation

LEVEL = 0.05  # the test texts settle a difference whose corrected p-value is smaller
MARGIN, NEAR = 0.01, 0.03  # on validation rows: models as good as the best; models that do almost as well
RARE = 10  # classes of fewer test texts are drawn together: within one or two rows nothing can vary
QUICK = 10  # seconds of training that nobody minds: which of two such models took longer is chance


def resamples(targets: np.ndarray, repeats: int, seed: int) -> Iterator[np.ndarray]:
    """Yields blocks (some, n) of row numbers, ``repeats`` lines in all, drawn with replacement within each class.

    So classes keep their sizes (Efron 1979); how often a class occurs is not part of the uncertainty. Those of fewer
    than RARE rows are drawn together, as if they were one, and keep only their sum. Of 20,000 rows on, a fifth as many.
    """
    rng = np.random.default_rng(seed)
    drawn = np.where(np.bincount(targets)[targets] < RARE, -1, targets)
    groups = [np.flatnonzero(drawn == c) for c in np.unique(drawn)]
    repeats //= 1 if len(targets) < 20_000 else 5
    block = max(1, 2_000_000 // max(len(targets), int(targets.max() + 1) ** 2))
    for start in range(0, repeats, block):
        size = min(block, repeats - start)
        yield np.concatenate([g[rng.integers(0, len(g), (size, len(g)))] for g in groups], axis=1)


def intervals(targets: np.ndarray, probabilities: np.ndarray, repeats: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Returns ``value``, ``low`` and ``high`` of metrics: 95 % percentile bootstrap intervals over the resamples.

    ``accuracy``, ``macro_f1``, ``weighted_f1`` and ``balanced_accuracy`` are in [0, 1], ``mcc`` (Matthews) in [-1, 1];
    ``log_loss`` is in nats; ``brier`` is the squared distance to the truth over all classes, in [0, 2]. Where all
    resamples are alike, as with no mistakes at all, accuracy has Wilson's interval and the others none (NaN).
    """
    value = evaluation.scores(targets, probabilities, np.arange(len(targets))[None])
    blocks = [evaluation.scores(targets, probabilities, rows) for rows in resamples(targets, repeats, seed)]
    ends = {name: np.quantile(np.concatenate([b[name] for b in blocks]), [0.025, 0.975]) for name in value}
    rows = [(name, value[name][0], *ends[name]) for name in value]
    found = pd.DataFrame(rows, columns=["metric", "value", "low", "high"]).set_index("metric")
    found.loc[found["low"] == found["high"], ["low", "high"]] = np.nan
    if np.isnan(found.loc["accuracy", "low"]):
        right = int((probabilities.argmax(axis=1) == targets).sum())
        found.loc["accuracy", ["low", "high"]] = [*binomtest(right, len(targets)).proportion_ci(method="wilson")]
    return found


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Returns the two-sided p-value of the exact McNemar test (1947) of two (n,) bool, right or not on the same rows.

    Only rows where exactly one is right count: were both equally good, each would be that one as often as a coin says.
    """
    only_a, only = int((right_a & ~right_b).sum()), int((right_a ^ right_b).sum())
    return float(binomtest(only_a, only).pvalue) if only else 1.0


def paired_interval(targets: np.ndarray, right_a: np.ndarray, right_b: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of accuracy of a minus accuracy of b, both on the same resampled rows.

    Where all gaps of a class are alike, resamples within the classes would be too: then they are drawn from all rows.
    """
    gaps = right_a.astype(np.int8) - right_b.astype(np.int8)
    varies = pd.Series(gaps).groupby(targets).nunique().max() > 1
    blocks = resamples(targets if varies else np.zeros_like(targets), 1000, 0)
    return tuple(np.quantile(np.concatenate([gaps[rows].mean(axis=1) for rows in blocks]), [0.025, 0.975]).tolist())


def pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Compares every two models of a predictions table on its test rows, ``better`` and ``worse`` by accuracy.

    ``difference`` comes with ``low`` and ``high`` of the paired bootstrap, not corrected; ``only_better`` and
    ``only_worse`` are rows that only one gets right; ``p`` is McNemar's, ``p_holm`` is corrected for the number of
    pairs (Holm 1979), and ``verdict`` says it in words.
    """
    right, truth = right_by_model(table[table["split"] == "test"])
    columns, rows = ["better", "worse", "low", "high", "only_better", "only_worse", "p"], []
    for a, b in combinations(sorted(right, key=lambda name: -right[name].mean()), 2):
        only = int((right[a] & ~right[b]).sum()), int((~right[a] & right[b]).sum())
        rows.append((a, b, *paired_interval(truth, right[a], right[b]), *only, mcnemar(right[a], right[b])))
    found = pd.DataFrame(rows, columns=columns)
    found.insert(2, "difference", (found["only_better"] - found["only_worse"]) / len(truth))
    found["p_holm"] = multipletests(found["p"], method="holm")[1] if rows else found["p"]  # statsmodels before 0.15
    return found.assign(verdict=[_verdict(row) for row in found.itertuples()])


def right_by_model(part: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns, for one split of a predictions table, model to (n,) bool (right or not, in row order), and targets."""
    tables = {name: rows.sort_values("row") for name, rows in part.groupby("model", sort=False)}
    right = {name: (rows["label"] == rows["prediction"]).to_numpy() for name, rows in tables.items()}
    return right, evaluation.targets(next(iter(tables.values())))


def p_value(p: float) -> str:
    """Returns a p-value as it is printed.

    Examples:
        >>> p_value(0.0004), p_value(0.034), p_value(0.52)
        ('p < .001', 'p = .034', 'p = .52')
    """
    if p < 0.001:
        return "p < .001"
    return "p = 1" if p == 1 else f"p = {p:.{2 if p >= 0.1 else 3}f}".replace("0.", ".")


def _verdict(row: object) -> str:
    if row.difference == 0:
        return f"{row.better} and {row.worse} are right equally often"
    sure = f"95 % interval {100 * row.low:+.1f} to {100 * row.high:+.1f}; for all pairs together {p_value(row.p_holm)}"
    told, open_ = ("better than", "") if row.p_holm < LEVEL else ("ahead of", ", which these test texts do not settle")
    return f"{row.better} is {told} {row.worse} by {100 * row.difference:.1f} points{open_} ({sure})"


def against_guess(table: pd.DataFrame) -> pd.DataFrame:
    """Compares each model on the test rows with always answering the class that is most frequent in validation.

    By the exact binomial test against the constant answer's share, the *no information rate* (Kuhn 2008).
    Columns: ``accuracy``, ``guess`` (the constant answer's), ``p_holm``, ``beats`` (better, and settled).
    """
    right, truth = right_by_model(table[table["split"] == "test"])
    held_out = table[(table["split"] == "validation") & (table["model"] == table["model"].iloc[0])]
    guess = float((truth == evaluation.label_names(table).index(held_out["label"].value_counts().index[0])).mean())
    each = [binomtest(int(r.sum()), len(r), guess, alternative="greater").pvalue for r in right.values()]
    p = multipletests(each, method="holm")[1]
    found = pd.DataFrame({"accuracy": {model: r.mean() for model, r in right.items()}})
    return found.assign(guess=guess, p_holm=p, beats=p < LEVEL)


class Recommendation(NamedTuple):
    """Which model to use: its name, or ``""`` if none beats a constant answer; and why, how sure, at what cost."""

    model: str
    sentences: list[str]


def recommend(
    table: pd.DataFrame, costs: pd.DataFrame, failed: Mapping[str, str] | None = None, faults: Sequence[str] = ()
) -> Recommendation:
    """Recommends the cheapest candidate within one point of the best on validation rows; test rows say how sure it is.

    ``costs`` have the model as index, the simplest first, ``train_seconds``, ``texts_per_second_64``, ``size_mb``, and
    may be empty or incomplete; ``failed`` names contenders without predictions, and why: ``{"lstm": "it diverged"}``;
    ``faults`` are sentences on what makes the score on the test texts one that new texts would not have.
    """
    table = table[table["model"].isin(names := evaluation.candidates(table))]
    gone = [f"{name} is not part of this comparison: {why.rstrip('.')}." for name, why in (failed or {}).items()]
    less = (" texts)", "learned from a part of the texts only"), (" pieces", "read less of each text")
    told = [f"{name} {what}" for name in names for sign, what in less if sign in name]
    gone += [f"{what}: with more time or memory it may do better." for what in told]
    guess = against_guess(table)
    if not guess["beats"].any():
        best = guess["accuracy"].idxmax()
        seen = (table["split"].eq("test") & table["model"].eq(best)).sum()
        return Recommendation("", [
            f"No model beats guessing, as far as {seen} test texts can show.",
            f"The best of them, {best}, is right on {guess['accuracy'][best]:.1%} of these, always giving the most "
            f"frequent answer on {guess.loc[best, 'guess']:.1%}.",
            "The labels may not depend on the texts, the texts may be too few to learn from or to judge by, or one "
            "class so frequent that accuracy hides the rest: look at the labels, then add texts.",
            *(f"But: {fault}" for fault in faults), *gone])  # fmt: skip
    right, _ = right_by_model(table[table["split"] == "validation"])
    held_out = {name: right[name].mean() for name in names}
    seconds = costs.get("train_seconds", pd.Series(dtype=float)).dropna()
    model, rule = names[0], "the best (costs were not measured)"
    if model in seconds:
        close = [n for n in costs.index if n in held_out and held_out[model] - held_out[n] <= MARGIN + 1e-9]
        model = min(close, key=lambda name: max(seconds.get(name, np.inf), QUICK))  # of equally cheap ones the first
        rule = "the cheapest within one point of the best (below ten seconds of training all are equally cheap)"
    compared = pairs(table)
    own = compared[(compared["better"] == model) | (compared["worse"] == model)]
    share, how_often = _share(table, model)
    of = "test texts, but look at the faults of the file" if faults else "new texts"
    first = f"Use {model}: right on {how_often} {of}{_trade(model, held_out, costs)}."
    chosen = f"Measured: {share}. It was chosen on validation texts: {rule}."
    if (always := guess["guess"].iloc[0]) > 0.8:
        chosen += f" Always giving the most frequent answer is right on {100 * always:.1f} %."
    but = [f"But: {fault}" for fault in faults]
    if not guess.loc[model, "beats"]:
        but.append(f"But: these texts do not show that {model} beats the most frequent answer, {100 * always:.1f} %.")
    sure = [_how_sure(own, model), *(f"{verdict}." for verdict in own["verdict"])]
    return Recommendation(model, [first, *but, chosen, *sure, *gone, *_costs(model, costs)])


def _share(table: pd.DataFrame, model: str) -> tuple[str, str]:
    """Test accuracy with its interval, and as a child would say it: ``"about 9 of 10"``."""
    test = table[(table["split"] == "test") & (table["model"] == model)]
    value, low, high = intervals(evaluation.targets(test), evaluation.probabilities(test)).loc["accuracy"]
    of = 10 if abs(value - round(value, 1)) < 0.02 and 0.05 <= value < 0.95 else 100
    often = f"about {value * of:.0f} of {of}" if value < 0.995 else "nearly all"
    if high - low > 0.15:
        often = f"somewhere from {100 * low:.0f} to {100 * high:.0f} of 100"
    interval = f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
    return f"right on {100 * value:.1f} % of {len(test)} test texts {interval}", often


def _trade(model: str, held_out: dict[str, float], costs: pd.DataFrame) -> str:
    """What another model would give: almost as well but much faster; or a little better but much dearer."""
    seconds, speed = (costs[c].dropna() if c in costs else {} for c in ("train_seconds", "texts_per_second_64"))
    for name in (n for n in held_out if n != model and held_out[model] - held_out[n] <= NEAR):
        if model in speed and speed.get(name, 0) >= 2 * speed[model]:
            times = _times(speed[name] / speed[model])
            well = "almost" if held_out[name] < held_out[model] else "at least"
            return f"; {name} did {well} as well on validation texts and is {times} as fast"
        if model in seconds and held_out[name] > held_out[model] and seconds.get(name, 0) >= 2 * seconds[model]:
            times = _times(seconds[name] / max(seconds[model], 1e-3))
            return f"; {name} was at most a point better on validation texts and takes {times} as long to train"
    return ""


def _times(ratio: float) -> str:
    return f"{float(f'{ratio:.{1 if ratio >= 10 else 2}g}'):,.{0 if ratio >= 10 else 1}f} times".replace(".0 ", " ")


def _how_sure(own: pd.DataFrame, model: str) -> str:
    if not len(own):
        return "How sure: there is no other model to compare it with."
    beaten, unsure = own[(own["worse"] == model) & (own["p_holm"] < LEVEL)], own[own["p_holm"] >= LEVEL]
    if len(beaten):
        better, gap = beaten.iloc[0][["better", "difference"]]
        if gap <= MARGIN:
            return f"How sure: on the test texts {better} is better, but within the one point that the choice ignores."
        return f"The test texts contradict the choice: on them {better} is better; how good, new test texts must say."
    if not len(unsure):
        return "How sure: on the test texts it is better than every other model."
    *most, last = (row.worse if row.better == model else row.better for row in unsure.itertuples())
    others = f"{', '.join(most)} and {last}" if most else last
    return f"How sure: the test texts cannot tell it from {others}; more test texts might."


def _costs(model: str, costs: pd.DataFrame) -> list[str]:
    units = {"train_seconds": "s of training", "size_mb": "MB on disk"}
    units["texts_per_second_64"] = "texts a second in batches of 64"
    row = costs.loc[model].dropna() if model in costs.index else {}
    said = [f"{row[name]:,.{int(row[name] < 1)}f} {unit}" for name, unit in units.items() if name in row]
    return [f"Cost: {', '.join(said)}."] if said else []
