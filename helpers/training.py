"""Training classifiers quietly and saving them safely.

Taught in ``03_lstm_classifier`` and ``04_bert_finetune``.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import InputError, text
from helpers.files import write_json

if TYPE_CHECKING:
    import keras
    import pandas as pd
    import tensorflow as tf


def import_tensorflow() -> Any:
    """Imports TensorFlow without its start-up lines, which no log level of its own turns off.

    Returns:
        The module ``tensorflow``.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with _silenced_stderr():
        import tensorflow

        tensorflow.constant(0)
        tensorflow.get_logger().setLevel("ERROR")  # it warns of each new model's first batches
    return tensorflow


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def pad(token_ids: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """Cuts or right-pads id lists with 0 to an array of shape (n, length), int32."""
    import keras

    return keras.utils.pad_sequences(token_ids, maxlen=length, padding="post", truncating="post")


def tfidf_classifier(unit: str, balanced: bool = False) -> Any:
    """The floor of every comparison: TF-IDF of tokens (pairs of them too for characters) and logistic regression.

    Args:
        unit: see :func:`helpers.text.tokenize`.
        balanced: weigh classes so that rare ones count the same.

    Returns:
        A scikit-learn pipeline from texts to classes, with ``predict_proba``.
    """
    from functools import partial

    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    vectorizer = TfidfVectorizer(
        tokenizer=partial(text.tokenize, unit=unit),
        token_pattern=None,
        lowercase=False,
        sublinear_tf=True,
        ngram_range=(1, 2) if unit == "character" else (1, 1),
    )
    return make_pipeline(vectorizer, LogisticRegression(max_iter=1000, class_weight="balanced" if balanced else None))


def bucketed(token_ids: np.ndarray, targets: np.ndarray, batch_size: int, seed: int | None = None) -> tf.data.Dataset:
    """Batches of texts of like length, each cut to its longest text, so that padding is hardly computed.

    Rows are shuffled, then sorted by length within stretches of 16 batches; the batches are shuffled again.

    Args:
        token_ids: (n, length) int32, padded on the right with 0.
        targets: (n,) or (n, classes).
        batch_size: texts a batch.
        seed: shuffles anew in every epoch, repeatably; None sorts all rows by length (for evaluation).

    Returns:
        Batches ``(token_ids, targets)`` of shapes (b, longest) and (b, ...).
    """
    tf = import_tensorflow()
    lengths = np.maximum((token_ids != 0).sum(axis=1), 1)
    rng = np.random.default_rng(seed)
    starts = np.arange(0, len(lengths), batch_size)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.arange(len(lengths)) if seed is None else rng.permutation(len(lengths))
        stretch = len(order) if seed is None else 16 * batch_size
        parts = [order[i : i + stretch] for i in range(0, len(order), stretch)]
        order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
        for start in starts if seed is None else rng.permutation(starts):
            rows = order[start : start + batch_size]
            yield token_ids[rows, : lengths[rows].max()], targets[rows]

    signature = (
        tf.TensorSpec((None, None), tf.int32),
        tf.TensorSpec((None, *targets.shape[1:]), tf.as_dtype(targets.dtype)),
    )
    return dataset(batches, signature, len(starts))


def dataset(generator: Callable[[], Iterator[Any]], signature: Any, count: int) -> tf.data.Dataset:
    """Returns a data set of ``count`` elements, without tf.data's tuner: its thread makes every epoch wait for it.

    Args:
        generator: yields the elements of one epoch; called once an epoch.
        signature: shapes and types of an element, as ``tf.TensorSpec``.
        count: elements an epoch.
    """
    tf = import_tensorflow()
    options = tf.data.Options()
    options.autotune.enabled = False
    made = tf.data.Dataset.from_generator(generator, output_signature=signature)
    return made.apply(tf.data.experimental.assert_cardinality(count)).with_options(options).prefetch(2)


def bar(total: int, label: str) -> Any:
    """Returns a bar of ``tqdm``; there is none where ``$TQDM_DISABLE`` is set, as in a run."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=label, leave=False)


def fit(
    model: keras.Model,
    train: tf.data.Dataset,
    validation: tf.data.Dataset,
    epochs: int,
    label: str,
    patience: int | None = None,
    class_weight: dict[int, float] | None = None,
    monitor: str = "val_accuracy",
) -> pd.DataFrame:
    """Trains quietly with one bar; within a run its state is kept after each epoch, for ``--resume``.

    A resumed training goes on from its last whole epoch: weights, optimizer, history and best epoch are as they were;
    random masks and the order of the rows begin again.

    Args:
        model: compiled, with the metric ``accuracy``.
        train, validation: batches of inputs and targets.
        epochs: passes over the training texts, at most.
        label: the model's name in bar and history.
        patience: stops when ``monitor`` has been no better for so many epochs, and goes back to the best epoch.
        class_weight: class index to weight of its loss, for imbalanced data.
        monitor: ``"val_accuracy"`` or ``"val_loss"``.

    Returns:
        One row an epoch: ``model, epoch, loss, accuracy, val_loss, val_accuracy, seconds`` (of training so far).

    Raises:
        InputError: a loss is not a number any more.
    """
    import keras
    import pandas as pd

    from helpers import runs

    folder = runs.checkpoint(label)
    rows: list[dict[str, float]] = _read_state(folder)
    sign = 1 if monitor == "val_loss" else -1
    before = rows[-1]["seconds"] if rows else 0.0

    def best() -> int:  # the first of equals
        return min(range(len(rows)), key=lambda i: sign * rows[i][monitor])

    def waited() -> bool:
        return bool(patience and rows) and len(rows) - 1 - best() >= patience

    if not model.built:
        model(next(iter(train))[0])
    weights = _restore(model, folder, rows, best) if rows else None
    clock = time.monotonic()

    def keep(epoch: int, logs: dict[str, float]) -> None:
        nonlocal weights
        rows.append({k: float(logs[k]) for k in ("loss", "accuracy", "val_loss", "val_accuracy")})
        rows[-1]["seconds"] = before + time.monotonic() - clock
        if not np.isfinite(list(rows[-1].values())).all():
            raise InputError(
                f"{label} diverged in epoch {len(rows)} (the loss is not a number): lower the learning rate."
            )
        if patience and best() == epoch:
            weights = model.get_weights()
        _write_state(model, folder, rows, best())
        shown.set_postfix_str(f"validation accuracy {logs['val_accuracy']:.3f}", refresh=False)
        shown.update()
        model.stop_training = waited()

    if not waited() and len(rows) < epochs:
        with bar(epochs, label) as shown:
            shown.update(len(rows))
            model.fit(
                train, validation_data=validation, epochs=epochs, initial_epoch=len(rows), verbose=0, shuffle=False,
                class_weight=class_weight,
                callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=keep), keras.callbacks.TerminateOnNaN()],
            )  # fmt: skip
    if patience and weights:
        model.set_weights(weights)
    frame = pd.DataFrame(rows)
    frame.insert(0, "model", label)
    frame.insert(1, "epoch", range(1, len(frame) + 1))
    return frame


def _read_state(folder: Path | None) -> list[dict[str, float]]:
    return json.loads((folder / "rows.json").read_text()) if folder and (folder / "rows.json").exists() else []


def _write_state(model: keras.Model, folder: Path | None, rows: list[dict[str, float]], best: int) -> None:
    """Keeps an epoch: the weights first, then the rows that name them; only the last and the best stay."""
    if not folder:
        return
    file = folder / f"{len(rows)}.weights.h5"
    model.save_weights(file)
    with file.open("rb+") as written:
        os.fsync(written.fileno())
    write_json(folder / "rows.json", rows)
    for old in set(folder.glob("*.weights.h5")) - {file, folder / f"{best + 1}.weights.h5"}:
        old.unlink()


def _restore(
    model: keras.Model, folder: Path, rows: list[dict[str, float]], best: Callable[[], int]
) -> list[np.ndarray]:
    """Puts the last epoch's state into a model and its optimizer; returns the weights of the best epoch."""
    model.optimizer.build(model.trainable_variables)
    for epoch in (best() + 1, len(rows)):
        model.load_weights(folder / f"{epoch}.weights.h5")
        if epoch == best() + 1:
            weights = model.get_weights()
    return weights


def balanced_class_weight(targets: np.ndarray) -> dict[int, float]:
    """Weights n / (classes * count) for class indices ``targets`` (n,): each class counts the same in the loss."""
    counts = np.bincount(targets)
    return {i: len(targets) / (len(counts) * n) for i, n in enumerate(counts) if n}


def predict_proba(
    model: keras.Model,
    token_ids: np.ndarray,
    batch_size: int = 256,
    prepare: Callable[[np.ndarray], Any] = lambda ids: ids,
) -> np.ndarray:
    """Class probabilities (n, classes) of right-padded ids (n, length), computed by length, in the given order.

    ``prepare`` turns a batch of ids into what the model reads (:func:`helpers.pretrained.inputs` for BERT).
    """
    lengths = np.maximum((token_ids != 0).sum(axis=1), 1)
    order = np.argsort(lengths, kind="stable")
    parts = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        parts.append(np.asarray(model.predict_on_batch(prepare(token_ids[rows, : lengths[rows].max()]))))
    found = np.concatenate(parts)
    result = np.empty_like(found)
    result[order] = found
    return result


def save_keras(model: keras.Model, path: Path) -> keras.Model:
    """Saves as ``.keras`` under a temporary name, reloads and compares the weights, then renames.

    Returns:
        The reloaded model.

    Raises:
        RuntimeError: the reloaded weights differ.
    """
    import keras

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        model.save(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        again = keras.models.load_model(part, compile=False)
        if not all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True)):
            raise RuntimeError(f"{path.name} does not hold the weights that were saved.")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return again


