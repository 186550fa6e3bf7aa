"""Predictions as tables, and metrics computed from them.

Taught in ``05_evaluation_plots``. The unit is the ``predictions.csv`` of a run:
``row, split, model, text, label, prediction, p_<label>...``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helpers import InputError

if TYPE_CHECKING:
    import pandas as pd


def predictions(
    frame: pd.DataFrame, split: str, model: str, probabilities: np.ndarray, labels: Sequence[str]
) -> pd.DataFrame:
    """Rows of ``predictions.csv`` for one model on one split.

    Args:
        frame: ``row``, ``text``, ``label``, n rows.
        split: ``"validation"`` or ``"test"``.
        model: the model's name.
        probabilities: (n, classes), in the order of ``labels``; each row is rescaled to sum to 1.
        labels: class names, sorted.
    """
    import pandas as pd

    shares = np.asarray(probabilities, dtype=np.float64)
    shares = shares / shares.sum(axis=1, keepdims=True)
    table = pd.DataFrame({"row": frame["row"].to_numpy(), "split": split, "model": model})
    table["text"], table["label"] = frame["text"].to_numpy(), frame["label"].to_numpy()
    table["prediction"] = np.array(labels, dtype=object)[shares.argmax(axis=1)]
    return pd.concat([table, pd.DataFrame(shares, columns=[f"p_{name}" for name in labels])], axis=1)


def label_names(table: pd.DataFrame) -> list[str]:
    """Class names of a predictions table, from its ``p_`` columns."""
    return [c.removeprefix("p_") for c in table.columns if c.startswith("p_")]


def probabilities(table: pd.DataFrame) -> np.ndarray:
    """The probabilities (n, classes) of a predictions table, rows rescaled to sum to 1."""
    shares = table[[f"p_{name}" for name in label_names(table)]].to_numpy(dtype=np.float64)
    return shares / shares.sum(axis=1, keepdims=True)


def targets(table: pd.DataFrame) -> np.ndarray:
    """The true class indices (n,) of a predictions table."""
    places = {name: i for i, name in enumerate(label_names(table))}
    return table["label"].astype(str).map(places).to_numpy(dtype=int)


def metrics(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, macro-averaged F1 and log loss.

    Args:
        targets: true class indices (n,).
        probabilities: (n, classes), rows summing to 1; the largest is the prediction.

    Returns:
        ``accuracy`` and ``macro_f1`` in [0, 1], ``log_loss`` in nats, all as scikit-learn defines them. Classes that
        are neither true nor predicted anywhere stay out of the macro average.
    """
    found = scores(targets, probabilities, np.arange(len(targets))[None])
    return {name: float(found[name][0]) for name in ("accuracy", "macro_f1", "log_loss")}


