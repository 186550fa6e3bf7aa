"""Tokens a second of our LSTM training against the plain way: same text, vocabulary, vectors and state, one run.

Plain: each line, cut to 100 tokens, padded to the longest, ``model.fit`` on one-hot targets, a softmax layer of its
own, no compilation.
Ours: contiguous batches, tied softmax, compiled (:class:`helpers.language_models.Neural`). Only real tokens count.
With a folder such as PTB's the Kneser-Ney figures of its test part follow.
Usage: ``python benchmarks/language_model_speed.py [folder]``; a slice of the installed docstrings otherwise.
"""

import sys
import time

import numpy as np

from helpers import language_models as lm
from helpers import training

UNITS, BATCH, LENGTH, LONGEST, PLAIN_BATCHES, EPOCHS = 128, 32, 35, 100, 4, 2


def seconds(call):
    """Wall time and CPU time of both cores together divided by two, of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return np.array([time.perf_counter() - wall, (time.process_time() - cpu) / 2])


def plain_rate(keras, corpus):
    """Real tokens a second of ``model.fit`` on padded lines and one-hot targets, after a first call that traces."""
    layers, size = keras.layers, len(corpus.vocabulary)
    lines = np.split(corpus.train, np.flatnonzero(corpus.train == 0) + 1)[: BATCH * PLAIN_BATCHES]
    lines = [line[:LONGEST] for line in lines]
    longest = max(map(len, lines))
    targets = np.stack([np.pad(line, (0, longest - len(line))) for line in lines])
    inputs = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    model = keras.Sequential(
        [layers.Embedding(size, UNITS), layers.LSTM(UNITS, return_sequences=True), layers.Dense(size, "softmax")]
    )
    model.compile("adam", "categorical_crossentropy")
    one_hot = keras.utils.to_categorical(targets, size)
    model.fit(inputs[:BATCH], one_hot[:BATCH], batch_size=BATCH, verbose=0)
    took = seconds(lambda: model.fit(inputs, one_hot, batch_size=BATCH, verbose=0))
    return sum(map(len, lines)) / took, longest


def our_rate(keras, corpus):
    """Tokens a second of our training, validation left out of the text but not of the time."""
    layers, size = keras.layers, len(corpus.vocabulary)
    ids = keras.Input((None,), dtype="int32")
    embedding, states = layers.ReversibleEmbedding(size, UNITS), [keras.Input((UNITS,)) for _ in range(2)]
    cell = layers.LSTM(UNITS, return_sequences=True, return_state=True)
    found, *after = cell(embedding(ids), initial_state=states)
    model = lm.Neural(keras.Model([ids, *states], [embedding(found, reverse=True), *after]), LENGTH)
    text = corpus.train[: BATCH * LENGTH * 40]

    def fit(epochs):
        return seconds(lambda: model.fit(lambda e: lm.contiguous(text, BATCH, LENGTH), text[:1000], epochs, "", 0.001))

    return len(text) * EPOCHS / (fit(EPOCHS + 1) - fit(1))


def kneser_ney(corpus):
    """Test perplexity of order 5, as one stream and with each sentence alone."""
    for pad in (False, True):
        models = []
        took = seconds(lambda p=pad, m=models: m.append(lm.KneserNey(corpus.train, 5, len(corpus.vocabulary), pad=p)))
        value = lm.perplexity(models[0].log_probabilities(corpus.test))
        print(f"Kneser-Ney, order 5, {'each sentence alone' if pad else 'one stream'}: {value:.2f}, {took[0]:.1f} s")


def main():
    """Prints rates, their ratio, and the counting figures of a folder."""
    training.import_tensorflow()
    import keras

    given = sys.argv[1] if len(sys.argv) > 1 else ""
    unit = "space" if given else "word"
    parts = lm.read_parts(given or "python_docs", unit=unit, share=1.0 if given else 0.1)
    corpus = lm.build_corpus(parts, unit, 10_000 if given else 5000)
    keras.utils.set_random_seed(0)
    (plain, longest), ours = plain_rate(keras, corpus), our_rate(keras, corpus)
    print(f"{len(corpus.vocabulary)} words, {UNITS} units; lines padded to {longest} tokens")
    for name, i in (("wall", 0), ("CPU / 2", 1)):
        print(f"tokens a second, {name}: plain {plain[i]:.0f}, ours {ours[i]:.0f}; ratio {ours[i] / plain[i]:.1f}")
    if given:
        kneser_ney(corpus)


if __name__ == "__main__":
    main()
