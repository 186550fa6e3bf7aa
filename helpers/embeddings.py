"""Vectors of words and texts: searched exactly, kept in word2vec's text format. Taught in notebook 01."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helpers import InputError
from helpers.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd


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
        """Returns the row of a word.

        Raises:
            InputError: the word has no vector; the sentence names the nearest spelling.
        """
        if word in self._places:
            return self._places[word]
        near = difflib.get_close_matches(word, self.words, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "it is too rare in the corpus, or not in it at all."
        raise InputError(f"{word!r} is none of the {len(self.words):,} words with a vector: {hint}")

    def __getitem__(self, word: str) -> np.ndarray:
        return self.table[self.place(word)]

    def neighbours(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """Returns the ``k`` words with the largest cosine to ``word``, itself excluded, with that cosine."""
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
    """Returns the ``k`` rows of ``vectors`` with the largest cosine to each query: all are compared, none is missed.

    Args:
        queries: (q, width).
        vectors: (n, width); a memory map will do, ``chunk`` rows are read at a time.
        k: answers for each query; all n where there are fewer.
        chunk: rows at a time.

    Returns:
        Row numbers (q, k), best first, and cosines (q, k), float64.

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
    """Reads pairs of words or sentences with a score by people, such as WordSim-353 or a part of STS-B.

    Args:
        path: a CSV without header, or lines of ``word word score`` apart by white space; lines with # are left out.

    Returns:
        The columns ``first``, ``second`` (str) and ``score`` (float), a row for each pair.

    Raises:
        InputError: no such file, or a row that is not text, text, number.
    """
    import io

    import pandas as pd

    from helpers.data import decode, find_file

    file, names = find_file(path), ["first", "second", "score"]
    content = decode(file.read_bytes(), path)[0]
    if "," not in content:
        content = "\n".join(",".join(line.split()) for line in content.splitlines() if not line.startswith("#"))
    try:
        pairs = pd.read_csv(io.StringIO(content), header=None, names=names, dtype=str, keep_default_na=False)
        pairs["score"] = pd.to_numeric(pairs["score"], errors="coerce")
    except ValueError as error:
        raise InputError(f"{file.name} is no readable CSV ({' '.join(str(error).split())}): mend it.") from None
    bad = pairs.index[pairs["score"].isna()]
    if len(bad) or len(pairs) < 2:
        where = f"pair {bad[0] + 1} of {file.name} is" if len(bad) else f"{file.name} has one pair or none,"
        raise InputError(f"{where} not text, text, number: give two rows or more, each with these three.")
    return pairs


def save_word2vec(path: Path, vectors: Vectors) -> None:
    """Writes word2vec's text format, which gensim and others read: ``n width``, then a word and its numbers a line.

    Raises:
        InputError: a word holds white space, which the format cannot.
    """
    if bad := next((w for w in vectors.words if not w or w != "".join(w.split())), None):
        raise InputError(f"The word {bad!r} holds white space, which word2vec's text format cannot keep: rename it.")
    rows = (" ".join(map("{:.9g}".format, row)) for row in vectors.table.tolist())  # nine digits keep a float32
    lines = (f"{word} {row}" for word, row in zip(vectors.words, rows, strict=True))
    write_atomic(path, "\n".join([f"{len(vectors.words)} {vectors.table.shape[1]}", *lines, ""]))


def load_word2vec(path: str | Path) -> Vectors:
    """Reads word2vec's text format.

    Raises:
        InputError: the file is not in that format; the sentence names the line.
    """
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
        raise InputError(
            f"{file.name} is not in word2vec's text format (line {number}): it needs a line with the number of words "
            "and the width, then a word and so many numbers in each line."
        ) from None