def scores(targets: np.ndarray, probabilities: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Seven metrics, (some,) of each, for each line of row numbers ``rows`` (some, n).

    Targets, probabilities and units are those of :func:`helpers.significance.intervals`.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    classes = probabilities.shape[1]
    true = probabilities[np.arange(len(targets)), targets]
    losses = -np.log(np.clip(true, np.finfo(np.float64).eps, 1))
    distances = (probabilities**2).sum(axis=1) - 2 * true + 1
    cells = targets * classes + probabilities.argmax(axis=1)
    places = cells[rows] + classes**2 * np.arange(len(rows))[:, None]
    counts = np.bincount(places.ravel(), minlength=len(rows) * classes**2).reshape(len(rows), classes, classes)
    return _of_counts(counts) | {"log_loss": losses[rows].mean(axis=1), "brier": distances[rows].mean(axis=1)}


def _of_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of confusion matrices (some, true class, predicted class), as scikit-learn defines them."""
    hits = np.diagonal(counts, axis1=1, axis2=2).astype(float)
    true, said = counts.sum(axis=2), counts.sum(axis=1)
    total = true.sum(axis=1)
    f1 = 2 * hits / np.maximum(true + said, 1)
    spread = np.sqrt((total**2 - (said**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1)).astype(float))
    together = hits.sum(axis=1) * total - (true * said).sum(axis=1)
    return {
        "accuracy": hits.sum(axis=1) / total,
        "macro_f1": f1.sum(axis=1) / (true + said > 0).sum(axis=1),
        "weighted_f1": (f1 * true).sum(axis=1) / total,
        "balanced_accuracy": (hits / np.maximum(true, 1)).sum(axis=1) / (true > 0).sum(axis=1),
        "mcc": np.divide(together, spread, out=np.zeros(len(counts)), where=spread > 0),
    }


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each model and split of a predictions table: texts, accuracy, macro F1, log loss."""
    import pandas as pd

    rows = []
    for (model, split), part in table.groupby(["model", "split"], sort=False):
        rows.append({"model": model, "split": split, "texts": len(part)} | metrics(targets(part), probabilities(part)))
    return pd.DataFrame(rows)


def calibration_bins(targets: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Confidence against accuracy in equally wide bins of confidence (Guo et al. 2017).

    Returns:
        One row for each bin that is not empty: ``confidence`` and ``accuracy`` (means), ``texts``;
        ``attrs["ece"]`` is the expected calibration error, the mean gap weighted by texts.
    """
    import pandas as pd

    confidence = probabilities.max(axis=1)
    frame = pd.DataFrame({"confidence": confidence, "accuracy": probabilities.argmax(axis=1) == targets})
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    grouped = frame.groupby(place)
    table = grouped.mean().assign(texts=grouped.size()).reset_index(drop=True)
    gaps = (table["confidence"] - table["accuracy"]).abs()
    table.attrs["ece"] = float((gaps * table["texts"]).sum() / len(frame))
    return table


def read_runs(folders: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame, list[dict]]:
    """Reads runs made on one split of one data set.

    Args:
        folders: run folders with ``predictions.csv``; a folder named twice is read once, and so is a model met again
            with the same predictions; one with other predictions gets its run's name behind it.

    Returns:
        All predictions, all learning histories (``model, epoch, ...``), and the runs' ``metrics.json``.

    Raises:
        InputError: a folder without predictions, or runs whose rows or labels differ.
    """
    import pandas as pd

    from helpers import runs

    tables, histories, records, first = [], [], [], None
    places = {runs.find_run(folder).resolve(): folder for folder in folders}
    for place, folder in places.items():
        record = runs.load(folder)
        read = read_csv(place / "predictions.csv", folder)
        first = read if first is None else first
        _refuse_mixed(read, first, folder, folders[0])
        table, rename = _tell_apart(read, tables, f"({record['notebook'][:2]}/{record['name']})")
        tables.append(table)
        if (place / "history.csv").exists():
            history = read_csv(place / "history.csv", folder)
            history["model"] = history["model"].replace(rename)
            known = set(read["model"].replace(rename)) - set(table["model"])
            histories.append(history[~history["model"].isin(known)])
        records.append(record)
    empty = pd.DataFrame(columns=["model", "epoch", "loss", "accuracy", "val_loss", "val_accuracy"])
    return pd.concat(tables, ignore_index=True), pd.concat(histories) if histories else empty, records


def _tell_apart(table: pd.DataFrame, before: list[pd.DataFrame], run: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Drops models that an earlier run has with the same predictions; renames others of the same name."""
    import pandas as pd

    earlier = pd.concat(before) if before else table.iloc[:0]
    rename = {}
    for name in sorted(set(table["model"]) & set(earlier["model"])):
        answers = [t.loc[t["model"] == name, ["split", "row", "prediction"]] for t in (table, earlier)]
        if answers[0].to_numpy().tolist() == answers[1].to_numpy().tolist():
            table = table[table["model"] != name]
        else:
            rename[name] = f"{name} {run}"
    return table.assign(model=table["model"].replace(rename)), rename


def read_csv(path: Path, folder: str) -> pd.DataFrame:
    """Reads ``predictions.csv`` or ``history.csv`` of a run, names and texts as strings."""
    import pandas as pd

    try:
        strings = dict.fromkeys(("split", "model", "text", "label", "prediction"), str)
        return pd.read_csv(path, dtype=strings, keep_default_na=False)
    except (OSError, ValueError):
        raise InputError(f"{folder} has no readable {path.name}: name runs of 03 or 04.") from None


def _refuse_mixed(table: pd.DataFrame, first: pd.DataFrame, folder: str, first_folder: str) -> None:
    def rows(part: pd.DataFrame) -> set[tuple]:
        return set(zip(part["split"], part["row"], part["label"], strict=True))

    if label_names(table) != label_names(first) or rows(table) != rows(first):
        raise InputError(
            f"{folder} was judged on other rows or classes than {first_folder}: compare runs with the same DATA, "
            "TEST and SEED."
        )


def candidates(table: pd.DataFrame) -> list[str]:
    """The models of a predictions table between which a user chooses, by validation accuracy, best first.

    Those are counting words, each BERT, and of all LSTMs the one with the best validation accuracy.
    """
    held_out = table[table["split"] == "validation"]
    accuracy = (held_out["label"] == held_out["prediction"]).groupby(held_out["model"], sort=False).mean()
    own = [name for name in accuracy.index if name.split()[0] in ("tfidf", "frozen", "bert")]
    lstms = accuracy.drop(own)
    chosen = own + ([lstms.idxmax()] if len(lstms) else [])
    return sorted(chosen, key=lambda name: -accuracy[name])


def roc_curves(targets: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, tuple]:
    """ROC curves, one class against the rest, and their macro average, of (n,) targets and (n, classes) probabilities.

    Returns:
        Name to ``(false positive rate, true positive rate, area)``; ``"macro average"`` comes last. Classes without
        a positive or a negative row are left out.
    """
    from sklearn.metrics import auc, roc_curve

    lines, grid = {}, np.linspace(0, 1, 201)
    for i, name in enumerate(labels):
        if 0 < (targets == i).sum() < len(targets):
            x, y, _ = roc_curve(targets == i, probabilities[:, i])
            lines[name] = (x, y, auc(x, y))
    mean = np.mean([np.interp(grid, x, y) for x, y, _ in lines.values()], axis=0)
    mean[0] = 0.0
    return lines | {"macro average": (grid, mean, float(np.mean([area for *_, area in lines.values()])))}


def precision_recall_curves(targets: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, tuple]:
    """Precision-recall curves, one class against the rest: name to ``(recall, precision, average precision)``."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    lines = {}
    for i, name in enumerate(labels):
        if (targets == i).any():
            precision, recall, _ = precision_recall_curve(targets == i, probabilities[:, i])
            area = float(average_precision_score(targets == i, probabilities[:, i]))
            lines[name] = (recall, precision, area)
    return lines


def per_class(targets: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and number of true rows for each class, classes as index."""
    import pandas as pd
    from sklearn.metrics import precision_recall_fscore_support

    numbers = precision_recall_fscore_support(targets, predicted, labels=np.arange(len(labels)), zero_division=0)
    return pd.DataFrame(dict(zip(("precision", "recall", "f1", "texts"), numbers, strict=True)), index=list(labels))


def temperature(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature T > 0 that makes p^(1/T), rescaled, most likely on these rows (Guo et al. 2017).

    Above 1 it takes confidence away, below 1 it adds some; predictions stay the same. Fit it on validation rows.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        p = scale(probabilities, np.exp(log_t))
        return -np.log(np.clip(p[np.arange(len(targets)), targets], 1e-12, 1)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, classes) raised to 1/temperature and rescaled to sum to 1."""
    from scipy.special import softmax

    return softmax(np.log(np.clip(probabilities, 1e-12, 1)) / temperature, axis=1)


def coverage(targets: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """What is gained by leaving doubtful texts to a human: one row for each threshold of confidence.

    Returns:
        ``threshold`` (answer if the confidence is at least this), ``coverage`` (share answered), ``accuracy`` of the
        answers; from the strictest threshold to the one that answers everything.
    """
    import pandas as pd

    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(axis=1) == targets)[order]
    answered = np.arange(1, len(order) + 1)
    table = pd.DataFrame(
        {"threshold": confidence[order], "coverage": answered / len(order), "accuracy": right.cumsum() / answered}
    )
    return table.drop_duplicates("threshold", keep="last").reset_index(drop=True)


def reject_threshold(targets: np.ndarray, probabilities: np.ndarray, accuracy: float) -> float | None:
    """The lowest confidence from which on the answers reach ``accuracy`` on these rows; None if no threshold does.

    Choose it on validation rows. Thresholds that leave fewer than ten answers are not trusted.
    """
    table = coverage(targets, probabilities)
    enough = table[(table["accuracy"] >= accuracy) & (table["coverage"] * len(targets) >= 10)]
    return float(enough["threshold"].min()) if len(enough) else None


def slices(part: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Accuracy of one model on the test rows by length of the text and by share of rare tokens, in thirds.

    Args:
        part: the rows of one model and split of a predictions table.
        unit: see :func:`helpers.text.tokenize`; a token is rare if no other of these texts has it.

    Returns:
        Slice as index: ``texts``, ``accuracy`` and its 95 % Wilson interval ``low``, ``high``.
    """
    from collections import Counter
    from itertools import pairwise

    import pandas as pd
    from statsmodels.stats.proportion import proportion_confint

    from helpers import text

    tokens = [text.tokenize(t, unit) for t in part["text"]]
    texts_with = Counter(token for one in tokens for token in set(one))
    rare = np.array([np.mean([texts_with[t] == 1 for t in one] or [0.0]) for one in tokens])
    right = (part["label"] == part["prediction"]).to_numpy()
    rows = {}
    kinds = {f"{unit}s": np.array([len(one) for one in tokens]), "% of rare tokens": 100 * rare}
    for kind, values in kinds.items():
        cuts = np.unique(np.quantile(values, [0, 1 / 3, 2 / 3, 1], method="nearest"))
        cuts = np.repeat(cuts, 2) if len(cuts) == 1 else cuts
        for i, (low, high) in enumerate(pairwise(cuts)):
            inside = (values >= low if i == 0 else values > low) & (values <= high)
            name = f"{low:.0f} to {high:.0f} {kind}" if i == 0 else f"over {low:.0f} to {high:.0f} {kind}"
            ends = proportion_confint(right[inside].sum(), inside.sum(), method="wilson")
            rows[name] = (int(inside.sum()), right[inside].mean(), *ends)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["texts", "accuracy", "low", "high"])


def confused(part: pd.DataFrame, pairs: int = 5) -> pd.DataFrame:
    """The most frequent wrong answers of one model: true class, answer, how many texts, and one of them."""
    wrong = part[part["label"] != part["prediction"]]
    grouped = wrong.groupby(["label", "prediction"])
    table = grouped.agg(texts=("row", "size"), row=("row", "first"), example=("text", "first")).reset_index()
    return table.sort_values(["texts", "label"], ascending=[False, True]).head(pairs).reset_index(drop=True)


def read_costs(folders: Sequence[str], name: str = "costs.csv") -> pd.DataFrame:
    """``costs.csv`` (or ``data_sizes.csv``) of several runs as one table, empty where no run has one.

    A model that several runs have measured comes from the first of them.
    """
    import pandas as pd

    from helpers import runs

    paths = [runs.find_run(folder) / name for folder in folders]
    tables = [pd.read_csv(path) for path in paths if path.exists()]
    if not tables:
        return pd.DataFrame({"model": []})
    known = [set().union(*(t["model"] for t in tables[:i])) for i in range(len(tables))]
    return pd.concat([t[~t["model"].isin(k)] for t, k in zip(tables, known, strict=True)], ignore_index=True)
