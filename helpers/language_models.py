"""Language models: text as streams of token ids, fast Kneser-Ney, and networks that score the next token.

Every model answers two questions: ``log_probabilities(ids)``, the natural logarithm of each token's probability given
those before it, and ``probabilities(contexts)``, the distribution of the next token. A document ends with
:data:`EOS`, which is predicted like any other token; before the first token stands EOS. Tokens outside the vocabulary
are :data:`UNKNOWN`, so perplexities compare only within one vocabulary. Taught in ``02_language_modeling``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from helpers import InputError, corpus, files, tables, text, training

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

EOS, UNKNOWN = "<eos>", "<unk>"
SHORTEST = 100  # tokens that a part needs
ROWS = 16  # windows that are scored at once
PARTS = {"train": ("train",), "validation": ("valid", "val", "dev"), "test": ("test",)}


def split_tokens(document: str, unit: str) -> list[str]:
    """Returns the tokens of a document as :func:`helpers.text.tokenize` does, but two units keep everything.

    ``"space"`` is for text that is tokenised already; ``"character"`` takes every character, spaces included.

    Examples:
        >>> split_tokens("the <unk> 's", "space"), split_tokens("a b", "character")
        (['the', '<unk>', "'s"], ['a', ' ', 'b'])
    """
    if unit == "character":
        return list(document)
    return document.split() if unit == "space" else text.tokenize(document, unit)


def join_tokens(tokens: Iterable[str], unit: str) -> str:
    """Returns tokens as readable text; an EOS is a line end.

    Examples:
        >>> join_tokens(["un", "##able", "story"], "wordpiece"), join_tokens(["a", "<eos>", "b"], "word")
        ('unable story', 'a\\nb')
    """
    ended = ("\n" if token == EOS else token for token in tokens)
    return ("" if unit == "character" else " ").join(ended).replace(" ##", "").replace(" \n ", "\n").strip(" ")


def choose_unit(source: str, text_column: str = "text", unit: str = "auto") -> str:
    """Returns what a token is: ``"auto"`` means words, or characters for Chinese; a folder's words are ``"space"``."""
    if unit == "auto":
        unit = text.guess_unit(read_parts(source, text_column)["train"][:200])
    return "space" if unit == "word" and _find_folder(source) else unit


def read_parts(
    source: str,
    text_column: str = "text",
    unit: str = "word",
    share: float = 1.0,
    clean: Callable[[list[str]], list[str]] = list,
) -> dict[str, list[str]]:
    """Returns documents by part, and ``notes`` on how they were read.

    A folder holds one text file a part (``train``, ``valid``, ``test`` in their names), a document a line. A text file
    by character stays one text: its last tenth is the test, the twentieth before it validation. Anything else is split
    by a digest of each document's first eight words, so that documents that begin alike stay together: of these a
    ``share`` in (0, 1] is read, and ``clean`` says which of them are kept.

    Raises:
        InputError: nothing to read, as of :func:`helpers.corpus.read_corpus`.
    """
    if (folder := _find_folder(source)) is not None:
        return {name: _read_part(folder, words) for name, words in PARTS.items()} | {"notes": []}
    if unit == "character" and source.lower().endswith(".txt"):
        whole, _ = tables.decode(tables.find_file(source).read_bytes(), source)
        ends = [0, int(0.85 * len(whole)), int(0.9 * len(whole)), len(whole)]
        return {n: [whole[a:b]] for n, a, b in zip(PARTS, ends, ends[1:], strict=False)} | {"notes": []}
    documents, notes = corpus.read_corpus(source, text_column)
    parts: dict[str, list[str]] = {name: [] for name in PARTS}
    for document in clean([d for d in documents if _place(d) < share]):
        tenth = 10 * _place(document) / share
        parts["test" if tenth < 1 else "validation" if tenth < 2 else "train"].append(document)
    return parts | {"notes": notes}


