"""Language models: corpora as streams of token ids, Kneser-Ney, neural training, perplexity and sampling.

Every model answers two questions: ``log_probabilities(ids)``, the natural logarithm of each token's probability given
all tokens before it, and ``probabilities(contexts)``, the distribution of the next token. Taught in
``02_language_modeling``.

Sentence ends and unknown words: a document or line ends with :data:`EOS`, which is predicted and counted like any
other token; the text before the first token counts as one EOS. Tokens outside the vocabulary are replaced by
:data:`UNKNOWN`, and its probability counts as it is. Perplexities are therefore comparable only between models with
the same vocabulary and the same tokens.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy import special

from helpers import InputError, corpus, data, files, runs, text
from helpers.training import bar, import_tensorflow, save_keras

if TYPE_CHECKING:
    import keras
    import pandas as pd

EOS, UNKNOWN = "<eos>", "<unk>"
SHORTEST = 100
DIVERGED = 1000.0  # nats a token; a uniform guess among a million tokens has 14
PARTS = {"train": ("train",), "validation": ("valid", "val", "dev"), "test": ("test",)}


# ---------------------------------------------------------------- text -> ids


@dataclass(frozen=True)
class Corpus:
    """Three streams of token ids over one vocabulary.

    Attributes:
        train, validation, test: (tokens,) int32.
        vocabulary: token of each id; id 0 is EOS, id 1 is UNKNOWN, the rest by falling frequency in ``train``.
        unit: what a token is, see :func:`split_tokens`.
        characters: characters of each part, a space between words included, for bits a character.
        notes: how the text was read, one sentence each.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    vocabulary: list[str]
    unit: str
    characters: dict[str, int]
    notes: list[str] = field(default_factory=list)


def split_tokens(document: str, unit: str) -> list[str]:
    """Tokens of a document: as :func:`helpers.text.tokenize`, but two units keep everything.

    Args:
        document: any text.
        unit: ``"word"`` or ``"wordpiece"``; ``"space"`` for text that is tokenised already and is only cut at white
            space, as PTB is; ``"character"`` for every single character, spaces and line ends included.
    """
    if unit == "character":
        return list(document)
    return document.split() if unit == "space" else text.tokenize(document, unit)


def join_tokens(tokens: Iterable[str], unit: str) -> str:
    """Tokens as readable text."""
    return "".join(tokens) if unit == "character" else " ".join(tokens).replace(" ##", "")


def choose_unit(source: str, text_column: str = "text", unit: str = "auto") -> str:
    """What a token of a corpus is: ``"auto"`` means words, or characters for Chinese.

    The words of a folder's files are taken as tokenised already, which is ``"space"``.
    """
    if unit == "auto":
        unit = text.guess_unit(read_parts(source, text_column)["train"][:200])
    return "space" if unit == "word" and _find_folder(source) else unit


def read_parts(source: str, text_column: str = "text", unit: str = "word", share: float = 1.0) -> dict[str, list[str]]:
    """Reads a corpus in three parts: documents to learn from, to choose by, and to test on.

    A folder holds one text file for each part (``train``, ``valid`` and ``test`` in their names), a document a line.
    A text file read by character stays one text, of which the last tenth is the test and the twentieth before it the
    validation part. Anything else is read by :func:`helpers.corpus.read_corpus` and split by document: a digest of its
    first eight words decides, so that the order of files does not matter and documents that begin alike stay together.

    Args:
        source: a folder, or what ``read_corpus`` takes.
        text_column: the column of a table.
        unit: see :func:`split_tokens`.
        share: the part of the documents to keep, in (0, 1], again by digest.

    Returns:
        Documents by part, and ``notes`` on how they were read.

    Raises:
        InputError: nothing to read.
    """
    if (folder := _find_folder(source)) is not None:
        return {name: _read_part(folder, words) for name, words in PARTS.items()} | {"notes": []}
    if unit == "character" and source.lower().endswith(".txt"):
        whole, _ = data.decode(data.find_file(source).read_bytes(), source)
        ends = [0, int(0.85 * len(whole)), int(0.9 * len(whole)), len(whole)]
        return {n: [whole[a:b]] for n, a, b in zip(PARTS, ends, ends[1:], strict=False)} | {"notes": []}
    documents, notes = corpus.read_corpus(source, text_column)
    parts: dict[str, list[str]] = {name: [] for name in PARTS}
    for document in documents:
        place = _place(document)
        if place < share:
            tenth = 10 * place / share
            parts["test" if tenth < 1 else "validation" if tenth < 2 else "train"].append(document)
    return parts | {"notes": notes}


