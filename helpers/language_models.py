"""What 02 and its benchmark share: text as streams of token ids, fast Kneser-Ney, windows to train on.

A document ends with :data:`EOS`, which is predicted like any other token; one text read by character and cut in
three has none. Tokens outside the vocabulary are :data:`UNKNOWN`: perplexities compare only within one vocabulary.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import sparse

from helpers import InputError, files, tables, text, training
from helpers.training import tf

EOS, UNKNOWN, SHORTEST = "<eos>", "<unk>", 100  # a part needs so many tokens
PARTS = {"train": ("train",), "validation": ("valid", "val", "dev"), "test": ("test",)}


def split_tokens(document: str, unit: str) -> list[str]:
    """Returns the tokens of a document as :func:`helpers.text.tokenize` does, but two units keep everything.

    ``"space"`` is for text that is tokenised already; ``"character"`` takes every character, spaces included.
    """
    if unit == "character":
        return list(document)
    return document.split() if unit == "space" else text.tokenize(document, unit)


def read_folder(source: str) -> dict[str, list[str]] | None:
    """Returns the documents of each part that a folder holds, or None where ``source`` is no folder.

    It holds one text file a part (``train``, ``valid``, ``test`` in their names), a document a line; else InputError.
    """
    folder = next((p for b in files.bases() if source and os.path.isdir(p := b / os.path.expanduser(source))), None)
    return folder and {part: _read_part(folder, names) for part, names in PARTS.items()}


def _read_part(folder: Path, names: tuple[str, ...]) -> list[str]:
    found = [f for f in sorted(folder.glob("*.txt")) if any(name in f.stem.lower() for name in names)]
    if len(found) != 1:
        told = f"The folder {folder.name} has {len(found)} text files named {names[0]}"
        raise InputError(f"{told}: it needs one each of train, valid and test, such as train.txt.")
    return [line for line in tables.decode(found[0].read_bytes(), found[0].name)[0].splitlines() if line.strip()]


def to_streams(parts: dict[str, list[str]], unit: str, size: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns one stream of ids (tokens,) int32 a part, and the vocabulary, from the training part alone.

    It has at most ``size`` entries: EOS, UNKNOWN, then the most frequent tokens. InputError: a part has too few.
    """
    tokens = {name: [split_tokens(document, unit) for document in parts[name]] for name in PARTS}
    for name, documents in tokens.items():
        if (found := sum(map(len, documents))) < SHORTEST:
            raise InputError(f"The {name} part has {found} tokens: a perplexity needs {SHORTEST} or more.")
    counts = Counter(token for document in tokens["train"] for token in document if token not in (EOS, UNKNOWN))
    vocabulary = [EOS, UNKNOWN, *sorted(counts, key=lambda token: (-counts[token], token))[: size - 2]]
    places = {token: i for i, token in enumerate(vocabulary)}
    end = [] if unit == "character" and all(len(parts[name]) == 1 for name in PARTS) else [0]
    streams = {}
    for name, documents in tokens.items():
        ids = (i for document in documents for i in [*(places.get(token, 1) for token in document), *end])
        streams[name] = np.fromiter(ids, "int32")
        if streams[name].max() < 2:
            raise InputError(f"The {name} part has no known token: none of its tokens occurs in the training part.")
    return streams, vocabulary


