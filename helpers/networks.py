"""The networks of "which model should I use?": an LSTM from scratch and a fine-tuned BERT, within a time that is given.

How long an epoch takes is measured on this machine, from the first batches; constants of another one would lie. When
the number of epochs is chosen, a network learns once more from all rows, the held-out ones too, if the time is enough:
as the models that are not networks do. Taught in notebooks 03, 04 and 06.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import InputError, pretrained, text, training

if TYPE_CHECKING:
    import keras
    import pandas as pd

LSTM_EPOCHS, LEAST_EPOCHS, MOST_TOKENS = 25, 3, 200
BERT_RATE, BERT_EPOCHS, BERT_BATCH = 1e-4, 4, 16
SLACK = 30  # seconds that BERT's training on all rows may last beyond its time: half of the minute that 06 allows


class OutOfTime(InputError):
    """The time that is left is too short for a model; the sentence says what it needs."""


@dataclass(frozen=True)
class Network:
    """A trained network."""

    classify: Callable[[Sequence[str]], np.ndarray]  # n texts to probabilities (n, classes)
    held: np.ndarray  # its probabilities of the held-out rows, from before it learned from them
    history: pd.DataFrame  # one row an epoch, as of helpers.training.fit
    texts: int  # that it learned from: with the held-out rows, if the time was enough
    save: Callable[[Path], None]  # into a folder, from where helpers.predict reads it
    parameters: int  # how many numbers it has
    seconds: float  # of training


def epoch_seconds(model: keras.Model, batches: Any, count: int) -> float:
    """Returns the seconds of an epoch of ``count`` batches, from eight of them; the weights are put back."""
    start = [np.array(w) for w in model.get_weights()]
    model.fit(batches.take(2), epochs=1, verbose=0, shuffle=False)
    clock = time.monotonic()
    model.fit(batches.take(8), epochs=1, verbose=0, shuffle=False)
    spent = time.monotonic() - clock
    model.set_weights(start)
    return spent / min(8, count) * count


def _all_rows(
    model: keras.Model, start: list, parts: Sequence[np.ndarray], batches: Callable, history: pd.DataFrame, end: float
) -> float:
    """Trains anew on the rows of all parts, for as many epochs as were best; its seconds, 0.0 if the time is too short.

    ``parts`` are ids and classes of the rows that ``history`` is of, then of the others. ``batches`` makes batches of
    ids and classes, and compiles the model anew; ``end`` is a time of ``time.monotonic``.
    """
    ids, y, others, y_others = parts
    epochs, spent = int(history["val_accuracy"].argmax()) + 1, 0.9 * history["seconds"].iloc[-1]  # none is held out
    if time.monotonic() + spent * epochs / len(history) * (1 + len(others) / len(ids)) > end:
        return 0.0
    model.set_weights(start)
    width = max(ids.shape[1], others.shape[1])
    both = np.vstack([training.pad(ids, width), training.pad(others, width)])
    label = f"{history['model'].iloc[0]}, all rows"
    again = training.fit(model, batches(both, np.r_[y, y_others]), None, epochs, label, monitor="loss")
    return float(again["seconds"].iloc[-1])


def fit_lstm(
    texts: Sequence[str], y: np.ndarray, held_texts: Sequence[str], y_held: np.ndarray, unit: str, labels: list[str],
    seconds: float, seed: int,
) -> Network:  # fmt: skip
    """Trains a bidirectional LSTM on all texts, stopped by the accuracy on the held-out ones, then on these too.

    ``y`` and ``y_held`` are classes, from 0; ``labels`` are their names; ``seed`` decides initial weights and order.

    Raises:
        OutOfTime: fewer than three epochs fit.
        InputError: it diverged.
    """
    end = time.monotonic() + seconds
    training.import_tensorflow()
    import keras
    from keras import layers

    cut = [text.tokenize(t, unit) for t in texts]
    counts = Counter(token for tokens in cut for token in tokens)
    vocabulary = ["", "[UNK]", *(token for token, _ in counts.most_common(20_000))]
    length = int(np.clip(np.quantile([len(tokens) for tokens in cut], 0.95), 8, MOST_TOKENS))
    rows, held = (training.encode(t, vocabulary, unit, length) for t in (texts, held_texts))
    keras.utils.set_random_seed(seed)
    parts = [
        keras.Input((None,), dtype="int32"),
        layers.Embedding(len(vocabulary), 128, mask_zero=True),
        layers.SpatialDropout1D(0.4),
        layers.Bidirectional(layers.LSTM(64, return_sequences=True)),
        layers.GlobalAveragePooling1D(),
        layers.Dropout(0.5),
        layers.Dense(len(labels), activation="softmax"),
    ]
    model, y, y_held = keras.Sequential(parts), y.astype("int32"), y_held.astype("int32")
    start = model.get_weights()

    def batches(rows: np.ndarray, y: np.ndarray) -> Any:
        model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return training.bucketed(rows, y, 32, seed)

    first = batches(rows, y)
    each = epoch_seconds(model, first, -(-len(rows) // 32))
    if LEAST_EPOCHS * each > seconds:
        raise OutOfTime(f"three epochs need about {LEAST_EPOCHS * each:.0f} s")
    epochs = int(min(LSTM_EPOCHS, seconds / each))
    history = training.fit(model, first, training.bucketed(held, y_held, 256), epochs, "lstm", 6)
    p = training.predict_proba(model, held)
    more = _all_rows(model, start, (rows, y, held, y_held), batches, history, end)

    def classify(some: Sequence[str]) -> np.ndarray:
        return training.predict_proba(model, training.encode(some, vocabulary, unit, length))

    def save(folder: Path) -> None:
        training.save_classifier(folder, model, vocabulary, labels, unit=unit, length=length)

    seen, spent = len(texts) + (len(held) if more else 0), history["seconds"].iloc[-1] + more
    return Network(classify, p, history, seen, save, model.count_params(), spent)


def fit_bert(
    preset: str, ids: np.ndarray, y: np.ndarray, held_ids: np.ndarray, y_held: np.ndarray, others: int,
    words: Any, labels: list[str], head: Sequence[np.ndarray] | None, seconds: float, seed: int,
) -> Network:  # fmt: skip
    """Fine-tunes a pretrained BERT, chooses the best epoch by validation accuracy, then trains on all rows as long.

    The time decides how many epochs there are, or on how many rows one epoch is, and whether there is time for both.

    Args:
        ids, y: word pieces (n, length) that ``words`` made, and the classes; the other rows as in :func:`fit_lstm`.
        others: how many texts will be read once after training, in the same time.
        head: kernel (width, classes) and bias (classes,) of a regression on the frozen encoder's unit vectors, fitted
            on the same rows: where the training starts. None: at random, and the head reads [CLS].
        seed: head, order and sample.

    Raises:
        OutOfTime: not even a fair sample of the rows fits into one epoch.
        InputError: it diverged.
    """
    import keras

    keras.utils.set_random_seed(seed)
    clock = time.monotonic()
    model, _ = pretrained.classifier(preset, len(labels), dropout=0.1, pooling="mean" if head else "first")
    if head:
        model.output_dense.set_weights(head)
    model.backbone.token_embedding.trainable = False  # half of all weights: AdamW would move them all in each step
    y, y_held, length = y.astype("int32"), y_held.astype("int32"), ids.shape[1]
    start = model.get_weights()

    def batches(ids: np.ndarray, y: np.ndarray) -> Any:
        pretrained.compile_adamw(model, BERT_RATE, epochs * -(-len(ids) // BERT_BATCH))
        return pretrained.batches(ids, y, BERT_BATCH, seed)

    epochs = BERT_EPOCHS  # for the schedule of the steps that are timed
    learn = epoch_seconds(model, batches(ids, y), -(-len(ids) // BERT_BATCH))
    read = 0.4 * learn / len(ids)  # a text forward only takes about this share of a step
    end = clock + seconds - 1.2 * read * others - 12
    available, each = end - time.monotonic(), learn + read * len(held_ids)
    twice = each + learn * (1 + len(held_ids) / len(ids))  # an epoch now, and one on all rows
    both = available + SLACK > 2 * twice  # at least two epochs of both, or all the time for the first
    epochs = max(available / twice, 2) if both else available / each
    epochs, rows = int(min(BERT_EPOCHS, epochs)), np.arange(len(ids))
    if epochs < 1:
        share = int((available - read * len(held_ids)) / learn * len(ids))
        if share < max(20 * len(labels), 500):
            needed = f"{each:.0f} s" if each < 90 else f"{each / 60:.0f} min"
            raise OutOfTime(f"one pass over all texts needs about {needed}, {max(available, 0):.0f} s are left for it")
        rows, epochs = np.sort(np.random.default_rng(seed).permutation(len(ids))[:share]), 1
    held = pretrained.batches(held_ids, y_held, 64)
    history = training.fit(model, batches(ids[rows], y[rows]), held, epochs, "bert", epochs)
    p, spent = training.predict_proba(model, held_ids, 64, pretrained.inputs), history["seconds"].iloc[-1]
    whole = len(rows) == len(ids)  # else there was not even time for the first
    more = _all_rows(model, start, (ids, y, held_ids, y_held), batches, history, end + SLACK) if whole else 0.0
    seen = len(rows) + (len(held_ids) if more else 0)

    def classify(some: Sequence[str]) -> np.ndarray:
        return training.predict_proba(model, words(some, length), 64, pretrained.inputs)

    def save(folder: Path) -> None:
        pretrained.save_classifier(folder, model, words, labels, length)

    return Network(classify, p, history, seen, save, model.count_params(), spent + more)
