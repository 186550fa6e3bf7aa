"""Word and sentence vectors: trained by skip-gram, searched exactly, judged on word pairs, kept in word2vec's format.

Taught in ``01_embeddings_and_similarity``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helpers import InputError
from helpers.training import import_tensorflow

MOST_WORDS = 100_000


# ---------------------------------------------------------------- words and their vectors


@dataclass(frozen=True)
class Vectors:
    """Words with a vector each.

    Attributes:
        words: n different words, the most frequent first where they were counted.
        table: (n, width) float32.
    """

    words: list[str]
    table: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {word: i for i, word in enumerate(self.words)})

    def __contains__(self, word: str) -> bool:
        return word in self._places

    def place(self, word: str) -> int:
        """The row of a word.

        Raises:
            InputError: the word has no vector; the sentence names the nearest spelling.
        """
        if word in self._places:
            return self._places[word]
        import difflib

        near = difflib.get_close_matches(word, self.words, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "it is too rare in the corpus, or not in it at all."
        raise InputError(f"{word!r} is none of the {len(self.words):,} words with a vector: {hint}")

    def __getitem__(self, word: str) -> np.ndarray:
        return self.table[self.place(word)]

    def neighbours(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """The ``k`` words with the largest cosine to ``word``, itself excluded, with that cosine."""
        place = self.place(word)
        return self._named(self.table[place], [place], k)

    def analogy(self, a: str, b: str, c: str, k: int = 1) -> list[tuple[str, float]]:
        """Answers "``a`` is to ``b`` as ``c`` is to ...?" by 3CosAdd: nearest to b - a + c, all of unit length.

        The three question words are excluded (Mikolov et al. 2013; Levy and Goldberg 2014).
        """
        places = [self.place(word) for word in (a, b, c)]
        first, second, third = unit_length(self.table[places])
        return self._named(second - first + third, places, k)

    def _named(self, query: np.ndarray, exclude: list[int], k: int) -> list[tuple[str, float]]:
        found, similarities = nearest(query[None], self.table, k + len(set(exclude)))
        pairs = zip(found[0], similarities[0], strict=True)
        return [(self.words[i], float(s)) for i, s in pairs if i not in exclude][:k]


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Rows (n, width) divided by their length; a row of zeros stays so."""
    vectors = np.asarray(vectors, dtype="float64")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines (n, m), float64, of the rows of a (n, width) and b (m, width); 0 where a row is all zeros."""
    return unit_length(a) @ unit_length(b).T


# ---------------------------------------------------------------- skip-gram

BLOCK, BATCH, NOISE = 64, 16, 32  # tokens a block, blocks a batch, negatives shared by one place of all its blocks
STRETCH = 256  # blocks that are shuffled together
DAMPING = 0.1


@dataclass(frozen=True)
class Corpus:
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


def count_words(documents: Iterable[Sequence[str]], min_count: int = 5, most: int = MOST_WORDS) -> Corpus:
    """Counts the words of tokenised documents and turns the documents into one row of numbers.

    Args:
        documents: the tokens of each document.
        min_count: rarer words are left out, as if they were not there.
        most: words to keep at most.

    Raises:
        InputError: there are fewer than two words to learn from.
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
    return Corpus(words, np.array([counts[word] for word in words]), ids, sum(counts.values()))


def keep_probability(counts: np.ndarray, sample: float = 1e-3) -> np.ndarray:
    """Subsampling of frequent words: the chance (n,) that an occurrence is kept (word2vec)."""
    ratio = sample / (counts / counts.sum())
    return np.minimum(np.sqrt(ratio) + ratio, 1.0)


def noise_table(counts: np.ndarray, size: int = 1_000_000) -> np.ndarray:
    """Words in proportion to count^0.75 (``size``,) int32: a random entry is a draw of a negative."""
    shares = np.cumsum(counts**0.75)
    return np.searchsorted(shares / shares[-1], (np.arange(size) + 0.5) / size).astype("int32")