def _place(document: str) -> float:
    """A number in [0, 1) that depends on the first eight words only."""
    digest = hashlib.sha256(" ".join(document.lower().split(maxsplit=8)[:8]).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _find_folder(source: str) -> Path | None:
    found = (base / source for base in files.bases() if source and len(source) < 1000)
    return next((folder for folder in found if folder.is_dir()), None)


def _read_part(folder: Path, words: Sequence[str]) -> list[str]:
    found = [f for f in sorted(folder.glob("*.txt")) if any(word in f.stem.lower() for word in words)]
    if len(found) != 1:
        told = f"The folder {folder.name} has {len(found)} text files named {words[0]}"
        raise InputError(f"{told}: it needs one each of train, valid and test, such as train.txt.")
    return [line for line in tables.decode(found[0].read_bytes(), found[0].name)[0].splitlines() if line.strip()]


def to_streams(parts: dict[str, list[str]], unit: str, size: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns one stream of ids (tokens,) int32 a part, and the vocabulary, from the training part alone.

    It has at most ``size`` entries: EOS, UNKNOWN, then tokens by falling frequency.

    Raises:
        InputError: a part with hardly any text, fewer than two different tokens, or a part without a known one.
    """
    if size < 4:
        raise InputError(f"A vocabulary of {size} cannot tell words apart: allow 4 entries or more.")
    tokens = {name: [split_tokens(document, unit) for document in parts[name]] for name in PARTS}
    for name, documents in tokens.items():
        if (found := sum(map(len, documents))) < SHORTEST:
            raise InputError(f"The {name} part has {found} tokens: a perplexity needs {SHORTEST} or more.")
    counts = Counter(token for document in tokens["train"] for token in document if token not in (EOS, UNKNOWN))
    if len(counts) < 2:
        raise InputError(f"The training text has {len(counts)} different {unit}: a language model needs two or more.")
    vocabulary = [EOS, UNKNOWN, *(t for t, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[: size - 2])]
    places = {token: i for i, token in enumerate(vocabulary)}
    end = [] if unit == "character" and all(len(parts[name]) == 1 for name in PARTS) else [0]
    streams = {}
    for name, documents in tokens.items():
        ids = [i for document in documents for i in [*(places.get(token, 1) for token in document), *end]]
        streams[name] = np.array(ids, "int32")
        if streams[name].max() < 2:
            raise InputError(f"The {name} part has no known {unit}: none of its {unit}s occurs in the training part.")
    return streams, vocabulary


def perplexity(log_probabilities: np.ndarray) -> float:
    """Returns exp of the mean negative log-probability of a token (Jelinek et al. 1977), at least 1; lower is better.

    An InputError tells that it is not finite, as after a training that diverged.

    Examples:
        >>> round(perplexity(np.log([0.5, 0.25, 0.125])), 6)
        4.0
    """
    value = float(np.exp(-np.mean(log_probabilities, dtype=np.float64)))
    if not np.isfinite(value):
        raise InputError("The perplexity is not finite: the model gives some token no probability, or diverged.")
    return value


class KneserNey:
    """An n-gram model with interpolated, modified Kneser-Ney smoothing (Chen and Goodman 1998, section 3).

    p(w | h) = max(c(h w) - D(c), 0) / c(h) + gamma(h) p(w | h'), where h' is h without its first token. Counting is by
    sorting: an n-gram is the number of its last n - 1 tokens, and the token before them. Contexts reach over an EOS.

    Args:
        ids: (tokens,), the training stream.
        order: tokens in an n-gram, 1 or more.
        size: entries of the vocabulary.

    Examples:
        >>> model = KneserNey(np.array([2, 3, 2, 4, 2, 3]), order=2, size=5)
        >>> model.probabilities(np.array([[2]])).round(3).tolist()
        [[0.043, 0.043, 0.255, 0.483, 0.177]]
    """

    def __init__(self, ids: np.ndarray, order: int, size: int) -> None:
        self.order, self.size = order, size
        rows, numbers = self._rows(ids), [np.zeros(len(ids), "int64")]
        self._keys = [np.zeros(1, "int64")]
        for k in range(1, order + 1):
            keys, found = np.unique(numbers[-1] * size + rows[:, -k], return_inverse=True)
            self._keys.append(keys)
            numbers.append(found)
        self.discounts: list[np.ndarray] = []
        self._contexts, self._levels = [np.zeros(1, "int64")], []
        before = np.zeros(len(rows), "int64")
        for k in range(1, order + 1):
            if k > 1:
                keys, before = np.unique(before * size + rows[:, -k], return_inverse=True)
                self._contexts.append(keys)
            self._levels.append(self._level(rows[:, -1], numbers[k], before, k))

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """Each token after the ``order`` - 1 tokens before it, (n, order); before the text is EOS."""
        ids = np.concatenate([np.zeros(self.order - 1, "int64"), np.asarray(ids, "int64")])
        return np.lib.stride_tricks.sliding_window_view(ids, self.order)

    def _level(self, last: np.ndarray, gram: np.ndarray, before: np.ndarray, k: int) -> dict[str, np.ndarray]:
        """(counts - D) / total of each n-gram, gamma of each context, n-grams sorted by context."""
        count = np.bincount(gram)
        if k < self.order:  # how many different tokens stood before it
            count = np.bincount(self._keys[k + 1] // self.size, minlength=len(count))
        context, word = np.zeros((2, len(count)), "int64")
        context[gram], word[gram] = before, last
        self.discounts.append(self._discounts(count))
        cut = self.discounts[-1][np.minimum(count, 3)]
        total, order = np.bincount(context, count), np.argsort(context, kind="stable")
        start = np.searchsorted(context[order], np.arange(len(total) + 1))
        gamma = np.bincount(context, cut) / total
        alpha = (count - cut) / total[context]
        return {"alpha": alpha, "gamma": gamma, "word": word[order], "gram": order, "start": start}

    def _discounts(self, count: np.ndarray) -> np.ndarray:
        """D of a count of 0, 1, 2, and 3 or more: D_k = k - (k + 1) Y n_(k+1) / n_k, Y = n1 / (n1 + 2 n2)."""
        n = np.bincount(count, minlength=5)[1:5]
        k, y = np.array([1, 2, 3]), n[0] / max(n[0] + 2 * n[1], 1)
        found = k - (k + 1) * y * n[1:] / np.maximum(n[:3], 1)
        return np.array([0, *np.where((found > 0) & (found < k), found, 0.75)])  # a small text may give no sensible one

    def _find(self, keys: Sequence[np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
        """By length, the number of each row's last tokens, -1 where they were never seen."""
        found = [np.zeros(len(rows), "int64")]
        for k, known in enumerate(keys[1:], 1):
            wanted = found[-1] * self.size + rows[:, -k]
            place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            found.append(np.where((found[-1] >= 0) & (known[place] == wanted), place, -1))
        return found

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Returns natural logarithms (n,) of each token's probability given those before it; no loop over tokens."""
        rows = self._rows(ids)
        grams, contexts = self._find(self._keys, rows), self._find(self._contexts, rows[:, :-1])
        p = np.full(len(rows), 1 / self.size)
        for level, gram, context in zip(self._levels, grams[1:], contexts, strict=True):
            p = np.where(context >= 0, np.where(gram >= 0, level["alpha"][gram], 0) + level["gamma"][context] * p, p)
        return np.log(p)

    def probabilities(self, contexts: np.ndarray) -> np.ndarray:
        """Returns distributions (n, vocabulary) of the token after each context (n, t); only the last tokens count."""
        contexts = np.pad(np.asarray(contexts, "int64"), ((0, 0), (self.order, 0)))[:, -self.order :]
        p = np.full((len(contexts), self.size), 1 / self.size)
        for level, context in zip(self._levels, self._find(self._contexts, contexts), strict=True):
            known = np.flatnonzero(context >= 0)
            start = level["start"][context[known]]
            count = level["start"][context[known] + 1] - start
            p[known] *= level["gamma"][context[known], None]
            places = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + np.repeat(start, count)
            p[np.repeat(known, count), level["word"][places]] += level["alpha"][level["gram"][places]]
        return p


def windows(ids: np.ndarray, batch_size: int, length: int, seed: int | None = None) -> tf.data.Dataset:
    """Returns batches of windows and their next tokens, (batch_size, length) int32 each; an epoch reads the text once.

    A ``seed`` draws as many windows from random places, anew in each epoch; None cuts the text in order. An InputError
    tells that the text is too short for one batch.
    """
    if (steps := (len(ids) - 1) // (batch_size * length)) < 1:
        told = f"The text has {len(ids)} tokens and one batch needs {batch_size * length + 1}"
        raise InputError(f"{told}: give more text.")
    views = np.lib.stride_tricks.sliding_window_view(np.asarray(ids, "int32"), length + 1)
    spec = training.import_tensorflow().TensorSpec((batch_size, length), "int32")
    rng = np.random.default_rng(seed)

    def batches() -> Any:
        starts = np.arange(steps * batch_size) * length
        for rows in (starts if seed is None else rng.integers(0, len(views), len(starts))).reshape(steps, -1):
            yield views[rows, :-1], views[rows, 1:]

    return training.dataset(batches, (spec, spec), steps)


class Neural:
    """A Keras model of the next token, ids (b, t) -> scores (b, t, vocabulary), as the counting models are asked.

    What the model computes for a token must depend on the tokens up to it only; ``length``, the tokens of a window, is
    even.
    """

    def __init__(self, model: keras.Model, length: int) -> None:
        tf = training.import_tensorflow()
        self.model, self.length = model, length
        self._forward = tf.function(lambda x: model(x, training=False), autograph=False)
        self._loss = tf.function(
            lambda x, y: tf.nn.sparse_softmax_cross_entropy_with_logits(y, self._forward(x)), autograph=False
        )

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Returns natural logarithms (n,) of each token's probability, of windows that overlap by half."""
        half = self.length // 2
        count = ROWS * (-(-max(len(ids) - self.length, 0) // (half * ROWS)) + 1)
        padded = np.concatenate([[0], ids, np.zeros(count * half + self.length - len(ids), "int32")]).astype("int32")
        views = np.lib.stride_tricks.sliding_window_view(padded, self.length + 1)[: count * half : half]
        losses = np.concatenate([self._loss(v[:, :-1], v[:, 1:]).numpy() for v in np.split(views, count // ROWS)])
        return -np.concatenate([losses[0, :half], losses[:, half:].reshape(-1)])[: len(ids)].astype("float64")

    def probabilities(self, contexts: np.ndarray) -> np.ndarray:
        """Returns distributions (n, vocabulary) of the token after each context (n, t), of which a window is read."""
        ids = np.asarray(contexts, "int32")[:, -self.length :]
        last = ids.shape[1] - 1  # what stands right of it cannot be seen from it
        logits = self._forward(np.pad(ids, ((0, 0), (0, self.length - ids.shape[1]))))[:, last]
        return special.softmax(logits.numpy().astype("float64"), axis=-1)
