"""Word vectors trained by skip-gram with negative sampling. Taught in notebook 01."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers import InputError
from helpers.embeddings import Vectors
from helpers.training import import_tensorflow

MOST_WORDS = 100_000
BLOCK, BATCH, NOISE = 64, 16, 32  # tokens a block, blocks a batch, negatives shared by one place of all its blocks
STRETCH = 256  # blocks that are shuffled together
DAMPING = 0.1


@dataclass(frozen=True)
class CountedWords:
    """Counted words, and the text as numbers.

    Attributes:
        words: the vocabulary, the most frequent first.
        counts: (n,) how often each occurs.
        ids: (length,) int32: word i is i + 1, rare words are left out, a 0 ends each document.
        tokens: words read, the rare ones included.
    """

    words: list[str]
    counts: np.ndarray
    ids: np.ndarray
    tokens: int


def count_words(documents: Iterable[Sequence[str]], min_count: int = 5, most: int = MOST_WORDS) -> CountedWords:
    """Counts the words of tokenised documents and turns the documents into one row of numbers.

    Args:
        documents: the tokens of each document.
        min_count: rarer words are left out, as if they were not there.
        most: words to keep at most.

    Raises:
        InputError: there are fewer than two words to learn from.

    Examples:
        >>> count_words([["b", "a", "b"], ["a", "b"]], min_count=2).ids.tolist()
        [1, 2, 1, 0, 2, 1, 0]
    """
    documents = list(documents)
    counts = Counter(word for document in documents for word in document)
    words = sorted((w for w in counts if counts[w] >= min_count), key=lambda w: (-counts[w], w))[:most]
    if len(words) < 2:
        raise InputError(
            f"The corpus has {len(counts)} different words, {len(words)} of them {min_count} times or more, and two "
            "are needed: give more text, or lower MIN_COUNT."
        )
    places = {word: i for i, word in enumerate(words, 1)}
    rows = ([*(places[word] for word in document if word in places), 0] for document in documents)
    ids = np.fromiter((i for row in rows for i in row), "int32")
    return CountedWords(words, np.array([counts[word] for word in words]), ids, sum(counts.values()))


def keep_probability(counts: np.ndarray, sample: float = 1e-3) -> np.ndarray:
    """Subsampling of frequent words: the chance (n,) that an occurrence is kept (word2vec)."""
    ratio = sample / (counts / counts.sum())
    return np.minimum(np.sqrt(ratio) + ratio, 1.0)


def noise_table(counts: np.ndarray, size: int = 1_000_000) -> np.ndarray:
    """Words in proportion to count^0.75 (``size``,) int32: a random entry is a draw of a negative."""
    shares = np.cumsum(counts**0.75)
    return np.searchsorted(shares / shares[-1], (np.arange(size) + 0.5) / size).astype("int32")


def skipgram_gradients(centers: Any, contexts: Any, noise: Any, near: Any, negatives: float) -> tuple[Any, Any, Any]:
    """Returns minus the gradients of skip-gram's summed loss by ``centers``, ``contexts`` and ``noise``.

    A pair (u, v) with negatives n has the loss -log s(u.v) - sum log s(-u.n), s the logistic function. The pairs of a
    block are entries of one matrix product, and the tokens at one place of all blocks share their negatives.

    Args:
        centers, contexts: (blocks, length, width) vectors u and v of each token.
        noise: (length, some, width) vectors of random words; each of the ``some`` weighs negatives / some.
        near: (blocks, length, length): 1 where the second token is a context of the first.
        negatives: how many a pair has.
    """
    import tensorflow as tf

    pairs = tf.reduce_sum(near, 2, keepdims=True)
    weight = pairs * negatives / tf.cast(tf.shape(noise)[1], tf.float32)
    pull = (1 - tf.sigmoid(tf.matmul(centers, contexts, transpose_b=True))) * near
    turned, weight = tf.transpose(centers, (1, 0, 2)), tf.transpose(weight, (1, 0, 2))
    push = -tf.sigmoid(tf.matmul(turned, noise, transpose_b=True)) * weight
    by_center = tf.matmul(pull, contexts) + tf.transpose(tf.matmul(push, noise), (1, 0, 2))
    return by_center, tf.matmul(pull, centers, transpose_a=True), tf.matmul(push, turned, transpose_a=True)


class SkipGram:
    """Skip-gram with negative sampling in TensorFlow (Mikolov et al. 2013), plain gradient steps, linear decay.

    Args:
        counts: (n,) of the words, for the negatives.
        dimensions: width of the vectors.
        window: contexts on each side, at most; the number is drawn anew for each token.
        negatives: random words for each pair.
        seed: of the first vectors and of every draw.
    """

    def __init__(self, counts: np.ndarray, dimensions: int, window: int, negatives: int, seed: int) -> None:
        tf = self._tf = import_tensorflow()
        first = np.random.default_rng(seed).uniform(-0.5, 0.5, (len(counts) + 1, dimensions)) / dimensions
        self.centers = tf.Variable(first.astype("float32"))
        self.contexts = tf.Variable(tf.zeros_like(self.centers))
        self._window, self._negatives, self._rows = window, negatives, len(counts) + 1
        self._noise, self._random = tf.constant(noise_table(counts) + 1), tf.random.Generator.from_seed(seed)
        places = np.arange(BLOCK)
        distance = np.abs(places[:, None] - places)
        self._distance = tf.constant(np.where(distance, distance, window + 1)[None], tf.float32)
        self.train = tf.function(self._train, input_signature=[
            tf.TensorSpec((None, BATCH, BLOCK), tf.int32), tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.float32),
        ])  # fmt: skip

    def _train(self, batches: Any, first: Any, last: Any) -> None:
        """Steps over ids (batches, BATCH, BLOCK), the learning rate going from ``first`` to ``last``."""
        tf = self._tf
        count = tf.shape(batches)[0]
        for i in tf.range(count):
            self._step(batches[i], first + (last - first) * tf.cast(i / count, tf.float32))

    def _step(self, ids: Any, rate: Any) -> None:
        tf = self._tf
        near = self._near(ids)
        draws = self._random.uniform((BLOCK, NOISE), 0, len(self._noise), tf.int32)
        noise = tf.gather(self._noise, draws)
        rows, pairs = tf.reshape(ids, [-1]), tf.reduce_sum(near, 2)
        others = tf.concat([rows, tf.reshape(noise, [-1])], 0)
        u, v, n = tf.gather(self.centers, ids), tf.gather(self.contexts, ids), tf.gather(self.contexts, noise)
        by_center, by_context, by_noise = skipgram_gradients(u, v, n, near, self._negatives)
        width = u.shape[-1]
        shared = tf.repeat(tf.reduce_sum(pairs, 0) * self._negatives / NOISE, NOISE)
        own = tf.reshape(pairs, [-1])
        self._move(self.centers, rows, tf.reshape(by_center, (-1, width)), own * (1 + self._negatives), rate)
        moves = tf.concat([tf.reshape(by_context, (-1, width)), tf.reshape(by_noise, (-1, width))], 0)
        self._move(self.contexts, others, moves, tf.concat([own, shared], 0), rate)

    def _near(self, ids: Any) -> Any:
        """Which tokens of a block are contexts of which (blocks, length, length): within the token's own window."""
        tf = self._tf
        window = tf.floor(self._random.uniform(tf.shape(ids), 1, self._window + 1))
        real = tf.cast(ids > 0, tf.float32)
        return tf.cast(self._distance <= window[:, :, None], tf.float32) * real[:, :, None] * real[:, None, :]

    def _move(self, table: Any, rows: Any, moves: Any, terms: Any, rate: Any) -> None:
        """Adds the moves to their rows; a row with many terms in one batch takes a smaller step, lest it overshoot."""
        tf = self._tf
        many = tf.gather(tf.math.unsorted_segment_sum(terms, rows, self._rows), rows)
        table.scatter_add(tf.IndexedSlices(moves * (rate / (1 + DAMPING * rate * many))[:, None], rows))


