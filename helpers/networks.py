"""The networks of "which model should I use?": an LSTM from scratch and a fine-tuned BERT, within a time that is given.

Epochs are timed on this machine. Taught in notebooks 03, 04 and 06.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from helpers import InputError, pretrained, text, training
from helpers.training import keras

LSTM_EPOCHS, LEAST_EPOCHS, MOST_TOKENS = 25, 3, 200
BERT_RATE, BERT_EPOCHS, BERT_BATCH = 1e-4, 4, 16
SLACK = 30  # seconds that BERT's only pass, or its training on all rows, may last beyond its time: half of 06's minute


class Network:
    """A network, which ``save(folder)`` keeps for :mod:`helpers.predict`.

    It learned in ``seconds``, with the ``history`` of :func:`helpers.training.fit`, from so many ``texts``: with the
    held-out ones, if the time was enough; ``held`` are its probabilities (n, classes) of these from before.
    """

    def __init__(
        self, model: keras.Model, encode: Callable[[Sequence[str]], np.ndarray], how: tuple, batches: Callable,
        save: Callable[[Path], None],
    ) -> None:  # fmt: skip
        """Takes what makes ids of texts, and batches of ids and classes, and ``how`` ids are classified."""
        self._model, self._encode, self._how, self._batches, self.save = model, encode, how, batches, save

    def classify(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the probabilities (n, classes) of n texts."""
        return training.predict_proba(self._model, self._encode(texts), *self._how)

    def epoch_seconds(self, batches: Any) -> float:
        """Returns the seconds of an epoch of these batches, from eight of them; then all is as it was."""
        training.build(self._model, batches)
        self._start = [np.array(variable) for variable in training.variables(self._model)]
        self._model.fit(batches.take(2), epochs=1, verbose=0, shuffle=False)
        clock = time.monotonic()
        self._model.fit(batches.take(8), epochs=1, verbose=0, shuffle=False)
        spent = time.monotonic() - clock
        self._restart()
        return spent / min(8, len(batches)) * len(batches)

    def _restart(self) -> None:
        """Puts weights and optimizer back: compiled anew, each training would be translated into a graph again."""
        for variable, value in zip(training.variables(self._model), self._start, strict=True):
            variable.assign(value)

    def learn(
        self, name: str, first: Any, rows: Sequence[np.ndarray], held: Sequence[np.ndarray], held_batches: Any,
        epochs: int, patience: int, end: float,
    ) -> Network:  # fmt: skip
        """Trains on the batches ``first``, then anew on all rows for as many epochs as were best; returns itself.

        ``rows`` and ``held`` are ids and classes; without the second if that would last beyond ``end`` (monotonic).
        """
        (ids, y), (others, y_others), model = rows, held, self._model
        self.history = training.fit(model, first, held_batches, epochs, name, patience)
        self.held = training.predict_proba(model, others, *self._how)
        self.seconds, self.texts = self.history["seconds"].iloc[-1], len(ids)
        best, spent = int(self.history["val_accuracy"].argmax()) + 1, 0.9 * self.seconds  # none is held out
        if time.monotonic() + spent * best / len(self.history) * (1 + len(others) / len(ids)) <= end:
            self._restart()
            both = training.pad([*ids, *others], max(ids.shape[1], others.shape[1]))
            batches = self._batches(both, np.r_[y, y_others])
            again = training.fit(model, batches, None, best, f"{name}, all rows", monitor="loss")
            self.seconds, self.texts = self.seconds + again["seconds"].iloc[-1], len(both)
        return self