def save_classifier(
    folder: Path, model: keras.Model, vocabulary: list[str], labels: list[str], **settings: Any
) -> None:
    """Saves what :func:`helpers.predict.load_classifier` needs: ``classifier.keras`` and ``classifier.json``.

    Args:
        folder: the run's ``model/``.
        model: ids (n, length) -> probabilities (n, classes).
        vocabulary: token of each id; 0 is padding, 1 is any unknown token.
        labels: class names in the order of the outputs.
        **settings: ``unit`` and ``length``.
    """
    save_keras(model, folder / "classifier.keras")
    write_json(folder / "classifier.json", {"kind": "lstm", "labels": labels, "vocabulary": vocabulary} | settings)


def save_fitted(folder: Path, name: str, **parts: Any) -> None:
    """Keeps a model of scikit-learn beside the run's network, as ``<name>.joblib``, whole or not there."""
    import joblib

    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            joblib.dump(parts, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / f"{name}.joblib")
    finally:
        part.unlink(missing_ok=True)


def encode(texts: Sequence[str], vocabulary: Sequence[str], unit: str, length: int) -> np.ndarray:
    """Returns token ids (n, length), int32: unknown tokens are 1, the right is padded with 0, long texts are cut.

    A text without any token is one unknown token: a network that averages over nothing would answer with no number.
    """
    places = {token: i for i, token in enumerate(vocabulary)}
    return pad([[places.get(token, 1) for token in text.tokenize(t, unit)] or [1] for t in texts], length)