def train_skipgram(
    corpus: CountedWords, dimensions: int = 100, window: int = 5, negatives: int = 5, epochs: int = 5, seed: int = 0,
    rate: float = 0.025, label: str = "skip-gram",
) -> Vectors:  # fmt: skip
    """Trains word vectors with one progress bar; the learning rate goes from ``rate`` down to 0.0001 linearly.

    Args:
        corpus: see :func:`count_words`.
        dimensions, window, negatives, seed: see :class:`SkipGram`.
        epochs: passes over the corpus.
        rate: the learning rate at first.
        label: the name beside the bar.

    Returns:
        The vectors of the words as centers, in the order of ``corpus.words``.
    """
    from helpers.progress import Bar

    model = SkipGram(corpus.counts, dimensions, window, negatives, seed)
    rng, keep = np.random.default_rng(seed), np.append(1.0, keep_probability(corpus.counts)).astype("float32")
    rates, pieces = np.linspace(rate, 1e-4, 10 * epochs + 1, dtype="float32"), 0
    with Bar(10 * epochs, label) as bar:
        for _ in range(epochs):
            kept = corpus.ids[rng.random(len(corpus.ids), dtype="float32") < keep[corpus.ids]]
            kept = np.repeat(kept, np.where(kept == 0, window, 1))  # no window reaches over so many zeros
            for piece in np.array_split(_batches(kept, rng), 10):
                model.train(piece, rates[pieces], rates[pieces + 1])
                pieces += 1
                bar.step(f"learning rate {rates[pieces]:.4f}")
    return Vectors(corpus.words, model.centers.numpy()[1:])


def _batches(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ids as (batches, BATCH, BLOCK), cut at a random offset and filled up with 0.

    Blocks are shuffled within stretches: a batch of one document would move the same few rows too far at once.
    """
    size, start = BATCH * BLOCK, rng.integers(BLOCK)
    padded = np.zeros(-(-(len(ids) + start) // size) * size, dtype="int32")
    padded[start : start + len(ids)] = ids
    blocks = padded.reshape(-1, BLOCK)
    order = np.argsort(np.arange(len(blocks)) // STRETCH + rng.random(len(blocks)))
    return blocks[order].reshape(-1, BATCH, BLOCK)
