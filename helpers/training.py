"""Training classifiers quietly, saving them safely, applying them to new texts.

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


def fit(
    model: keras.Model,
    train: tf.data.Dataset,
    validation: tf.data.Dataset,
    epochs: int,
    label: str,
    patience: int | None = None,
    class_weight: dict[int, float] | None = None,
) -> pd.DataFrame:
    """Trains quietly with one progress bar; within a run its state is kept after each epoch, for ``--resume``.

    Args:
        model: compiled, with the metric ``accuracy``.
        train, validation: batches of inputs and targets.
        epochs: passes over the training texts, at most.
        label: the model's name in progress and history.
        patience: stops when validation accuracy has not risen for so many epochs, and goes back to the best epoch.
        class_weight: class index to weight of its loss, for imbalanced data.

    Returns:
        One row an epoch: ``model, epoch, loss, accuracy, val_loss, val_accuracy``; ``attrs["seconds"]`` is the time.
    """
    import keras
    import pandas as pd

    from helpers import runs
    from helpers.checkpoints import Checkpoint
    from helpers.progress import Bar

    stop = keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=patience or 0, restore_best_weights=True)
    saved = Checkpoint(runs.checkpoint(label))
    first, rows = saved.state.get("epoch", 0), saved.state.get("rows", [])
    clock = time.monotonic() - saved.state.get("seconds", 0.0)

    def restore(logs: Any) -> None:
        if not first:
            return
        if not model.built:
            model(next(iter(train))[0])
        model.optimizer.build(model.trainable_variables)
        if (best := saved.restore(model)) is not None:
            stop.best_weights, (stop.best, stop.best_epoch, stop.wait) = best, saved.state["stop"]

    def keep(epoch: int, logs: dict[str, float]) -> None:
        rows.append({k: float(logs[k]) for k in ("loss", "accuracy", "val_loss", "val_accuracy")})
        counts = {} if stop.best_weights is None else {"stop": [float(stop.best), stop.best_epoch, stop.wait]}
        done, seconds = model.stop_training or epoch + 1 == epochs, time.monotonic() - clock
        saved.keep(model, epoch + 1, bool(counts) and stop.wait == 0, rows=rows, done=done, seconds=seconds, **counts)
        bar.step(f"validation accuracy {logs['val_accuracy']:.3f}")

    with Bar(epochs, label) as bar:
        note = keras.callbacks.LambdaCallback(on_train_begin=restore, on_epoch_end=keep)
        model.fit(
            train,
            validation_data=validation,
            epochs=first if saved.state.get("done") else epochs,
            initial_epoch=first,
            verbose=0,
            shuffle=False,
            class_weight=class_weight,
            callbacks=[*([stop] if patience else []), note, keras.callbacks.TerminateOnNaN()],
        )
    frame = pd.DataFrame(rows).astype(float)  # what is not a number is kept as null
    if not np.isfinite(frame.to_numpy()).all():
        raise InputError(f"{label} diverged in epoch {len(frame)} (the loss is not a number): lower the learning rate.")
    frame.insert(0, "model", label)
    frame.insert(1, "epoch", range(1, len(frame) + 1))
    frame.attrs["seconds"] = saved.state["seconds"]
    return frame


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
    """Saves what :func:`load_classifier` needs: ``classifier.keras`` and ``classifier.json``.

    Args:
        folder: the run's ``model/``.
        model: ids (n, length) -> probabilities (n, classes).
        vocabulary: token of each id; 0 is padding, 1 is any unknown token.
        labels: class names in the order of the outputs.
        **settings: ``unit`` and ``length``.
    """
    from helpers.files import write_json

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


def load_classifier(run: str | Path, model: str = "") -> tuple[Callable[[Sequence[str]], np.ndarray], list[str]]:
    """Loads a run's classifier.

    Args:
        run: a run folder of 03 or 04.
        model: ``"tfidf"`` or ``"frozen"`` for the run's other models; ``""`` for its network. Those two are pickles,
            which can run code: load only runs that you trust.

    Returns:
        A function from texts to probabilities (n, classes), and the class names.

    Raises:
        InputError: the folder holds no such classifier.
    """
    from helpers.runs import find_run

    folder = find_run(run) / "model"
    if not (folder / "classifier.json").exists():
        raise InputError(f"{run} holds no classifier (no model/classifier.json): name a run of 03 or 04.")
    settings = json.loads((folder / "classifier.json").read_text("utf-8"))
    if model:
        return _load_fitted(folder, model), settings["labels"]
    import_tensorflow()
    return (_load_bert if settings["kind"] == "bert" else _load_lstm)(folder, settings), settings["labels"]


def _load_fitted(folder: Path, name: str) -> Callable[[Sequence[str]], np.ndarray]:
    import joblib

    known = sorted(p.stem for p in folder.glob("*.joblib"))
    if name not in known:
        raise InputError(
            f"The run has no model {name!r}: leave --model out, or use {' or '.join(known) or 'another run'}."
        )
    parts = joblib.load(folder / f"{name}.joblib")
    if "preset" not in parts:
        return parts["model"].predict_proba
    import_tensorflow()
    from helpers import pretrained

    encoder, words = pretrained.load(parts["preset"])
    return lambda texts: parts["model"].predict_proba(pretrained.encode_ids(encoder, words(texts, parts["length"])))


def _load_bert(folder: Path, settings: dict[str, Any]) -> Callable[[Sequence[str]], np.ndarray]:
    from helpers import pretrained

    bert, words = pretrained.load_classifier(folder, settings)
    return lambda texts: predict_proba(bert, words(texts, settings["length"]), 64, pretrained.inputs)


def _load_lstm(folder: Path, settings: dict[str, Any]) -> Callable[[Sequence[str]], np.ndarray]:
    import keras

    model = keras.models.load_model(folder / "classifier.keras", compile=False)
    known = settings["vocabulary"], settings["unit"], settings["length"]
    return lambda texts: predict_proba(model, encode(texts, *known))


def encode(texts: Sequence[str], vocabulary: Sequence[str], unit: str, length: int) -> np.ndarray:
    """Token ids (n, length), int32: unknown tokens become 1, the right is padded with 0, long texts are cut."""
    places = {token: i for i, token in enumerate(vocabulary)}
    return pad([[places.get(token, 1) for token in text.tokenize(t, unit)] for t in texts], length)


def predict_file(run: str, source: str, out: Path, text_column: str = "text", model: str = "") -> int:
    """Labels the texts of a file with a run's classifier and writes them as CSV, rows in the same order.

    The file keeps its columns and gains ``label`` (``prediction`` where it has that column already) and ``p_<label>``.

    Returns:
        The number of rows written.

    Raises:
        InputError: no such column or run, or a place that cannot be written.
    """
    from helpers import data
    from helpers.files import write_atomic

    table, _ = data.read_table(source)
    table = table.replace(r"\r\n?", "\n", regex=True)  # a CSV file would break at them
    data.column(table, text_column, str(source), "name it with --text-column")
    if not out.parent.is_dir():
        raise InputError(f"The folder {out.parent} does not exist: create it first.")
    classify, labels = load_classifier(run, model)
    probabilities = classify(table[text_column].fillna("").astype(str).tolist())
    column = "label" if "label" not in table.columns else "prediction"
    table[column] = np.array(labels)[probabilities.argmax(axis=1)]
    for i, name in enumerate(labels):
        table[f"p_{name}"] = probabilities[:, i].round(6)
    write_atomic(out, table.to_csv(index=False))
    return len(table)


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
