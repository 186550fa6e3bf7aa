"""Predictions as tables, and metrics computed from them.

Taught in ``05_evaluation_plots``. The unit is the ``predictions.csv`` of a run:
``row, split, model, text, label, prediction, p_<label>...``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

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
    shares = (shares / shares.sum(axis=1, keepdims=True)).round(6)
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
        ``accuracy`` and ``macro_f1`` in [0, 1], ``log_loss`` in nats. Classes that are neither true nor predicted
        anywhere stay out of the macro average.
    """
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    predicted = probabilities.argmax(axis=1)
    return {
        "accuracy": float(accuracy_score(targets, predicted)),
        "macro_f1": float(f1_score(targets, predicted, average="macro", zero_division=0)),
        "log_loss": float(log_loss(targets, probabilities, labels=np.arange(probabilities.shape[1]))),
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

    Args:
        targets: (n,) class indices.
        probabilities: (n, classes).
        bins: number of bins on [0, 1].

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
