"""Seconds an epoch of our LSTM training against the plain way, same model, same texts, one run on this machine.

Plain: every text padded to 100 tokens, ``model.fit`` on arrays, no compilation. Ours: batches of like length
(:func:`helpers.training.bucketed`). Usage: ``python benchmarks/lstm_speed.py [train.csv]`` with short texts such as
TREC-6; the shipped English news otherwise.
"""

import sys
import time

import numpy as np

from helpers import data, text, training

EPOCHS, LENGTH, BATCH = 4, 100, 32


def build(keras, words, classes):
    """The documents' LSTM with mask, freshly initialised."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(words, 64, mask_zero=True),
            keras.layers.LSTM(128),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model


def seconds_per_epoch(keras, model, *arguments, **options):
    """Median seconds of the epochs after the first, which includes tracing."""
    stamps = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda e, logs: stamps.append(time.perf_counter()),
        on_epoch_end=lambda e, logs: stamps.append(time.perf_counter()),
    )
    model.fit(*arguments, epochs=EPOCHS, verbose=0, callbacks=[note], **options)
    return float(np.median(np.diff(stamps)[::2][1:]))


def main():
    """Prints both times and their ratio."""
    training.import_tensorflow()
    import keras

    splits = data.load(sys.argv[1] if len(sys.argv) > 1 else "news_en")
    unit = text.guess_unit(splits.train["text"])
    words = sorted({token for t in splits.train["text"] for token in text.tokenize(t, unit)})
    ids = training.encode(splits.train["text"], ["", "[UNK]", *words], unit, LENGTH)
    targets = np.searchsorted(splits.labels, splits.train["label"]).astype("int32")
    size = (len(words) + 2, len(splits.labels))
    plain = seconds_per_epoch(keras, build(keras, *size), ids, targets, batch_size=BATCH)
    batches = training.bucketed(ids, targets, BATCH, 0)
    ours = seconds_per_epoch(keras, build(keras, *size), batches, shuffle=False)
    print(f"{splits.name}: {len(ids)} texts, mean length {(ids != 0).sum(1).mean():.1f} tokens")
    print(f"padded to {LENGTH}: {plain:.2f} s an epoch; by length: {ours:.2f} s; ratio {plain / ours:.1f}")


if __name__ == "__main__":
    main()