class KneserNey:
    """An n-gram model with interpolated, modified Kneser-Ney smoothing (Chen and Goodman 1998, section 3).

    It counts ``ids`` (tokens,), has n-grams of ``order`` tokens, 1 or more, and a vocabulary of ``size`` entries.
    p(w | h) = max(c(h w) - D(c), 0) / c(h) + gamma(h) p(w | h'), where h' is h without its first token. The text
    follows EOS. A context of k tokens is a number: the place of its last k - 1, times ``size``, plus its first.

    Examples:
        >>> model = KneserNey(np.array([2, 3, 2, 4, 2, 3]), order=2, size=5)
        >>> model.probabilities(np.array([[2]])).round(3).tolist()
        [[0.043, 0.043, 0.255, 0.483, 0.177]]
    """

    def __init__(self, ids: np.ndarray, order: int, size: int) -> None:
        self.order, self.size = order, size
        rows = self._rows(ids)
        self._contexts, place = [np.zeros(1, "int64")], np.zeros(len(rows), "int64")
        for k in range(2, order + 1):
            known, place = np.unique(place * size + rows[:, -k], return_inverse=True)
            self._contexts.append(known)
        self._levels, word = [], rows[:, -1]
        for known in reversed(self._contexts):
            once = np.ones(len(word), "int64")
            counts = sparse.coo_array((once, (place, word)), (len(known), size)).tocsr()
            self._levels.insert(0, self._level(counts))
            place, word = counts.nonzero()  # a shorter context counts the different tokens before it
            place = known[place] // size

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """Each token after the ``order`` - 1 tokens before it, (n, order); before the text is EOS."""
        ids = np.concatenate([np.zeros(self.order - 1, "int64"), np.asarray(ids, "int64")])
        return np.lib.stride_tricks.sliding_window_view(ids, self.order)

    def _level(self, counts: sparse.csr_array) -> tuple[sparse.csr_array, np.ndarray]:
        """(counts - D) / total (contexts, size), and gamma of each context."""
        cut = self._discounts(counts.data)[np.minimum(counts.data, 3)]
        total = counts.sum(axis=1)
        alpha = (counts.data - cut) / np.repeat(total, np.diff(counts.indptr))
        gamma = np.add.reduceat(cut, counts.indptr[:-1]) / total
        return sparse.csr_array((alpha, counts.indices, counts.indptr), counts.shape), gamma

    def _discounts(self, count: np.ndarray) -> np.ndarray:
        """D of a count of 0, 1, 2, and 3 or more: D_k = k - (k + 1) Y n_(k+1) / n_k, Y = n1 / (n1 + 2 n2)."""
        n = np.bincount(count, minlength=5)[1:5]
        k, y = np.array([1, 2, 3]), n[0] / max(n[0] + 2 * n[1], 1)
        found = k - (k + 1) * y * n[1:] / np.maximum(n[:3], 1)
        return np.array([0, *np.where((found > 0) & (found < k), found, 0.75)])  # a small text may give no sensible one

    def _find(self, contexts: np.ndarray) -> list[np.ndarray]:
        """By level, the place (n,) of the last tokens of each context (n, t), -1 where they were never seen."""
        found = [np.zeros(len(contexts), "int64")]
        for k, known in enumerate(self._contexts[1:], 1):
            wanted = found[-1] * self.size + contexts[:, -k]  # below 0 where the last ones were not found either
            place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            found.append(np.where(known[place] == wanted, place, -1))
        return found

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Returns natural logarithms (n,) of each token's probability given those before it; no loop over tokens."""
        rows = self._rows(ids)
        p = np.full(len(rows), 1 / self.size)
        for (alpha, gamma), place in zip(self._levels, self._find(rows[:, :-1]), strict=True):
            seen = place >= 0
            p[seen] = alpha[place[seen], rows[seen, -1]] + gamma[place[seen]] * p[seen]
        return np.log(p)

    def probabilities(self, contexts: np.ndarray) -> np.ndarray:
        """Returns distributions (n, vocabulary) of the token after each context (n, t); only the last tokens count."""
        contexts = np.pad(np.asarray(contexts, "int64"), ((0, 0), (self.order, 0)))
        p = np.full((len(contexts), self.size), 1 / self.size)
        for (alpha, gamma), place in zip(self._levels, self._find(contexts), strict=True):
            seen = place >= 0
            p[seen] = alpha[place[seen]].toarray() + gamma[place[seen], None] * p[seen]
        return p


def windows(ids: np.ndarray, batch_size: int, length: int, seed: int | None = None) -> tf.data.Dataset:
    """Returns batches of windows and their next tokens, (batch_size, length) int32 each; an epoch reads the text once.

    A ``seed`` draws as many windows from random places, anew in each epoch; None cuts the text in order.
    """
    steps = (len(ids) - 1) // (batch_size * length)
    views = np.lib.stride_tricks.sliding_window_view(np.asarray(ids, "int32"), length + 1)
    spec = tf.TensorSpec((batch_size, length), "int32")
    rng = np.random.default_rng(seed)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        starts = np.arange(steps * batch_size) * length
        for rows in (starts if seed is None else rng.integers(0, len(views), len(starts))).reshape(steps, -1):
            yield views[rows, :-1], views[rows, 1:]

    return training.dataset(batches, (spec, spec), steps)
