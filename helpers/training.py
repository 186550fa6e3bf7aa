"""Batches of texts by length, training with one bar that can be resumed, saving, and what a classifier costs.

Taught in ``03_lstm_classifier`` and ``04_bert_finetune``.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers import InputError, runs, text
from helpers.files import whole, whole_folder, write_json


@functools.cache
def import_tensorflow() -> Any:
    """Returns the module ``tensorflow``, imported without its start-up lines, which no log level of its own hides."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # its own default on the newest processors only
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        import tensorflow

        tensorflow.constant(0)
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)  # its ten bits fail the checks
        tensorflow.get_logger().setLevel("ERROR")  # it warns of each new model's first batches
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
    return tensorflow


class Lazy:
    """A module that is imported, after ``first`` is done, when something of it is asked for."""

    def __init__(self, name: str, first: Callable[[], Any] = lambda: None) -> None:
        self._name, self._first = name, first

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python's own questions, such as doctest's, import nothing
            raise AttributeError(name)
        self._first()
        return getattr(importlib.import_module(self._name), name)


keras, keras_hub, tf = (Lazy(name, import_tensorflow) for name in ("keras", "keras_hub", "tensorflow"))


def pad(token_ids: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """Returns id lists, cut or padded on the right with 0, as an array (n, length) int32."""
    padded = np.zeros((len(token_ids), length), "int32")
    for row, ids in zip(padded, token_ids, strict=True):
        row[: len(ids)] = ids[:length]
    return padded


def encode(texts: Sequence[str], vocabulary: Sequence[str], unit: str, length: int) -> np.ndarray:
    """Returns token ids (n, length) int32: unknown tokens are 1, the right is padded with 0, long texts are cut.

    A text without any token is one unknown token: a network that averages over nothing would answer with no number.
    """
    places = {token: i for i, token in enumerate(vocabulary)}
    return pad([[places.get(token, 1) for token in text.tokenize(t, unit)] or [1] for t in texts], length)


def dataset(generator: Callable[[], Iterator[Any]], signature: Any, count: int) -> tf.data.Dataset:
    """Returns a data set of ``count`` elements, without tf.data's tuner: its thread makes every epoch wait for it."""
    options = tf.data.Options()
    options.autotune.enabled = False
    made = tf.data.Dataset.from_generator(generator, output_signature=signature)
    return made.apply(tf.data.experimental.assert_cardinality(count)).with_options(options).prefetch(2)


def sorted_batches(
    token_ids: np.ndarray, batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields, of right-padded ids (n, length), the row numbers of texts of like length, and their ids (b, longest).

    All rows are sorted by length. With ``rng`` they are shuffled, sorted within each 16 batches, and these shuffled.
    """
    places = np.arange(1, token_ids.shape[1] + 1, dtype="int16")  # a text may hold a padding of its own
    count, sizes = len(token_ids), ((token_ids != 0) * places).max(axis=1, initial=1)
    order = np.arange(count) if rng is None else rng.permutation(count)
    stretch = 16 * batch_size if rng else count + 1
    order = order[np.lexsort((sizes[order], np.arange(count) // stretch))]
    batches = np.split(order, range(batch_size, count, batch_size))
    for place in range(len(batches)) if rng is None else rng.permutation(len(batches)):
        rows = batches[place]
        yield rows, token_ids[rows, : sizes[rows].max(initial=1)]


def bucketed(token_ids: np.ndarray, targets: np.ndarray, batch_size: int, seed: int | None = None) -> tf.data.Dataset:
    """Returns batches (b, longest) and (b, ...) of texts of like length, so that padding is hardly computed.

    They are those of :func:`sorted_batches`, for evaluation; a ``seed`` shuffles them anew in every epoch, repeatably.
    ``token_ids`` (n, length) int32 are padded on the right with 0; ``targets`` are (n,) or (n, classes).
    """
    rng = None if seed is None else np.random.default_rng(seed)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows, ids in sorted_batches(token_ids, batch_size, rng):
            yield ids, targets[rows]

    rest = tf.TensorSpec((None, *targets.shape[1:]), tf.as_dtype(targets.dtype))
    return dataset(batches, (tf.TensorSpec((None, None), tf.int32), rest), -(-len(token_ids) // batch_size))


def by_length(compute: Callable[[np.ndarray], Any], token_ids: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns ``compute`` of right-padded ids (n, length), in their order; batches hold texts of like length."""
    parts = [(rows, np.asarray(compute(ids))) for rows, ids in sorted_batches(token_ids, batch_size)]
    rows, found = map(np.concatenate, zip(*parts, strict=True))
    return found[np.argsort(rows)]


def predict_proba(
    model: keras.Model, token_ids: np.ndarray, batch_size: int = 256, prepare: Callable[[np.ndarray], Any] = np.asarray
) -> np.ndarray:
    """Returns class probabilities (n, classes) of right-padded ids; ``prepare`` makes of them what the model reads."""
    return by_length(lambda ids: model.predict_on_batch(prepare(ids)), token_ids, batch_size)


def bar(total: int, label: str, unit: str = "it") -> Any:
    """Returns a bar of ``tqdm``; there is none where ``$TQDM_DISABLE`` is set, which a notebook's bar does not read."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=label, unit=f" {unit}", leave=False, disable=bool(os.environ.get("TQDM_DISABLE")))


def build(model: keras.Model, batches: tf.data.Dataset) -> None:
    """Builds a compiled model, its optimizer and its metrics, on zeros in the form of ``batches``.

    Keras leaves that to the first step, which TensorFlow then has to translate into a graph twice.
    """
    if model.optimizer.built:
        return
    zeros = tf.nest.map_structure(lambda spec: tf.zeros([n or 2 for n in spec.shape], spec.dtype), batches.element_spec)
    output = model(zeros[0])
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(*zeros[:2], output)
    model.reset_metrics()


def variables(model: keras.Model) -> list[keras.Variable]:
    """Returns weights, then the optimizer's state: what a training changes but for the random state of dropout."""
    return [*model.weights, *model.optimizer.variables]


def fit(
    model: keras.Model, train: tf.data.Dataset, validation: tf.data.Dataset | None, epochs: int, label: str,
    patience: int | None = None, class_weight: dict[int, float] | None = None, monitor: str = "val_accuracy",
) -> pd.DataFrame:  # fmt: skip
    """Trains quietly with one bar; returns ``model, epoch, loss, accuracy, val_loss, val_accuracy, seconds`` by epoch.

    Within a run its state is kept after each epoch, and ``--resume`` goes on from the last whole one (Keras'
    ``BackupAndRestore`` would lose history and best epoch). An InputError says that a loss is not a number any more.

    Args:
        model: compiled, with the metric ``accuracy``.
        train, validation: batches of inputs and targets; None where no row is held out.
        epochs: at most; ``label`` is the model's name in bar and history.
        patience: stops when ``monitor`` has been no better for so many epochs, and goes back to the best epoch.
        class_weight: class index to weight of its loss.
        monitor: ``"val_accuracy"``, ``"val_loss"``, or without validation rows ``"loss"``.
    """
    folder, sign = runs.checkpoint(label), 1 if monitor.endswith("loss") else -1
    state, rows, best = folder and folder / "state.npz", [], []
    build(model, train)

    def waited() -> int:  # epochs since the best one, the first of equals
        return len(rows) - 1 - int(np.argmin([sign * row[monitor] for row in rows]))

    if state and state.exists():
        told, *arrays = np.load(state).values()
        rows, best = json.loads(str(told)), arrays[: len(model.weights)]
        for variable, array in zip(variables(model), arrays[len(best) :], strict=True):
            variable.assign(array)
    clock = time.monotonic() - (rows[-1]["seconds"] if rows else 0.0)

    def keep(epoch: int, logs: dict[str, float]) -> None:
        nonlocal best
        rows.append({k: float(logs[k]) for k in ("loss", "accuracy", "val_loss", "val_accuracy") if k in logs})
        rows[-1]["seconds"] = time.monotonic() - clock
        if not np.isfinite(list(rows[-1].values())).all():
            told = f"{label} diverged in epoch {epoch + 1} (the loss is not a number)"
            raise InputError(f"{told}: lower the learning rate.")
        if not waited():
            best = model.get_weights()
        if state:
            with whole(state) as file:
                np.savez(file, json.dumps(rows), *best, *map(np.array, variables(model)))
        shown.set_postfix_str(f"{monitor.replace('val_', 'validation ')} {logs[monitor]:.3f}", refresh=False)
        shown.update()
        model.stop_training = bool(patience) and waited() >= patience

    if len(rows) < epochs and not (patience and rows and waited() >= patience):
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=keep), keras.callbacks.TerminateOnNaN()]
        how = {"verbose": 0, "shuffle": False, "class_weight": class_weight, "callbacks": callbacks}
        with bar(epochs, label) as shown:
            shown.update(len(rows))
            model.fit(train, validation_data=validation, epochs=epochs, initial_epoch=len(rows), **how)
    if patience:
        model.set_weights(best)
    return pd.DataFrame([{"model": label, "epoch": epoch, **row} for epoch, row in enumerate(rows, 1)])