def fit_lstm(
    texts: Sequence[str], y: np.ndarray, held_texts: Sequence[str], y_held: np.ndarray, unit: str, labels: list[str],
    seconds: float, seed: int,
) -> Network:  # fmt: skip
    """Trains a bidirectional LSTM on all texts, stopped by the accuracy on the held-out ones, then on these too.

    ``y`` and ``y_held`` are classes, from 0; ``labels`` are their names; ``seed`` decides initial weights and order.
    An InputError says that fewer than three epochs fit, or that it diverged.
    """
    end = time.monotonic() + seconds
    cut = [text.tokenize(t, unit) for t in texts]
    counts = Counter(token for tokens in cut for token in tokens)
    vocabulary = ["", "[UNK]", *(token for token, _ in counts.most_common(20_000))]
    length = int(np.clip(np.quantile([len(tokens) for tokens in cut], 0.95), 8, MOST_TOKENS))
    keras.utils.set_random_seed(seed)
    parts = [
        keras.Input((None,), dtype="int32"),
        keras.layers.Embedding(len(vocabulary), 128, mask_zero=True),
        keras.layers.SpatialDropout1D(0.4),
        keras.layers.Bidirectional(keras.layers.LSTM(64, return_sequences=True)),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(len(labels), activation="softmax"),
    ]
    model = keras.Sequential(parts)
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
    batches = partial(training.bucketed, batch_size=32, seed=seed)
    read = {"vocabulary": vocabulary, "unit": unit, "length": length}
    encode = partial(training.encode, **read)
    bare = keras.Sequential(parts)  # the same layers, saved without the optimizer's state
    save = partial(training.save_classifier, model=bare, labels=labels, **read)
    network = Network(model, encode, (), batches, save)
    rows, held = (encode(texts), y.astype("int32")), (encode(held_texts), y_held.astype("int32"))
    first = batches(*rows)
    each = network.epoch_seconds(first)
    if LEAST_EPOCHS * each > seconds:
        raise InputError(f"three epochs need {LEAST_EPOCHS * each:.0f} s, it has {seconds:.0f} s: give more MINUTES")
    epochs = int(min(LSTM_EPOCHS, seconds / each))
    return network.learn("lstm", first, rows, held, training.bucketed(*held, 256), epochs, 6, end)


def fit_bert(
    preset: str, ids: np.ndarray, y: np.ndarray, held_ids: np.ndarray, y_held: np.ndarray, others: int,
    words: Any, labels: list[str], head: Sequence[np.ndarray] | None, seconds: float, seed: int,
) -> Network:  # fmt: skip
    """Fine-tunes a pretrained BERT, chooses the best epoch by validation accuracy, then trains on all rows as long.

    The time decides how many epochs there are, or on how many rows one epoch is, and whether there is time for both.
    An InputError says that not even a fair sample of the rows fits into one epoch, or that it diverged.

    Args:
        ids, y: word pieces (n, length) that ``words`` made, and the classes; the other rows as in :func:`fit_lstm`.
        others: how many texts will be read once after training, in the same time.
        head: kernel (width, classes) and bias (classes,) of a regression on the frozen encoder's unit vectors, fitted
            on the same rows: where the training starts. None: at random, and the head reads [CLS].
    """
    keras.utils.set_random_seed(seed)
    clock = time.monotonic()
    model, _ = pretrained.classifier(preset, len(labels), dropout=0.1, pooling="mean" if head else "first")
    if head:
        model.output_dense.set_weights(head)
    model.backbone.token_embedding.trainable = False  # half of all weights: AdamW would move them all in each step
    y, y_held, length = y.astype("int32"), y_held.astype("int32"), max(ids.shape[1], 16)  # as 06
    epochs, steps = BERT_EPOCHS, keras.Variable(1.0, trainable=False)  # of the schedule, at first of the steps timed
    pretrained.compile_adamw(model, BERT_RATE, steps)

    def batches(ids: np.ndarray, y: np.ndarray) -> Any:
        steps.assign(epochs * -(-len(ids) // BERT_BATCH))
        return pretrained.batches(ids, y, BERT_BATCH, seed)

    save = partial(pretrained.save_classifier, model=model, words=words, labels=labels, length=length)
    network = Network(model, partial(words, length=length), (64, pretrained.inputs), batches, save)
    learn = network.epoch_seconds(batches(ids, y))
    read = 0.4 * learn / len(ids)  # a text forward only takes about this share of a step
    end = clock + seconds - 1.2 * read * others - 6
    available, each = end - time.monotonic(), learn + read * len(held_ids)
    twice = each + learn * (1 + len(held_ids) / len(ids))  # an epoch now, and one on all rows
    both = available + SLACK > 2 * twice  # at least two epochs of both, or all the time for the first
    epochs = max(available / twice, 2) if both else available / each
    epochs, end = int(min(BERT_EPOCHS, epochs)), end + SLACK
    if epochs < 1:
        share = int((available + SLACK - read * len(held_ids)) / learn * len(ids))
        if share < max(20 * len(labels), 500):
            needed = f"{each:.0f} s" if each < 90 else f"{each / 60:.0f} min"
            left = f"{max(available, 0):.0f} s are left for it"
            raise InputError(f"one pass over all texts needs about {needed}, {left}: give more MINUTES")
        rows, epochs, end = np.sort(np.random.default_rng(seed).permutation(len(ids))[:share]), 1, -np.inf
        ids, y = ids[rows], y[rows]
    held = pretrained.batches(held_ids, y_held, 64)
    return network.learn("bert", batches(ids, y), (ids, y), (held_ids, y_held), held, epochs, epochs, end)
