"""Texts a second: fine-tuning and encoding by length against fixed padding, one process, same weights and texts.

The documents pad every text to 128 word pieces for fine-tuning; for encoding, fixed padding to 64 is the comparison.
"""

import time

import numpy as np

from helpers import data, pretrained, training

TEXTS, BATCH, EPOCHS = 160, 16, 2


def fixed(ids, targets, length):
    """Batches padded to one length."""
    tf = training.import_tensorflow()
    rows = tf.data.Dataset.from_tensor_slices((training.pad(ids, length), targets))
    return rows.shuffle(1000, seed=0).batch(BATCH).map(lambda i, y: (pretrained.inputs(i), y))


def fit_rate(model, batches):
    """Texts a second in the epochs after the first, which includes tracing."""
    pretrained.compile_adamw(model, 1e-4, 1000)
    model.fit(batches, epochs=1, verbose=0, shuffle=False)
    start = time.perf_counter()
    model.fit(batches, epochs=EPOCHS, verbose=0, shuffle=False)
    return TEXTS * EPOCHS / (time.perf_counter() - start)


def encode_rate(encode, count):
    """Texts a second of the second call."""
    encode()
    start = time.perf_counter()
    encode()
    return count / (time.perf_counter() - start)


def main():
    """Prints the rates and their ratios."""
    news, _ = data.read_labelled("news_en")
    backbone, words = pretrained.load()
    ids = words(news["text"], 128)
    targets = np.searchsorted(sorted(set(news["label"])), news["label"]).astype("int32")[:TEXTS]
    rates = {}
    for name, batches in {
        "padded to 128": fixed(ids[:TEXTS], targets, 128),
        "by length": pretrained.batches(ids[:TEXTS], targets, BATCH, 0),
    }.items():
        rates[name] = fit_rate(pretrained.classifier("minilm", 10)[0], batches)
    print("fine-tuning, texts a second:", {k: round(v, 1) for k, v in rates.items()})
    print(f"ratio {rates['by length'] / rates['padded to 128']:.1f}")
    padded, pooled = training.pad(ids, 64), pretrained.pooling(backbone)
    by_length = encode_rate(lambda: pretrained.encode_ids(backbone, ids), len(ids))
    plain = encode_rate(lambda: [pooled(padded[i : i + 64]) for i in range(0, len(ids), 64)], len(ids))
    print(
        f"encoding, texts a second: padded to 64 {plain:.0f}, by length {by_length:.0f}; ratio {by_length / plain:.1f}"
    )


if __name__ == "__main__":
    main()