def skipgram_gradients(centers: Any, contexts: Any, noise: Any, near: Any, negatives: float) -> tuple[Any, Any, Any]:
    """The directions in which skip-gram with negative sampling moves vectors, for all pairs of a batch at once.

    For a pair (u, v) and its negatives n the loss is -log s(u.v) - sum log s(-u.n), s the logistic function. Its
    gradients are (s - 1) v and s n for u. Here the pairs of a block are entries of one matrix product, and the tokens
    at one place of all blocks share their negatives, so that gathering and scattering rows costs little.

    Args:
        centers, contexts: (blocks, length, width) vectors u and v of each token.
        noise: (length, some, width) vectors of random words, for each place of the blocks.
        near: (blocks, length, length): 1 where the second token is a context of the first.
        negatives: how many a pair has; each of the ``some`` weighs negatives / some.

    Returns:
        Minus the gradients of the summed loss by ``centers``, ``contexts`` and ``noise``, in their shapes.
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
    corpus: Corpus,
    dimensions: int = 100,
    window: int = 5,
    negatives: int = 5,
    epochs: int = 5,
    seed: int = 0,
    rate: float = 0.025,
    label: str = "skip-gram",
) -> Vectors:
    """Trains word vectors quietly with one progress bar.

    Args:
        corpus: see :func:`count_words`.
        dimensions, window, negatives, seed: see :class:`SkipGram`.
        epochs: passes over the corpus.
        rate: the learning rate at first; it goes down to 0.0001 linearly.
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


# ---------------------------------------------------------------- search