def save_classifier(
    folder: Path, model: keras.Model, vocabulary: list[str], labels: list[str], **settings: Any
) -> None:
    """Saves what :func:`helpers.predict.load_classifier` needs, whole or not at all; replaces a folder that is there.

    ``vocabulary``, ``unit`` and ``length`` are those of :func:`encode`; ``labels`` are in the order of the outputs.
    """
    with whole_folder(folder) as part:
        model.save(part / "classifier.keras")
        write_json(part / "classifier.json", {"kind": "lstm", "labels": labels, "vocabulary": vocabulary} | settings)


def cost(
    model: str, classify: Callable[[list[str]], Any], texts: Sequence[str], train_seconds: float, size: int
) -> dict[str, Any]:
    """Returns what a classifier costs: a row of ``costs.csv``; ``size`` is in bytes.

    The medians of 30 ``texts`` one by one, then of 5 batches of 64, tokenising included, or of what 8 seconds hold.
    """
    row: dict[str, Any] = {"model": model, "train_seconds": round(train_seconds, 3)}
    for batch, calls in ((1, 30), (64, 5)):
        times = []
        for call in range(calls + 2):  # the first two warm up
            some = [texts[(call * batch + i) % len(texts)] for i in range(batch)]
            clock = time.perf_counter()
            classify(some)
            times.append(time.perf_counter() - clock)
            if sum(times) > 8:
                break
        times = times[2:] or times[-1:]
        row[f"texts_per_second_{batch}"] = round(batch / float(np.median(times)), 2)
        row[f"p95_ms_{batch}"] = round(1000 * float(np.quantile(times, 0.95)), 2)
    return row | {"size_mb": round(size / 1e6, 3)}


def folder_size(folder: Path) -> int:
    """Returns the bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in [folder, *folder.rglob("*")] if file.is_file())