def cost(
    model: str, classify: Callable[[list[str]], Any], texts: Sequence[str], train_seconds: float, size: int
) -> dict[str, Any]:
    """What a classifier costs: a row of ``costs.csv``.

    Args:
        model: its name.
        classify: texts to probabilities, tokenising included.
        texts: real texts; 30 are classified one by one, then 5 batches of 64.
        train_seconds: what its training took.
        size: bytes on disk.

    Returns:
        ``model``, ``train_seconds``, ``texts_per_second_1`` and ``_64`` (median), ``p95_ms_1`` and ``_64`` (a batch,
        95th percentile), ``size_mb``.
    """
    row: dict[str, Any] = {"model": model, "train_seconds": round(train_seconds, 3)}
    for batch, calls in ((1, 30), (64, 5)):
        times = []
        for call in range(calls + 2):  # the first two warm up
            some = [texts[(call * batch + i) % len(texts)] for i in range(batch)]
            clock = time.perf_counter()
            classify(some)
            times.append(time.perf_counter() - clock)
        row[f"texts_per_second_{batch}"] = round(batch / float(np.median(times[2:])), 2)
        row[f"p95_ms_{batch}"] = round(1000 * float(np.quantile(times[2:], 0.95)), 2)
    return row | {"size_mb": round(size / 1e6, 3)}


def peak_memory_mb() -> float:
    """The most memory that this process has had so far, in MB, libraries included."""
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def folder_size(folder: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in [folder, *folder.rglob("*")] if file.is_file())
