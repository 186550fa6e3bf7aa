"""Tokens a second of our LSTM training against the plain way: same text, vocabulary, vectors and state, one run.

Plain: each line, cut to 100 tokens, padded to the longest, ``model.fit`` on one-hot targets, a softmax layer of its
own. Ours: windows of one stream and a tied softmax (:func:`helpers.language_models.windows`). Only real tokens count.
With a folder such as PTB's the Kneser-Ney figure of its test part follows.
Usage: ``python benchmarks/language_model_speed.py [folder]``; a slice of the installed docstrings otherwise.
"""

import sys
import time

import numpy as np

from helpers import corpus, training
from helpers import language_models as lm

UNITS, BATCH, LENGTH, LONGEST, PLAIN_BATCHES, STEPS = 128, 16, 64, 100, 4, 40


def rates(model, x, y, tokens):
    """Tokens a second by wall time and by CPU time of two cores, of a pass after a first one that traces."""
    model.fit(x[:BATCH], y[:BATCH], batch_size=BATCH, verbose=0)
    wall, cpu = time.perf_counter(), time.process_time()
    model.fit(x, y, batch_size=BATCH, verbose=0)
    return tokens / np.array([time.perf_counter() - wall, (time.process_time() - cpu) / 2])


def plain_rate(keras, train, size):
    """Rates on padded lines and one-hot targets."""
    lines = [line[:LONGEST] for line in np.split(train, np.flatnonzero(train == 0) + 1)[: BATCH * PLAIN_BATCHES]]
    targets = np.stack([np.pad(line, (0, max(map(len, lines)) - len(line))) for line in lines])
    layers = keras.layers
    model = keras.Sequential(
        [layers.Embedding(size, UNITS), layers.LSTM(UNITS, return_sequences=True), layers.Dense(size, "softmax")]
    )
    model.compile("adam", "categorical_crossentropy")
    inputs = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    return rates(model, inputs, keras.utils.to_categorical(targets, size), sum(map(len, lines)))


def our_rate(keras, train, size):
    """Rates on windows and ids as targets."""
    ids, vectors = keras.Input((None,), dtype="int32"), keras.layers.ReversibleEmbedding(size, UNITS)
    states = keras.layers.LSTM(UNITS, return_sequences=True)(vectors(ids))
    model = keras.Model(ids, vectors(states, reverse=True))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = lm.windows(train[: BATCH * LENGTH * STEPS + 1], BATCH, LENGTH)
    x, y = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*batches, strict=True))
    return rates(model, x, y, x.size)


def main():
    """Prints rates, their ratio, and the counting figure of a folder."""
    training.import_tensorflow()
    import keras

    given = sys.argv[1] if len(sys.argv) > 1 else ""
    if given:
        parts = lm.read_folder(given)
    else:
        documents = corpus.python_docs()[::10]
        parts = {"test": documents[:200], "validation": documents[200:400], "train": documents[400:]}
    streams, vocabulary = lm.to_streams(parts, "space" if given else "word", 10_000 if given else 5000)
    keras.utils.set_random_seed(0)
    plain, ours = (rate(keras, streams["train"], len(vocabulary)) for rate in (plain_rate, our_rate))
    print(f"{len(vocabulary)} words, {UNITS} units")
    for name, i in (("wall", 0), ("CPU / 2", 1)):
        print(f"tokens a second, {name}: plain {plain[i]:.0f}, ours {ours[i]:.0f}; ratio {ours[i] / plain[i]:.1f}")
    if given:
        model = lm.KneserNey(streams["train"], 5, len(vocabulary))
        print(f"Kneser-Ney, order 5: {np.exp(-model.log_probabilities(streams['test']).mean()):.2f}")


if __name__ == "__main__":
    main()