def nearest(queries: np.ndarray, vectors: np.ndarray, k: int = 10, chunk: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` rows of ``vectors`` with the largest cosine to each query: exact, the same answer at every call.

    Rows are read in chunks, so that a million vectors of width 384 need under 200 MB beside themselves; a memory map
    will do. float32 finds the candidates, float64 orders them; equal ones keep the order of their rows.

    Args:
        queries: (q, width).
        vectors: (n, width).
        k: answers for each query; all n where there are fewer.
        chunk: rows at a time.

    Returns:
        Row numbers (q, k), best first, and cosines (q, k), float64.
    """
    queries, k = unit_length(queries), min(k, len(vectors))
    parts = [_nearest(queries[i : i + 128], vectors, k, chunk) for i in range(0, len(queries), 128)]
    empty = np.zeros((0, k), dtype="int64"), np.zeros((0, k))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True)) if parts else empty


def _nearest(queries: np.ndarray, vectors: np.ndarray, k: int, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    count = len(queries)
    best, places = np.full((count, k), -np.inf), np.full((count, k), len(vectors))
    small = queries.astype("float32")
    for start in range(0, len(vectors), chunk):
        part = np.asarray(vectors[start : start + chunk], dtype="float32")
        rough = small @ part.T
        rough /= np.maximum(np.sqrt(np.einsum("ij,ij->i", part, part)), 1e-12)
        least = best[:, -1]
        if len(part) > k:
            least = np.maximum(least, np.partition(rough, len(part) - k, axis=1)[:, len(part) - k])
        rows, columns = np.nonzero(rough >= (least - 1e-5)[:, None])  # more than the rounding of float32
        exact = _cosines(queries, part, rows, columns)
        rows = np.concatenate([np.repeat(np.arange(count), k), rows])
        exact, columns = np.concatenate([best.ravel(), exact]), np.concatenate([places.ravel(), columns + start])
        order = np.lexsort((columns, -exact, rows))
        first = np.searchsorted(rows[order], np.arange(count))
        chosen = order[first[:, None] + np.arange(k)]
        best, places = exact[chosen], columns[chosen]
    return places, best


def _cosines(queries: np.ndarray, vectors: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float64 cosines of pairs, some at a time; equal vectors give equal numbers wherever they stand."""
    found = [np.zeros(0)]
    for i in range(0, len(rows), 8192):
        some = unit_length(vectors[columns[i : i + 8192]])
        found.append(np.einsum("ij,ij->i", queries[rows[i : i + 8192]], some))
    return np.concatenate(found)


def duplicates(vectors: np.ndarray, threshold: float, k: int = 10) -> list[tuple[int, int, float]]:
    """Pairs (i, j, cosine) of rows i < j with a cosine of ``threshold`` or more, the most alike first.

    Each row is compared with its ``k`` nearest.
    """
    found, similarities = nearest(vectors, vectors, k + 1)
    pairs = {
        (min(i, int(j)), max(i, int(j))): float(s)
        for i, row in enumerate(found)
        for j, s in zip(row, similarities[i], strict=True)
        if i != j and s >= threshold
    }
    return sorted(((i, j, s) for (i, j), s in pairs.items()), key=lambda pair: (-pair[2], pair[:2]))


# ---------------------------------------------------------------- sentences


def sentence_vectors(
    tokens: Iterable[Sequence[str]], vectors: Vectors, weights: dict[str, float] | None = None
) -> np.ndarray:
    """The (weighted) mean of the vectors of each text's words.

    Args:
        tokens: n texts as tokens; words without a vector are left out, a text of none gives zeros.
        vectors: the words' vectors.
        weights: a weight for each word; 1 by default, and for a word without one. Smooth inverse
            frequency is a / (a + p(word)) with a = 0.001 (Arora, Liang and Ma 2017).

    Returns:
        (n, width) float32.
    """
    means = []
    for words in tokens:
        known = [word for word in words if word in vectors]
        shares = np.array([1.0 if weights is None else weights.get(word, 1.0) for word in known])
        rows = (
            vectors.table[[vectors.place(word) for word in known]] if known else np.zeros((0, vectors.table.shape[1]))
        )
        means.append(shares @ rows / max(shares.sum(), 1e-12))
    return np.array(means, dtype="float32").reshape(-1, vectors.table.shape[1])


def inverse_frequency(counts: dict[str, int], a: float = 1e-3) -> dict[str, float]:
    """The weights of smooth inverse frequency, a / (a + share of the word), from word counts."""
    total = sum(counts.values())
    return {word: a / (a + count / total) for word, count in counts.items()}


def without_common(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, width) less their part along their first singular direction, which says what all have in common."""
    _, _, directions = np.linalg.svd(vectors, full_matrices=False)
    return vectors - vectors @ np.outer(directions[0], directions[0])


# ---------------------------------------------------------------- judged by people

_FAMILIES = """
mean: median average std deviation variance var; matrix: matrices array sparse diagonal adjacency
monday: tuesday wednesday thursday friday saturday sunday; january: february march april june july october december
red: green blue yellow white orange purple; black: white red blue green yellow gray
row: rows column columns; column: columns row rows; first: second third last; three: two four five six
raise: raises raised throw throws error exception; sin: cos tan sinh arcsin sine; http: https url urllib
plot: plots plotting scatter hist boxplot ax; integer: integers int float unsigned; string: str strings text bytes
file: files filename filenames path; list: lists tuple tuples sequence; left: right top bottom
maximum: minimum max maximal; import: imports imported module; tree: trees forest node leaf
cluster: clusters clustering centroid; kernel: kernels rbf; layer: layers dense; gradient: gradients hessian jacobian
normal: gaussian lognormal distribution; true: false; width: height widths; upper: lower; x: y z
hour: minute second hours day; year: month years day; multiply: add subtract divide multiplication; train: test training
label: labels legend title; socket: sockets connection server; thread: threads process; key: keys value
classifier: classifiers estimator regressor classification
"""
PROBES: dict[str, list[str]] = {
    word: family.split()
    for word, _, family in (entry.strip().partition(":") for entry in _FAMILIES.replace("\n", ";").split(";"))
    if word
}
"""Forty words of ``python_docs``, each with its family: words of like meaning or like use."""


def probe_hits(vectors: Vectors, k: int = 5) -> dict[str, bool]:
    """For each word of :data:`PROBES`: is one of its ``k`` nearest words of its family? An unknown word is a miss."""
    return {
        word: word in vectors and any(near in family for near, _ in vectors.neighbours(word, k))
        for word, family in PROBES.items()
    }


def word_pairs(path: str, vectors: Vectors) -> dict[str, float]:
    """Judges vectors by a file of lines ``word word score``: do pairs that people call similar have a large cosine?

    Fields are separated by white space or commas; words are looked up as written, then in lower case.

    Returns:
        ``spearman`` (the rank correlation over the pairs found), ``found``, ``pairs``, and the share ``coverage``.

    Raises:
        InputError: no such file, a broken line, or fewer than two pairs with vectors.
    """
    from scipy.stats import spearmanr

    rows = read_word_pairs(path)
    spelled = [[w if w in vectors else w.lower() for w in words] for words, _ in rows]
    known = [i for i, words in enumerate(spelled) if all(w in vectors for w in words)]
    if len(known) < 2:
        raise InputError(f"{path}: the vectors know {len(known)} of its {len(rows)} pairs, and two are needed.")
    a, b = (unit_length(np.stack([vectors[spelled[i][side]] for i in known])) for side in (0, 1))
    score = spearmanr([rows[i][1] for i in known], np.einsum("ij,ij->i", a, b)).statistic
    return {"spearman": float(score), "found": len(known), "pairs": len(rows), "coverage": len(known) / len(rows)}


def read_word_pairs(path: str) -> list[tuple[list[str], float]]:
    """The two words and the score of each line; empty lines and those that begin with # are left out.

    Raises:
        InputError: no such file, or a broken line.
    """
    from helpers.data import decode, find_file

    file, found = find_file(path), []
    for number, line in enumerate(decode(file.read_bytes(), path)[0].splitlines(), 1):
        fields = line.replace(",", " ").split()
        if not fields or line.startswith("#"):
            continue
        try:
            first, second, score = fields
            found.append(([first, second], float(score)))
        except ValueError:
            raise InputError(
                f"{file.name} has {line.strip()[:60]!r} in line {number}, which is not word, word, number: "
                "mend or remove the line."
            ) from None
    return found


def sentence_pairs(path: str) -> tuple[list[str], list[str], np.ndarray]:
    """Reads a CSV without header of two sentences and how alike people find them, such as a part of STS-B.

    Returns:
        The first sentences, the second ones, and the scores (n,).

    Raises:
        InputError: no such file, or rows that are not sentence, sentence, number.
    """
    import csv
    import io

    from helpers.data import decode, find_file

    file = find_file(path)
    try:
        rows = list(csv.reader(io.StringIO(decode(file.read_bytes(), path)[0], newline="")))
    except csv.Error as error:
        raise InputError(f"{file.name} is no readable CSV ({error}): close or double its quotation marks.") from None
    for number, row in enumerate(rows, 1):
        try:
            first, second, score = row
            row[2] = float(score)
        except ValueError:
            raise InputError(f"{file.name} has no sentence, sentence, number in row {number}: mend it.") from None
    first, second, scores = zip(*rows, strict=True)
    return list(first), list(second), np.array(scores)


def stsb_spearman(path: str, encode: Callable[[list[str]], np.ndarray]) -> float:
    """Spearman correlation of people's scores with the cosines of sentence vectors.

    Args:
        path: see :func:`sentence_pairs`.
        encode: n sentences to vectors (n, width); it sees all sentences at once.
    """
    from scipy.stats import spearmanr

    first, second, scores = sentence_pairs(path)
    rows = unit_length(encode(first + second))
    cosines = np.einsum("ij,ij->i", rows[: len(first)], rows[len(first) :])
    return float(spearmanr(scores, cosines).statistic)


# ---------------------------------------------------------------- files


def save_word2vec(path: Path, vectors: Vectors) -> None:
    """Writes word2vec's text format, which gensim and others read: ``n width``, then a word and its numbers a line.

    Numbers have nine digits, which float32 needs to come back as it was.

    Raises:
        InputError: a word holds white space, which the format cannot.
    """
    from helpers.files import write_atomic

    if bad := next((w for w in vectors.words if not w or w != "".join(w.split())), None):
        raise InputError(f"The word {bad!r} holds white space, which word2vec's text format cannot keep: rename it.")
    head = f"{len(vectors.words)} {vectors.table.shape[1]}"
    lines = (
        f"{word} {' '.join(map('{:.9g}'.format, row.tolist()))}"
        for word, row in zip(vectors.words, vectors.table, strict=True)
    )
    write_atomic(path, "\n".join([head, *lines, ""]))


def load_word2vec(path: str | Path) -> Vectors:
    """Reads word2vec's text format.

    Raises:
        InputError: the file is not in that format; the sentence names the line.
    """
    from helpers.data import find_file

    file = find_file(str(path))
    lines = file.read_text("utf-8", "replace").rstrip("\n").split("\n")
    try:
        number = 1
        count, width = map(int, lines[0].split())
        if count * width > file.stat().st_size:  # before so much memory is asked for
            raise ValueError
        words, table = [], np.empty((count, width), dtype="float32")
        for number, line in enumerate(lines[1:], 2):
            word, *numbers = line.rstrip(" ").rsplit(" ", width)
            table[number - 2] = numbers
            words.append(word)
        if len(words) != count:
            raise ValueError
    except (ValueError, IndexError):
        raise InputError(
            f"{file.name} is not in word2vec's text format (line {number}): it needs a line with the number of words "
            "and the width, then a word and so many numbers in each line."
        ) from None
    return Vectors(words, table)