def _place(document: str) -> float:
    """A number in [0, 1) that depends on the first eight words only."""
    digest = hashlib.sha256(" ".join(document.lower().split()[:8]).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _find_folder(source: str) -> Path | None:
    for base in files.bases():
        if source and len(source) < 1000 and (base / source).is_dir():
            return base / source
    return None


def _read_part(folder: Path, words: Sequence[str]) -> list[str]:
    files = [f for f in sorted(folder.glob("*.txt")) if any(word in f.stem.lower() for word in words)]
    if len(files) != 1:
        raise InputError(
            f"The folder {folder.name} has {len(files)} text files named {words[0]}: it needs one each of "
            "train, valid and test, such as train.txt."
        )
    whole, _ = data.decode(files[0].read_bytes(), files[0].name)
    return [line for line in whole.splitlines() if line.strip()]


def build_corpus(parts: dict[str, list[str]], unit: str, size: int) -> Corpus:
    """Turns documents into ids; the vocabulary comes from the training part alone.

    Args:
        parts: of :func:`read_parts`.
        unit: see :func:`split_tokens`.
        size: entries of the vocabulary at most, EOS and UNKNOWN included.

    Raises:
        InputError: a part with hardly any text, fewer than two different tokens, or a part without a known one.
    """
    if size < 4:
        raise InputError(f"A vocabulary of {size} cannot tell words apart: allow 4 entries or more.")
    tokens = {name: [split_tokens(d, unit) for d in parts[name]] for name in PARTS}
    for name, documents in tokens.items():
        found = sum(map(len, documents))
        if found < SHORTEST:
            raise InputError(f"The {name} part has {found} tokens: a perplexity needs {SHORTEST} or more.")
    whole = unit == "character" and all(len(parts[name]) == 1 for name in PARTS)
    counts = Counter(token for document in tokens["train"] for token in document if token not in (EOS, UNKNOWN))
    if len(counts) < 2:
        raise InputError(f"The training text has {len(counts)} different {unit}: a language model needs two or more.")
    vocabulary = [EOS, UNKNOWN, *(t for t, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[: size - 2])]
    places = {token: i for i, token in enumerate(vocabulary)}
    end = [] if whole else [0]
    ids = {n: np.array([i for d in ds for i in ([places.get(t, 1) for t in d] + end)], "int32")
           for n, ds in tokens.items()}  # fmt: skip
    for name in ("validation", "test"):
        if ids[name].max() < 2:
            raise InputError(f"The {name} part has no known {unit}: none of its {unit}s occurs in the training part.")
    characters = {name: sum(_length(d, unit, whole) for d in documents) for name, documents in tokens.items()}
    return Corpus(**ids, vocabulary=vocabulary, unit=unit, characters=characters, notes=parts["notes"])


def _length(document: list[str], unit: str, whole: bool) -> int:
    """Characters of a document; its end counts as one, as a line end would."""
    return len(join_tokens(document, unit)) + (not whole)


def encode(document: str, vocabulary: Sequence[str], unit: str) -> np.ndarray:
    """Token ids (n,) int32 of a text, unknown tokens as UNKNOWN, after one EOS that opens it."""
    places = {token: i for i, token in enumerate(vocabulary)}
    return np.array([0, *(places.get(t, 1) for t in split_tokens(document, unit))], "int32")


def decode(ids: Iterable[int], vocabulary: Sequence[str], unit: str) -> str:
    """The text of token ids; an EOS is a line end."""
    return join_tokens(("\n" if i == 0 else vocabulary[i] for i in ids), unit).replace(" \n ", "\n").strip(" ")


# ---------------------------------------------------------------- figures


class LanguageModel(Protocol):
    """What every model here can do."""

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Natural logarithms (n,) of each token's probability given all before it."""

    def probabilities(self, contexts: np.ndarray) -> np.ndarray:
        """Distributions (n, vocabulary) of the token after each context (n, length)."""


def perplexity(log_probabilities: np.ndarray) -> float:
    """exp of the mean negative log-probability of a token (Jelinek et al. 1977); lower is better, at least 1.

    Raises:
        InputError: it is not finite, as after a training that diverged.
    """
    value = float(np.exp(-np.mean(log_probabilities, dtype=np.float64)))
    if not np.isfinite(value):
        raise InputError("The perplexity is not finite: the model gives some token no probability, or diverged.")
    return value


def bits_per_character(log_probabilities: np.ndarray, characters: int) -> float:
    """Information in bits for each character of the text, whatever the tokens are: -sum(log2 p) / characters."""
    return float(-np.sum(log_probabilities, dtype=np.float64) / np.log(2) / characters)


def mix(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """log(weight * exp(first) + (1 - weight) * exp(second)), entry by entry."""
    return np.logaddexp(first + np.log(weight), second + np.log1p(-weight))


def mixture_weight(first: np.ndarray, second: np.ndarray, rounds: int = 100) -> float:
    """The weight of ``first`` in :func:`mix` under which a text is most likely, by expectation maximisation.

    Jelinek and Mercer (1980): the weight becomes the mean share of the first model in each token's probability.

    Args:
        first, second: log-probabilities (n,) of held-out tokens.
        rounds: iterations.
    """
    weight = 0.5
    for _ in range(rounds):
        share = np.exp(first + np.log(weight) - mix(first, second, weight))
        weight = float(np.clip(share.mean(), 1e-6, 1 - 1e-6))
    return weight


# ---------------------------------------------------------------- Kneser-Ney


class KneserNey:
    """An n-gram model with interpolated, modified Kneser-Ney smoothing (Chen and Goodman 1998, section 3).

    p(w | h) = max(c(h w) - D(c), 0) / c(h) + gamma(h) p(w | h'), where h' is h without its first token. The highest
    order uses counts; lower orders use the number of different tokens seen before an n-gram. D has one value each for
    counts of 1, 2 and 3 or more, Y = n1 / (n1 + 2 n2), D_k = k - (k + 1) Y n_(k+1) / n_k. The lowest order is
    interpolated with 1 / vocabulary.

    Counting is by sorting: an n-gram is its last token's (n-1)-gram, as a number, and the token before that.

    Args:
        ids: (tokens,), the training stream.
        order: tokens in an n-gram, 1 or more.
        size: entries of the vocabulary.
        discount: one fixed D for the orders above 1, with unigrams neither discounted nor interpolated (the form of
            Kneser and Ney 1995 that NLTK has); None estimates three of each order.
        pad: let no n-gram reach over an EOS, as if each sentence stood alone; otherwise the text is one stream.
    """

    def __init__(
        self, ids: np.ndarray, order: int, size: int, discount: float | None = None, pad: bool = False
    ) -> None:
        self.order, self.size, self.pad, self.discount = order, size, pad, discount
        rows = self._rows(ids)
        self._grams = _Suffixes(rows, order, size)
        self._contexts = _Suffixes(rows[:, :-1], order - 1, size)
        self.discounts: list[np.ndarray] = []
        self._levels = [self._level(rows, k) for k in range(1, order + 1)]

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """Each token with the ``order`` - 1 tokens before it, (n, order); what lies before the text is EOS."""
        ids = np.concatenate([np.zeros(self.order - 1, "int64"), np.asarray(ids, "int64")])
        rows = np.lib.stride_tricks.sliding_window_view(ids, self.order)
        return np.column_stack([self._cut(rows[:, :-1]), rows[:, -1]])

    def _cut(self, contexts: np.ndarray) -> np.ndarray:
        """With ``pad``, what lies before the last EOS of a context becomes EOS."""
        if not self.pad or not contexts.size:
            return contexts
        ended = np.maximum.accumulate(contexts[:, ::-1] == 0, axis=1)[:, ::-1]
        return np.where(ended, 0, contexts)

    def _level(self, rows: np.ndarray, k: int) -> dict[str, np.ndarray]:
        """Of order ``k``: (counts - D) / total of each n-gram, gamma of each context, n-grams sorted by context."""
        gram, count = self._grams.ids[k], np.bincount(self._grams.ids[k])
        if k < self.order:
            count = np.bincount(self._grams.keys[k + 1] // self.size, minlength=len(count))
        context = np.zeros(len(count), "int64")
        context[gram] = self._contexts.ids[k - 1]
        word = np.zeros(len(count), "int64")
        word[gram] = rows[:, -1]
        cut = self._discounts(count, k)[np.minimum(count, 3)]
        total = np.bincount(context, count)
        order = np.argsort(context, kind="stable")
        start = np.searchsorted(context[order], np.arange(len(total) + 1))
        alpha, gamma = (count - cut) / total[context], np.bincount(context, cut) / total
        return {"alpha": alpha, "gamma": gamma, "word": word[order], "gram": order, "start": start}

    def _discounts(self, count: np.ndarray, k: int) -> np.ndarray:
        """D of a count of 0, 1, 2, and 3 or more; 0.75 where a small text gives no sensible estimate."""
        if self.discount is not None:
            found = np.array([0, 1, 1, 1]) * (self.discount if k > 1 else 0.0)
        else:
            n1, n2, n3, n4 = np.bincount(count, minlength=5)[1:5]
            y = n1 / max(n1 + 2 * n2, 1)
            ratio = [n2 / n1 if n1 else 1, n3 / n2 if n2 else 1, n4 / n3 if n3 else 1]
            found = np.array([0.0, *(i + 1 - (i + 2) * y * r for i, r in enumerate(ratio))])
            found = np.where((found > 0) & (found < [1, 1, 2, 3]), found, [0, 0.75, 0.75, 0.75])
        self.discounts.append(found[1:])
        return found

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Natural logarithms (n,) of each token's probability given those before it; no loop over tokens."""
        rows = self._rows(ids)
        grams, contexts = self._grams.find(rows), self._contexts.find(rows[:, :-1])
        p = np.full(len(rows), 1 / self.size)
        for level, gram, context in zip(self._levels, grams[1:], contexts, strict=True):
            alpha = np.where(gram >= 0, level["alpha"][gram], 0)
            p = np.where(context >= 0, alpha + level["gamma"][context] * p, p)
        return np.log(p)

    def probabilities(self, contexts: np.ndarray) -> np.ndarray:
        """Distributions (n, vocabulary) of the token after each context (n, length); only the last tokens count."""
        contexts = (
            np.asarray(contexts, "int64")[:, -self.order + 1 :] if self.order > 1 else np.zeros((len(contexts), 0))
        )
        before = np.zeros((len(contexts), self.order - 1 - contexts.shape[1]), "int64")
        rows = np.column_stack([before, contexts.astype("int64")])
        if self.pad and self.order > 1:
            rows = np.where(np.maximum.accumulate(rows[:, ::-1] == 0, axis=1)[:, ::-1], 0, rows)
        p = np.full((len(rows), self.size), 1 / self.size)
        for level, context in zip(self._levels, self._contexts.find(rows), strict=True):
            known = np.flatnonzero(context >= 0)
            start = level["start"][context[known]]
            count = level["start"][context[known] + 1] - start
            p[known] *= level["gamma"][context[known], None]
            places = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + np.repeat(start, count)
            p[np.repeat(known, count), level["word"][places]] += level["alpha"][level["gram"][places]]
        return p


class _Suffixes:
    """A number for each different run of tokens at the end of the rows of a table, for each length of the run.

    Attributes:
        ids: by length, the number of each row's last tokens, (n,).
        keys: by length, sorted: number of the shorter run * vocabulary + the token before it.
    """

    def __init__(self, rows: np.ndarray, longest: int, size: int) -> None:
        self._size = size
        self.ids, self.keys = [np.zeros(len(rows), "int64")], [np.zeros(1, "int64")]
        for k in range(1, longest + 1):
            keys, ids = np.unique(self.ids[-1] * size + rows[:, -k], return_inverse=True)
            self.keys.append(keys)
            self.ids.append(ids)

    def find(self, rows: np.ndarray) -> list[np.ndarray]:
        """By length, the number of each row's last tokens, -1 where they were never seen."""
        found = [np.zeros(len(rows), "int64")]
        for k, keys in enumerate(self.keys[1:], 1):
            wanted = found[-1] * self._size + rows[:, -k]
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found.append(np.where((found[-1] >= 0) & (keys[place] == wanted), place, -1))
        return found


# ---------------------------------------------------------------- neural models


def contiguous(ids: np.ndarray, batch_size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a text into ``batch_size`` parallel streams and these into steps, so that state can be carried on.

    Row r of batch i + 1 continues row r of batch i; the target of a token is the next one. Up to
    ``batch_size * length`` tokens at the end are left out (Zaremba et al. 2014).

    Returns:
        Inputs and targets, (batches, batch_size, length) int32 each.

    Raises:
        InputError: the text is too short for one batch.
    """
    steps = len(ids) // (batch_size * length)
    if not steps:
        raise InputError(
            f"The text has {len(ids)} tokens and one batch needs {batch_size * length}: give more text, or "
            "make batches smaller."
        )
    used = batch_size * steps * length
    before = np.concatenate([[0], ids[: used - 1]])

    def cut(stream: np.ndarray) -> np.ndarray:
        return stream.reshape(batch_size, steps, length).swapaxes(0, 1).astype("int32")

    return cut(before), cut(ids[:used])


def windows(ids: np.ndarray, batch_size: int, length: int, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws windows of text from random places, for a model without state.

    Returns:
        Inputs and targets, (steps, batch_size, length) int32 each.

    Raises:
        InputError: the text is not longer than a window.
    """
    if len(ids) <= length:
        raise InputError(f"The text has {len(ids)} tokens and a window needs {length + 1}: give more text.")
    starts = np.random.default_rng(seed).integers(0, len(ids) - length, (steps, batch_size))
    views = np.lib.stride_tricks.sliding_window_view(np.asarray(ids, "int32"), length + 1)[starts]
    return views[..., :-1], views[..., 1:]


class Neural:
    """A Keras model of the next token, with or without state, as a :class:`LanguageModel`.

    Args:
        model: token ids (b, t), then states if it has any -> logits (b, t, vocabulary), then the new states.
        length: tokens the model reads at once: its window if it has no state, else those between two cuts of the
            gradient.
    """

    ROWS = 16

    def __init__(self, model: keras.Model, length: int) -> None:
        self._tf = tf = import_tensorflow()
        self.model, self.length = model, length
        self._widths = [i.shape[-1] for i in model.inputs[1:]]
        self._forward = tf.function(self._predict, autograph=False, reduce_retracing=True)
        self._score = tf.function(self._scores, autograph=False, jit_compile=True)

    def _call(self, ids: Any, states: Sequence[Any], training: bool) -> tuple[Any, list[Any]]:
        found = self.model([ids, *states] if states else ids, training=training)
        return (found[0], list(found[1:])) if states else (found, [])

    def _predict(self, ids: Any, *states: Any) -> tuple[Any, list[Any]]:
        return self._call(ids, states, training=False)

    def _scores(self, ids: Any, targets: Any, *states: Any) -> tuple[Any, list[Any]]:
        logits, states = self._call(ids, states, training=False)
        return -self._tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits), states

    def start(self, rows: int) -> list[Any]:
        """The states before the first token, all zero, (rows, width) each."""
        return [self._tf.zeros((rows, width)) for width in self._widths]

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Natural logarithms (n,) of each token's probability.

        A model with state reads the text in 16 parts side by side, each from a state of zeros; one without reads
        windows that overlap by half, so that every token but the first has at least half a window before it.
        """
        ids = np.asarray(ids, "int32")
        return self._carried(ids) if self._widths else self._windowed(ids)

    def _carried(self, ids: np.ndarray) -> np.ndarray:
        steps = -(-len(ids) // (self.ROWS * self.length))
        padded = np.concatenate([ids, np.zeros(self.ROWS * steps * self.length - len(ids), "int32")])
        x, y = contiguous(padded, self.ROWS, self.length)
        states, found = self.start(self.ROWS), []
        for inputs, targets in zip(x, y, strict=True):
            scores, states = self._score(inputs, targets, *states)
            found.append(scores.numpy())
        return np.concatenate(found, axis=1).reshape(-1)[: len(ids)].astype("float64")

    def _windowed(self, ids: np.ndarray) -> np.ndarray:
        if self.length % 2:
            raise InputError(f"A model without state reads windows of even length, not {self.length}: choose one.")
        half = self.length // 2
        count = self.ROWS * (-(-max(len(ids) - self.length, 0) // (half * self.ROWS)) + 1)
        padded = np.concatenate([[0], ids, np.zeros(count * half + self.length - len(ids), "int32")]).astype("int32")
        views = np.lib.stride_tricks.sliding_window_view(padded, self.length + 1)[: count * half : half]
        parts = [self._score(v[:, :-1], v[:, 1:])[0].numpy() for v in np.split(views, count // self.ROWS)]
        scores = np.concatenate(parts)
        return np.concatenate([scores[0, :half], scores[:, half:].reshape(-1)])[: len(ids)].astype("float64")

    def probabilities(self, contexts: np.ndarray) -> np.ndarray:
        """Distributions (n, vocabulary) of the token after each context (n, t).

        Raises:
            InputError: the contexts are empty, or longer than a model without state can read.
        """
        return self._next(np.asarray(contexts, "int32"), self.start(len(contexts)))[0]

    def _next(self, ids: np.ndarray, states: list[Any]) -> tuple[np.ndarray, list[Any]]:
        last = ids.shape[1] - 1
        if last < 0 or (not self._widths and ids.shape[1] > self.length):
            raise InputError(
                f"The context has {ids.shape[1]} tokens and the model reads 1 to {self.length}: give its last tokens."
            )
        if not self._widths:  # what stands right of the context cannot be seen from it
            ids = np.pad(ids, ((0, 0), (0, self.length - ids.shape[1])))
        logits, states = self._forward(ids, *states)
        return special.softmax(logits[:, last].numpy().astype("float64"), axis=-1), states

    def continuations(self, prompt: np.ndarray) -> Callable[[int | None], np.ndarray]:
        """Reads ``prompt`` (n,), then gives the next distribution for each token it is told (None at first)."""
        seen, states = list(prompt), self.start(1)

        def following(token: int | None) -> np.ndarray:
            nonlocal states
            seen.extend([] if token is None else [token])
            new = seen[-self.length :] if not self._widths else seen if token is None else [token]
            p, states = self._next(np.array([new], "int32"), states)
            return p[0]

        return following

    def fit(self, draw: Callable[[int], tuple[np.ndarray, np.ndarray]], validation: np.ndarray, epochs: int,
            label: str, learning_rate: float) -> pd.DataFrame:  # fmt: skip
        """Trains by truncated back-propagation through time: state runs on from batch to batch, gradients do not.

        Adam with clipped gradients; the rate rises over the first steps, then falls on a cosine to a tenth. The
        weights of the best epoch on the validation text are kept. Within a run the state is kept after each epoch.

        Args:
            draw: epoch -> inputs and targets (steps, batch, length), the same number of steps each time.
            validation: (tokens,) to choose the epoch by.
            epochs, label, learning_rate: how many, the model's name, the highest.

        Returns:
            One row an epoch: ``model, epoch, loss, val_loss`` in nats a token; ``attrs["seconds"]`` is the time.

        Raises:
            InputError: the loss is beyond all measure, or not a number.
        """
        import pandas as pd

        step, folder = self._trainer(len(draw(0)[0]) * epochs, learning_rate), runs.checkpoint(label)
        state, rows = folder and folder / "rows.json", []

        def file(epoch: int) -> Path:
            return folder / f"{epoch}.weights.h5"

        def best() -> int:
            return min(range(len(rows)), key=lambda i: rows[i]["val_loss"])

        if state and state.exists():
            rows += json.loads(state.read_text("utf-8"))
            self.model.load_weights(file(best()))
        weights = self.model.get_weights()
        if rows:
            self.model.load_weights(file(len(rows) - 1))
        with bar(epochs, label) as shown:
            shown.update(len(rows))
            for epoch in range(len(rows), epochs):
                clock = time.monotonic()
                loss = self._epoch(step, draw(epoch), label, epoch)
                val_loss = -float(self.log_probabilities(validation).mean())
                rows.append({"epoch": epoch + 1, "loss": loss, "val_loss": val_loss})
                rows[-1]["seconds"] = time.monotonic() - clock
                if best() == epoch:
                    weights = self.model.get_weights()
                if folder:  # the weights first, then the rows that name them; only the last and the best stay
                    self.model.save_weights(file(epoch))
                    files.write_json(state, rows)
                    for old in set(folder.glob("*.weights.h5")) - {file(epoch), file(best())}:
                        old.unlink()
                shown.set_postfix_str(f"validation perplexity {np.exp(val_loss):.1f}", refresh=False)
                shown.update()
        self.model.set_weights(weights)
        frame = pd.DataFrame(rows)
        frame.insert(0, "model", label)
        frame.attrs["seconds"] = float(frame.pop("seconds").sum())
        return frame

    def _trainer(self, steps: int, rate: float) -> Callable[..., Any]:
        """One compiled step of training: inputs, targets, states -> mean loss, states."""
        import keras

        tf = self._tf
        warm = min(100, steps // 10)
        schedule = keras.optimizers.schedules.CosineDecay(
            rate / 10, steps - warm, alpha=0.1, warmup_target=rate, warmup_steps=warm
        )
        self.model.compile(keras.optimizers.Adam(schedule, beta_2=0.99, global_clipnorm=1.0))
        self.model.optimizer.build(self.model.trainable_variables)

        @tf.function(autograph=False, jit_compile=True)
        def step(ids: Any, targets: Any, *states: Any) -> tuple[Any, list[Any]]:
            with tf.GradientTape() as tape:
                logits, states = self._call(ids, states, training=True)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
            variables = self.model.trainable_variables
            self.model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return loss, states

        return step

    def _epoch(self, step: Callable, batches: tuple[np.ndarray, np.ndarray], label: str, epoch: int) -> float:
        """Mean loss of an epoch in nats a token."""
        states, losses = self.start(batches[0].shape[1]), []
        for i, (ids, targets) in enumerate(zip(*batches, strict=True)):
            loss, states = step(ids, targets, *states)
            losses.append(loss)
            if (i % 50 == 0 or i + 1 == len(batches[0])) and not float(loss) < DIVERGED:
                raise InputError(
                    f"{label} diverged in epoch {epoch + 1} (the loss is {float(loss):.3g}): lower the learning rate."
                )
        return float(np.mean([float(loss) for loss in losses]))

    def save(self, folder: Path, vocabulary: Sequence[str], unit: str) -> None:
        """Writes what :func:`load` needs: ``language_model.keras`` and ``language_model.json``."""
        from helpers.files import write_json

        save_keras(self.model, folder / "language_model.keras")
        settings = {"length": self.length, "unit": unit, "vocabulary": list(vocabulary)}
        write_json(folder / "language_model.json", settings)


def load(folder: Path) -> tuple[Neural, list[str], str]:
    """Reads a saved model.

    Returns:
        The model, its vocabulary and the unit of its tokens.

    Raises:
        InputError: the folder holds no language model.
    """
    if not (folder / "language_model.json").exists():
        raise InputError(f"{folder.name} holds no language model: name the folder model/ of a run of 02.")
    import_tensorflow()
    import keras

    settings = json.loads((folder / "language_model.json").read_text("utf-8"))
    model = keras.models.load_model(folder / "language_model.keras", compile=False)
    return Neural(model, settings["length"]), settings["vocabulary"], settings["unit"]


# ---------------------------------------------------------------- sampling


def reshape(p: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """Sharpens and cuts a distribution before a token is drawn from it.

    Args:
        p: (vocabulary,), summing to 1.
        temperature: p becomes p^(1 / temperature), normalised; 0 leaves the most likely token only.
        top_k: keeps the k most likely tokens (Fan et al. 2018); 0 keeps all.
        top_p: keeps the fewest tokens that together reach this share (nucleus sampling, Holtzman et al. 2020).

    Returns:
        (vocabulary,), summing to 1.

    Raises:
        InputError: a setting without meaning.
    """
    if temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise InputError("Sampling needs a temperature and top_k of 0 or more and a top_p above 0, at most 1.")
    if temperature == 0:
        return np.eye(len(p))[np.argmax(p)]
    with np.errstate(divide="ignore"):
        p = special.softmax(np.log(p) / temperature, axis=-1)
    order = np.argsort(-p, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    kept = (before < top_p) & (np.arange(len(p)) < (top_k or len(p)))
    cut = np.zeros_like(p)
    cut[order[kept]] = p[order[kept]]
    return cut / cut.sum()


def generate(model: LanguageModel, prompt: np.ndarray, count: int, seed: int, **settings: float) -> list[int]:
    """Draws ``count`` tokens after ``prompt`` (n,), each from :func:`reshape` of the model's distribution.

    UNKNOWN is never drawn: it is no word. The same model, prompt and seed give the same tokens.
    """
    rng, ids = np.random.default_rng(seed), [int(i) for i in prompt]
    step = model.continuations(prompt) if isinstance(model, Neural) else None
    token: int | None = None
    for _ in range(count):
        p = (step(token) if step else model.probabilities(np.array([ids]))[0]).copy()
        p[1] = 0
        token = int(rng.choice(len(p), p=reshape(p / p.sum(), **settings)))
        ids.append(token)
    return ids[len(prompt) :]
