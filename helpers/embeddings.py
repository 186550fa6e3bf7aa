"""What 01 and its benchmark share: words counted, and trained by skip-gram."""

import difflib
import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers import InputError, training
from helpers.training import tf

BLOCK, BATCH, NOISE = 64, 16, 32  # tokens a block, blocks a batch, negatives shared by one place of all its blocks
STRETCH, DAMPING = 256, 0.1  # blocks shuffled together: a batch of one document would move the same few rows too far


@dataclass(frozen=True)
class Vectors:
    """``words``, n different ones, the most frequent first where they were counted; ``table`` (n, width) float32."""

    words: list[str]
    table: np.ndarray

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def __contains__(self, word: str) -> bool:
        return word in self._places

    def __getitem__(self, word: str) -> np.ndarray:
        """Returns the vector of a word; the InputError for one without names the nearest spelling."""
        if word in self:
            return self.table[self._places[word]]
        near = difflib.get_close_matches(word, self.words, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "it is too rare in the corpus, or not in it at all."
        raise InputError(f"{word!r} is none of the {len(self.words):,} words with a vector: {hint}")


@dataclass(frozen=True)
class CountedWords:
    """Counted words, and the text as numbers."""

    words: list[str]  # n, the most frequent first
    counts: np.ndarray  # (n,) how often each occurs
    ids: np.ndarray  # (length,) int32: word i is i + 1, rare words are left out, a 0 ends each document
    tokens: int  # words read, the rare ones included


def count_words(documents: Iterable[Sequence[str]], min_count: int = 5, most: int = 100_000) -> CountedWords:
    """Returns the words of tokenised documents, counted, and the documents as one row of numbers.

    Words rarer than ``min_count`` are left out, ``most`` are kept. An InputError says that fewer than two are left.
    """
    documents = list(documents)
    counts = Counter(word for document in documents for word in document)
    words = sorted((w for w in counts if counts[w] >= min_count), key=lambda w: (-counts[w], w))[:most]
    if len(words) < 2:
        told = f"The corpus has {len(counts)} different words, {len(words)} of them {min_count} times or more"
        raise InputError(f"{told}, and two are needed: give more text, or lower MIN_COUNT.")
    places = {word: i for i, word in enumerate(words, 1)}
    rows = ([*(places[word] for word in document if word in places), 0] for document in documents)
    ids = np.fromiter((i for row in rows for i in row), "int32")
    return CountedWords(words, np.array([counts[word] for word in words]), ids, counts.total())


def keep_probability(counts: np.ndarray, sample: float = 1e-3) -> np.ndarray:
    """Returns the chance (n,) that an occurrence of a word is kept: word2vec's subsampling of frequent words."""
    ratio = sample / (counts / counts.sum())
    return np.minimum(np.sqrt(ratio) + ratio, 1.0)


def noise_table(counts: np.ndarray, size: int = 1_000_000) -> np.ndarray:
    """Returns words in proportion to count^0.75 (``size``,) int32: a random entry is a draw of a negative."""
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
        negatives: of a pair.
    """
    pairs = tf.reduce_sum(near, 2, keepdims=True)
    weight = pairs * negatives / tf.cast(tf.shape(noise)[1], tf.float32)
    pull = (1 - tf.sigmoid(tf.matmul(centers, contexts, transpose_b=True))) * near
    turned, weight = tf.transpose(centers, (1, 0, 2)), tf.transpose(weight, (1, 0, 2))
    push = -tf.sigmoid(tf.matmul(turned, noise, transpose_b=True)) * weight
    by_center = tf.matmul(pull, contexts) + tf.transpose(tf.matmul(push, noise), (1, 0, 2))
    return by_center, tf.matmul(pull, centers, transpose_a=True), tf.matmul(push, turned, transpose_a=True)


def train_skipgram(
    corpus: CountedWords, dimensions: int = 100, window: int = 5, negatives: int = 5, epochs: int = 5, seed: int = 0
) -> Vectors:
    """Returns the vectors of the words as centers, in the order of ``corpus.words``, trained with one progress bar.

    Plain gradient steps on skip-gram with negative sampling (Mikolov et al. 2013). A token has at most ``window``
    contexts on each side, a number that is drawn anew each time, and a pair ``negatives`` random words.
    """
    size = len(corpus.words) + 1
    start = np.random.default_rng(seed).uniform(-0.5, 0.5, (size, dimensions)) / dimensions
    centers = tf.Variable(start.astype("float32"))
    contexts = tf.Variable(tf.zeros_like(centers))
    table, random = tf.constant(noise_table(corpus.counts) + 1), tf.random.Generator.from_seed(seed)
    apart = np.abs(np.arange(BLOCK)[:, None] - np.arange(BLOCK))
    apart = tf.constant(np.where(apart, apart, window + 1)[None], tf.float32)

    def move(vectors: Any, rows: Any, moves: Any, terms: Any, rate: Any) -> None:
        """Adds the moves to their rows; a row with many terms in one batch takes a smaller step, lest it overshoot."""
        many = tf.gather(tf.math.unsorted_segment_sum(terms, rows, size), rows)
        moves = tf.reshape(moves, (-1, dimensions)) * (rate / (1 + DAMPING * rate * many))[:, None]
        vectors.scatter_add(tf.IndexedSlices(moves, rows))

    def step(ids: Any, rate: Any) -> None:
        reach, real = tf.floor(random.uniform(tf.shape(ids), 1, window + 1)), tf.cast(ids > 0, tf.float32)
        near = tf.cast(apart <= reach[:, :, None], tf.float32) * real[:, :, None] * real[:, None, :]
        noise = tf.gather(table, random.uniform((BLOCK, NOISE), 0, len(table), tf.int32))
        u, v, n = tf.gather(centers, ids), tf.gather(contexts, ids), tf.gather(contexts, noise)
        by_center, by_context, by_noise = skipgram_gradients(u, v, n, near, negatives)
        rows, pairs = tf.reshape(ids, [-1]), tf.reduce_sum(near, 2)
        own = tf.reshape(pairs, [-1])
        shared = tf.repeat(tf.reduce_sum(pairs, 0) * negatives / NOISE, NOISE)
        move(centers, rows, by_center, own * (1 + negatives), rate)
        others = tf.concat([rows, tf.reshape(noise, [-1])], 0)
        moves = tf.concat([tf.reshape(by_context, [-1]), tf.reshape(by_noise, [-1])], 0)
        move(contexts, others, moves, tf.concat([own, shared], 0), rate)

    number = tf.TensorSpec((), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, BATCH, BLOCK), tf.int32), number, number])
    def train(batches: Any, first: Any, last: Any) -> None:
        count = tf.shape(batches)[0]
        for i in tf.range(count):
            step(batches[i], first + (last - first) * tf.cast(i / count, tf.float32))

    rng, keep = np.random.default_rng(seed), np.append(1.0, keep_probability(corpus.counts)).astype("float32")
    rates = np.linspace(0.025, 1e-4, 10 * epochs + 1, dtype="float32")  # word2vec's
    with training.bar(10 * epochs, "skip-gram") as bar:
        for epoch in range(epochs):
            kept = corpus.ids[rng.random(len(corpus.ids), dtype="float32") < keep[corpus.ids]]
            kept = np.repeat(kept, np.where(kept == 0, window, 1))  # no window reaches over so many zeros
            for piece, part in enumerate(np.array_split(_batches(kept, rng), 10), 10 * epoch):
                train(part, rates[piece], rates[piece + 1])
                bar.update()
    return Vectors(corpus.words, centers.numpy()[1:])


def _batches(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ids as (batches, BATCH, BLOCK), cut at a random offset and filled up with 0, shuffled within stretches."""
    size, start = BATCH * BLOCK, rng.integers(BLOCK)
    padded = np.zeros(-(-(len(ids) + start) // size) * size, dtype="int32")
    padded[start : start + len(ids)] = ids
    blocks = padded.reshape(-1, BLOCK)
    return blocks[np.argsort(np.arange(len(blocks)) // STRETCH + rng.random(len(blocks)))].reshape(-1, BATCH, BLOCK)
