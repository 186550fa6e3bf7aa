"""Predictions as tables, and metrics computed from them.

Taught in ``05_evaluation_plots``. ``targets`` are true class indices (n,), ``probabilities`` (n, classes) have rows
that sum to 1, of which the largest is the prediction.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers import InputError, runs

TEXTS = ("split", "model", "text", "label", "prediction")  # columns that are read as text
HISTORY = ("model", "epoch", "loss", "accuracy", "val_loss", "val_accuracy")
FAMILIES = ("tfidf", "frozen", "bert", "mixture")  # first words of the models that are contenders by themselves


def predictions(
    frame: pd.DataFrame, split: str, model: str, probabilities: np.ndarray, labels: Sequence[str]
) -> pd.DataFrame:
    """Returns the rows of ``predictions.csv`` for one model on one split (``"validation"`` or ``"test"``).

    ``frame`` has ``row``, ``text``, ``label``; probabilities (n, classes) are in the order of the sorted ``labels``.
    """
    shares = np.asarray(probabilities, dtype=np.float64)
    shares = shares / shares.sum(axis=1, keepdims=True)
    said = np.array(labels, dtype=object)[shares.argmax(axis=1)]
    table = frame[["row"]].assign(split=split, model=model, text=frame["text"], label=frame["label"], prediction=said)
    columns = [f"p_{name}" for name in labels]
    return pd.concat([table.reset_index(drop=True), pd.DataFrame(shares, columns=columns)], axis=1)


def label_names(table: pd.DataFrame) -> list[str]:
    """Returns the class names of a predictions table, from its ``p_`` columns."""
    return [c.removeprefix("p_") for c in table.columns if c.startswith("p_")]


def probabilities(table: pd.DataFrame) -> np.ndarray:
    """Returns the probabilities (n, classes) of a predictions table, rows rescaled to sum to 1."""
    shares = table.filter(regex="^p_").to_numpy(dtype=np.float64)
    return shares / shares.sum(axis=1, keepdims=True)


def targets(table: pd.DataFrame) -> np.ndarray:
    """Returns the true class indices (n,) of a predictions table."""
    return pd.Index(label_names(table)).get_indexer(table["label"].astype(str))


def metrics(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Returns ``accuracy``, ``macro_f1`` (both in [0, 1]) and ``log_loss`` (nats), as scikit-learn defines them.

    Classes that are neither true nor predicted anywhere stay out of the macro average.

    Examples:
        >>> found = metrics(np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]))
        >>> {name: round(value, 3) for name, value in found.items()}
        {'accuracy': 0.75, 'macro_f1': 0.733, 'log_loss': 0.4}
    """
    found = scores(targets, probabilities, np.arange(len(targets))[None])
    return {name: float(found[name][0]) for name in ("accuracy", "macro_f1", "log_loss")}


def scores(targets: np.ndarray, probabilities: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns seven metrics, (some,) each, of lines of row numbers (some, n), faster than scikit-learn line by line."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    classes, total = probabilities.shape[1], len(targets)
    truth = probabilities[np.arange(total), targets]
    losses = -np.log(np.clip(truth, np.finfo(np.float64).eps, 1))
    distances = (probabilities**2).sum(axis=1) - 2 * truth + 1
    was, told = (x[rows] + classes * np.arange(len(rows))[:, None] for x in (targets, probabilities.argmax(axis=1)))
    counted = (np.bincount(x.ravel(), minlength=len(rows) * classes) for x in (was[was == told], was, told))
    hits, true, said = (counts.reshape(len(rows), classes) for counts in counted)
    f1 = 2 * hits / np.maximum(true + said, 1)
    spread = np.sqrt((total**2 - (said**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1)).astype(float))
    together = hits.sum(axis=1) * total - (true * said).sum(axis=1)
    return {
        "accuracy": hits.sum(axis=1) / total,
        "macro_f1": f1.sum(axis=1) / (true + said > 0).sum(axis=1),
        "weighted_f1": (f1 * true).sum(axis=1) / total,
        "balanced_accuracy": (hits / np.maximum(true, 1)).sum(axis=1) / (true > 0).sum(axis=1),
        "mcc": np.divide(together, spread, out=np.zeros(len(rows)), where=spread > 0),
        "log_loss": losses[rows].mean(axis=1),
        "brier": distances[rows].mean(axis=1),
    }


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Returns one row for each model and split of a predictions table: texts, accuracy, macro F1, log loss."""
    parts = table.groupby(["model", "split"], sort=False)
    found = [{"model": m, "split": s, "texts": len(t)} | metrics(targets(t), probabilities(t)) for (m, s), t in parts]
    return pd.DataFrame(found)


def calibration_bins(targets: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Returns mean ``confidence``, ``accuracy`` and ``texts`` of each bin of confidence that is not empty."""
    confidence = probabilities.max(axis=1)
    frame = pd.DataFrame({"confidence": confidence, "accuracy": probabilities.argmax(axis=1) == targets})
    grouped = frame.groupby(np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1))
    return grouped.mean().assign(texts=grouped.size()).reset_index(drop=True)


