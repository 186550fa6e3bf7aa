"""Vectors of words and texts: searched exactly, trained by skip-gram, kept in word2vec's format. Notebook 01."""

from __future__ import annotations

import difflib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers import InputError, tables, training
from helpers.files import write_atomic

BLOCK, BATCH, NOISE = 64, 16, 32  # tokens a block, blocks a batch, negatives shared by one place of all its blocks
STRETCH = 256  # blocks that are shuffled together: a batch of one document would move the same few rows too far
DAMPING = 0.1


@dataclass(frozen=True)
class Vectors:
    """``words``, n different ones, the most frequent first where they were counted; ``table`` (n, width) float32."""

    words: list[str]
    table: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {word: i for i, word in enumerate(self.words)})

    def __contains__(self, word: str) -> bool:
        return word in self._places

    def __getitem__(self, word: str) -> np.ndarray:
        """Returns the vector of a word; the InputError for one without names the nearest spelling."""
        if word in self:
            return self.table[self._places[word]]
        near = difflib.get_close_matches(word, self.words, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "it is too rare in the corpus, or not in it at all."
        raise InputError(f"{word!r} is none of the {len(self.words):,} words with a vector: {hint}")

    def neighbours(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """Returns the ``k`` words with the largest cosine to ``word``, itself left out, with that cosine."""
        return self._near(self[word], [word], k)

    def analogy(self, a: str, b: str, c: str, k: int = 1) -> list[tuple[str, float]]:
        """Returns the answers to "``a`` is to ``b`` as ``c`` is to ...?" by 3CosAdd: nearest to b - a + c.

        All three have unit length and are no answers themselves (Mikolov et al. 2013; Levy and Goldberg 2014).
        """
        first, second, third = unit_length(np.stack([self[a], self[b], self[c]]))
        return self._near(second - first + third, [a, b, c], k)

    def _near(self, query: np.ndarray, exclude: Sequence[str], k: int) -> list[tuple[str, float]]:
        found, similarities = nearest(query[None], self.table, k + len(set(exclude)))
        pairs = [(self.words[i], float(s)) for i, s in zip(found[0], similarities[0], strict=True)]
        return [(word, s) for word, s in pairs if word not in exclude][:k]


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Returns the rows (n, width) divided by their length, float64; a row of zeros stays so.

    Examples:
        >>> unit_length([[3, 4], [0, 0]]).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    vectors = np.asarray(vectors, dtype="float64")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the cosines (n, m) of the rows of a (n, width) and b (m, width); 0 where a row is all zeros.

    Examples:
        >>> cosine([[1, 2, 3]], [[4, 5, 6]]).round(4).tolist()
        [[0.9746]]
    """
    return unit_length(a) @ unit_length(b).T


def nearest(queries: np.ndarray, vectors: np.ndarray, k: int = 10, chunk: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """Returns which ``k`` rows of ``vectors`` (n, width) have the largest cosine to each query (q, width).

    All are compared, ``chunk`` rows at a time, so that a memory map will do.

    Returns:
        Row numbers (q, k), best first, and cosines (q, k), float64; all n where there are fewer than ``k``.

    Examples:
        >>> nearest([[1, 0]], [[0, 1], [1, 1], [2, 0]], k=2)[0].tolist()
        [[2, 1]]
    """
    vectors = np.asanyarray(vectors)
    queries, k = unit_length(np.reshape(queries, (-1, vectors.shape[1]))), min(k, len(vectors))
    rows, best = np.zeros((len(queries), k), dtype="int64"), np.full((len(queries), k), -np.inf)
    for q in range(0, len(queries), 512):
        part = slice(q, q + 512)
        for start in range(0, len(vectors), chunk):
            found = queries[part] @ unit_length(vectors[start : start + chunk]).T
            top = np.argpartition(-found, min(k, found.shape[1]) - 1, axis=1)[:, :k]
            both = np.hstack([best[part], np.take_along_axis(found, top, axis=1)])
            places = np.hstack([rows[part], top + start])
            order = np.lexsort((places, -both), axis=1)[:, :k]
            rows[part], best[part] = (np.take_along_axis(a, order, axis=1) for a in (places, both))
    return rows, best


def read_scored_pairs(path: str) -> pd.DataFrame:
    """Returns pairs of words or sentences with a score by people, such as WordSim-353: ``first, second, score``.

    The file is a CSV without header, or lines of ``word word score`` apart by white space, without those that begin
    with #.

    Raises:
        InputError: no such file, or a row that is not text, text, number.
    """
    file, names = tables.find_file(path), ["first", "second", "score"]
    content = tables.decode(file.read_bytes(), path)[0]
    if "," not in content:
        content = "\n".join(",".join(line.split()) for line in content.splitlines() if not line.startswith("#"))
    try:
        pairs = pd.read_csv(io.StringIO(content), header=None, names=names, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{file.name} is no readable CSV ({' '.join(str(error).split())}): mend it.") from None
    pairs["score"] = pd.to_numeric(pairs["score"], errors="coerce")
    bad = pairs.index[pairs["score"].isna()]
    if len(bad) or len(pairs) < 2:
        where = f"pair {bad[0] + 1} of {file.name} is" if len(bad) else f"{file.name} has one pair or none,"
        raise InputError(f"{where} not text, text, number: give two rows or more, each with these three.")
    return pairs


def save_word2vec(path: Path, vectors: Vectors) -> None:
    """Writes word2vec's text format, which gensim and others read: ``n width``, then a word and its numbers a line."""
    if bad := next((w for w in vectors.words if not w or w != "".join(w.split())), None):
        raise InputError(f"The word {bad!r} holds white space, which word2vec's text format cannot keep: rename it.")
    rows = (" ".join(map("{:.9g}".format, row)) for row in vectors.table.tolist())  # nine digits keep a float32
    lines = (f"{word} {row}" for word, row in zip(vectors.words, rows, strict=True))
    write_atomic(path, "\n".join([f"{len(vectors.words)} {vectors.table.shape[1]}", *lines, ""]))


def load_word2vec(path: str | Path) -> Vectors:
    """Returns what a file in word2vec's text format holds; an InputError names the line that is not in it."""
    file, words, rows, number = Path(path), [], [], 1
    lines = file.read_text("utf-8", "replace").rstrip("\n").split("\n")
    try:
        count, width = map(int, lines[0].split())
        for number, line in enumerate(lines[1:], 2):  # noqa: B007
            word, *numbers = line.rstrip(" ").rsplit(" ", width)
            words.append(word)
            rows.append(np.array(numbers, dtype="float32"))
        return Vectors(words, np.stack(rows).reshape(count, width))
    except (ValueError, IndexError):
        needs = "it needs a line with the number of words and the width, then a word and so many numbers in each line"
        raise InputError(f"{file.name} is not in word2vec's text format (line {number}): {needs}.") from None


@dataclass(frozen=True)
class CountedWords:
    """Counted words, and the text as numbers."""

    words: list[str]  # n, the most frequent first
    counts: np.ndarray  # (n,) how often each occurs
    ids: np.ndarray  # (length,) int32: word i is i + 1, rare words are left out, a 0 ends each document
    tokens: int  # words read, the rare ones included


def count_words(documents: Iterable[Sequence[str]], min_count: int = 5, most: int = 100_000) -> CountedWords:
    """Returns the words of tokenised documents, counted, and the documents as one row of numbers.

    Words rarer than ``min_count`` are left out, as if they were not there; ``most`` are kept.

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
    import tensorflow as tf

    pairs = tf.reduce_sum(near, 2, keepdims=True)
    weight = pairs * negatives / tf.cast(tf.shape(noise)[1], tf.float32)
    pull = (1 - tf.sigmoid(tf.matmul(centers, contexts, transpose_b=True))) * near
    turned, weight = tf.transpose(centers, (1, 0, 2)), tf.transpose(weight, (1, 0, 2))
    push = -tf.sigmoid(tf.matmul(turned, noise, transpose_b=True)) * weight
    by_center = tf.matmul(pull, contexts) + tf.transpose(tf.matmul(push, noise), (1, 0, 2))
    return by_center, tf.matmul(pull, centers, transpose_a=True), tf.matmul(push, turned, transpose_a=True)


def train_skipgram(
    corpus: CountedWords,
    dimensions: int = 100,
    window: int = 5,
    negatives: int = 5,
    epochs: int = 5,
    seed: int = 0,
    rate: float = 0.025,
) -> Vectors:
    """Returns the vectors of the words as centers, in the order of ``corpus.words``, trained with one progress bar.

    Plain gradient steps on skip-gram with negative sampling (Mikolov et al. 2013).

    Args:
        corpus: see :func:`count_words`.
        dimensions: width of the vectors.
        window: contexts on each side, at most; the number is drawn anew for each token.
        negatives: random words for each pair.
        epochs, seed: passes over the corpus; of the first vectors and of every draw.
        rate: the learning rate at first; it falls to 0.0001 linearly.
    """
    tf = training.import_tensorflow()
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
    rates = np.linspace(rate, 1e-4, 10 * epochs + 1, dtype="float32")
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
    order = np.argsort(np.arange(len(blocks)) // STRETCH + rng.random(len(blocks)))
    return blocks[order].reshape(-1, BATCH, BLOCK)