def calibration_error(targets: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """Returns the expected calibration error (Guo et al. 2017): the mean gap of the bins, weighted by texts."""
    table = calibration_bins(targets, probabilities, bins)
    return float(np.average((table["confidence"] - table["accuracy"]).abs(), weights=table["texts"]))


def temperature(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the temperature T > 0 that makes p^(1/T), rescaled, most likely on these rows (Guo et al. 2017).

    Above 1 it takes confidence away, below 1 it adds some; predictions stay the same. Fit it on validation rows.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return metrics(targets, scale(probabilities, np.exp(log_t)))["log_loss"]

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns probabilities (n, classes) raised to 1/temperature and rescaled to sum to 1."""
    from scipy.special import softmax

    return softmax(np.log(np.clip(probabilities, 1e-12, 1)) / temperature, axis=1)


def coverage(targets: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Returns for each ``threshold`` of confidence the share answered (``coverage``) and the answers' ``accuracy``."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right, answered = (probabilities.argmax(axis=1) == targets)[order], np.arange(1, len(order) + 1)
    table = {"threshold": confidence[order], "coverage": answered / len(order), "accuracy": right.cumsum() / answered}
    return pd.DataFrame(table).drop_duplicates("threshold", keep="last", ignore_index=True)


def reject_threshold(targets: np.ndarray, probabilities: np.ndarray, accuracy: float) -> float | None:
    """Returns the lowest confidence from which on at least ten answers reach ``accuracy``; None if there is none."""
    table = coverage(targets, probabilities)
    enough = table[(table["accuracy"] >= accuracy) & (table["coverage"] * len(targets) > 9.5)]
    return float(enough["threshold"].min()) if len(enough) else None


def confused(part: pd.DataFrame, pairs: int = 5) -> pd.DataFrame:
    """Returns the most frequent wrong answers of one model: true class, answer, how many texts, and one of them."""
    grouped = part[part["label"] != part["prediction"]].groupby(["label", "prediction"])
    table = grouped.agg(texts=("row", "size"), row=("row", "first"), example=("text", "first")).reset_index()
    return table.sort_values(["texts", "label"], ascending=[False, True]).head(pairs).reset_index(drop=True)


def candidates(table: pd.DataFrame) -> list[str]:
    """Returns the FAMILIES' models and the best LSTM, by validation accuracy, best first."""
    held_out = table[table["split"] == "validation"]
    accuracy = (held_out["label"] == held_out["prediction"]).groupby(held_out["model"], sort=False).mean()
    own = [name for name in accuracy.index if name.split()[0] in FAMILIES]
    lstms = accuracy.drop([*own, *(name for name in accuracy.index if name.split()[0] == "lazy_tfidf")])  # 03's
    return sorted(own + ([lstms.idxmax()] if len(lstms) else []), key=lambda name: -accuracy[name])


def read_runs(folders: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame, list[dict]]:
    """Returns the predictions, learning histories (``model, epoch, ...``) and ``metrics.json`` of runs on one split.

    A folder named twice is read once, and so is a model met again with the same predictions; one with other
    predictions gets its run's name behind it. An InputError tells of a missing or damaged file, and of other rows.
    """
    tables, histories, records, known, first = [], [pd.DataFrame(columns=HISTORY)], [], {}, None
    for place, folder in {runs.find_run(folder): folder for folder in folders}.items():
        record, table = runs.load(folder), read_predictions(folder)
        rows = {*table[["split", "row", "label", "text"]].itertuples(index=False, name=None)}, label_names(table)
        if rows != (first := first or rows):
            said = f"{folder} was judged on other rows, texts or classes than {folders[0]}"
            raise InputError(f"{said}: compare runs with the same DATA, TEST and SEED.")
        own = {name: part["prediction"].tolist() for name, part in table.groupby("model")}
        dropped = [name for name in own if own[name] in known.get(name, [])]
        rename = {name: f"{name} ({record['notebook'][:2]}/{record['name']})" for name in own if name in known}
        known |= {name: [*known.get(name, []), answers] for name, answers in own.items()}
        read = [table]
        if (place / "history.csv").exists():
            read.append(read_table(folder, "history.csv", ("model", "epoch")))
        table, *history = (frame[~frame["model"].isin(dropped)].replace({"model": rename}) for frame in read)
        tables.append(table)
        histories += history
        records.append(record)
    return pd.concat(tables, ignore_index=True), pd.concat(histories[1:] or histories), records


def read_predictions(folder: str) -> pd.DataFrame:
    """Reads ``predictions.csv`` of a run, rows in order, or says in one sentence (InputError) what is wrong with it."""
    table = read_table(folder, "predictions.csv", ("row", *TEXTS))
    table = table.sort_values(["split", "row"], kind="stable", ignore_index=True)
    labels, shares = label_names(table), table.filter(regex="^p_").to_numpy(dtype=float)
    parts = [part[["split", "row", "text", "label"]].to_numpy().tolist() for _, part in table.groupby("model")]
    named = len(labels) > 1 and {*table["label"], *table["prediction"]} <= {*labels}
    alike = all(part == parts[0] for part in parts) and not table.duplicated(["model", "split", "row"]).any()
    faults = {
        "has labels without a column of probabilities": not named,
        "has a model without a name": (table["model"].str.strip() == "").any(),
        "has splits other than validation and test": not {*table["split"]} <= {"validation", "test"},
        "has probabilities that do not sum to 1": (shares < 0).any() or (abs(shares.sum(axis=1) - 1) > 0.01).any(),
        "does not have the same rows and texts for each model": not alike,
    }
    if found := [fault for fault, is_so in faults.items() if is_so]:
        raise InputError(f"predictions.csv of {folder} {found[0]}: run its notebook again.")
    return table


def read_table(folder: str, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Reads a CSV of a run: text in the columns TEXTS, finite numbers in all others, which may be empty (NaN).

    An InputError tells that it is missing, unreadable or empty, or lacks one of ``columns`` or a value in it.
    """
    try:
        path = runs.find_run(folder) / name
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, encoding="utf-8")
        lacking = [column for column in columns if column not in table]
        if lacking or not len(table):
            raise ValueError(f"it has no column {lacking[0]}" if lacking else "it has no rows")
        for column in table.columns.difference(TEXTS):
            table[column] = pd.to_numeric(table[column].replace("", np.nan))
            needed = name == "predictions.csv" or column in columns
            if np.isinf(table[column]).any() or (needed and table[column].isna().any()):
                raise ValueError(f"column {column} has values that are no numbers")
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{folder} has no readable {name} ({reason}): name runs of 03, 04 or 06.") from None
    return table


def read_costs(folders: Sequence[str], name: str = "costs.csv") -> pd.DataFrame:
    """Reads ``costs.csv`` (or ``data_sizes.csv``) of several runs as one table, of each model the first that is met."""
    found, known = pd.DataFrame({"model": []}), set()
    needed = ("model", "texts", "accuracy") if name == "data_sizes.csv" else ("model",)
    for folder in folders:
        if (runs.find_run(folder) / name).exists():
            table, record = read_table(folder, name, needed), runs.load(folder)
            again = table["model"].isin(known if name == "costs.csv" else found["model"])  # as by :func:`read_runs`
            table.loc[again, "model"] += f" ({record['notebook'][:2]}/{record['name']})"
            found = pd.concat([found, table[~table["model"].isin(found["model"])]], ignore_index=True)
        known |= {*read_table(folder, "predictions.csv", ("model",))["model"]}
    return found
