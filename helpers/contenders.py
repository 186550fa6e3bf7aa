"""The models of "which model should I use?" that need no network: counting words, a frozen encoder, and a mixture.

Each has its C, of :data:`STRENGTHS`, chosen on validation rows: by accuracy, which the recommendation compares, then by
log loss. They are saved as JSON and ``.npz`` without pickle, so that a run can be passed on. Taught in 03 and 06.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import sparse
from scipy.special import log_expit, log_softmax, softmax

from helpers import InputError, files

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
# Texts: from here a feature must occur in two; on so many C is chosen; so many tell the terms; letters of a long file.
MANY_TEXTS, CHOICE, TERMS, LONG = 6_000, 20_000, 100_000, 10_000_000
# Features of a vectorizer; these times classes; counts (12 bytes, 16 more in a fit); these times classes (a minute).
MOST_FEATURES, MOST_WEIGHTS, MOST_COUNTS, MOST_WORK = 300_000, 20_000_000, 22_000_000, 400_000_000
_WORDS = {"token_pattern": r"\w+|[?!]", "ngram_range": (1, 2)}
_PARTS = {"analyzer": "char_wb", "ngram_range": (2, 5)}
_CHARACTERS = {"analyzer": "char", "ngram_range": (1, 3)}


@dataclass(frozen=True)
class Fitted:
    """A fitted linear classifier over counted words or over vectors."""

    kind: str  # "words", whose inputs are n texts, or "frozen", whose inputs are vectors (n, width)
    coef: np.ndarray  # (classes, features), of the logits
    intercept: np.ndarray  # (classes,)
    C: float = 1.0  # the chosen regularisation strength of scikit-learn's LogisticRegression
    tried: pd.DataFrame | None = None  # C, accuracy, log_loss on the validation rows, for each strength
    seconds: float = 0.0  # for choosing and fitting
    texts: int = 0  # rows it learned from: all, unless the time was too short
    counts: list[dict[str, Any]] = field(default_factory=list)  # each TF-IDF counter, its settings and terms

    def predict_proba(self, inputs: Sequence[str] | np.ndarray) -> np.ndarray:
        """Returns the class probabilities (n, classes)."""
        if self.kind == "frozen":
            return np.exp(_log_p(self.kind, _unit(inputs), self.coef, self.intercept))
        blocks = (_features(self.counts, inputs[i : i + 2000]) for i in range(0, len(inputs), 2000))
        logs = [_log_p(self.kind, x, self.coef, self.intercept) for x in blocks]
        return np.exp(np.vstack([np.zeros((0, len(self.intercept))), *logs]))


def fit_words(
    texts: Sequence[str], y: np.ndarray, held_texts: Sequence[str], y_held: np.ndarray, unit: str,
    balanced: bool = False, seconds: float = np.inf,
) -> Fitted:  # fmt: skip
    """Fits the counting classifier: TF-IDF, and for each class a logistic regression against the rest.

    Words and pairs of words, ? and ! among them, with two to five characters of each word; else one to three.

    The classes ``y`` (n,) of the n texts are from 0, and every one occurs; C is chosen on the held-out rows. A ``unit``
    of ``character`` is for scripts without spaces (:func:`helpers.text.guess_unit`); ``balanced`` weighs classes so
    that rare ones count the same. It should take so many ``seconds``, a quarter of them for the choice of C: else fewer
    strengths are tried, then fewer rows. Where memory does not hold half of them, words alone are counted.
    """
    choices = [[_CHARACTERS]] if unit == "character" else [[_WORDS, _PARTS], [_WORDS]]
    clock, classes, choice = time.monotonic(), int(max(y)) + 1, choices[0]
    if len(texts) > CHOICE or sum(map(len, texts)) > LONG:  # how many of them the time and the memory hold
        few = texts[:: max(1, len(texts) // 1000, sum(map(len, texts)) // 1_000_000)]
        for choice in choices:
            begun, size = time.monotonic(), _count(few, choice, classes)[1].nnz / len(few)
            if size * len(texts) <= 2 * MOST_COUNTS:
                break
        most = int(min(0.35 * seconds * len(few) / (time.monotonic() - begun), MOST_COUNTS / size))
        rows, held = _some(y, most), _some(y_held, CHOICE)
        texts, y = [texts[i] for i in rows], y[rows]
        held_texts, y_held = [held_texts[i] for i in held], y_held[held]
    counts, x = _count(texts, choice, classes)
    return _choose("words", x, y, _features(counts, held_texts), y_held, balanced, clock, seconds, counts)


def fit_frozen(
    vectors: np.ndarray, y: np.ndarray, held_vectors: np.ndarray, y_held: np.ndarray,
    balanced: bool = False, seconds: float = np.inf,
) -> Fitted:  # fmt: skip
    """Fits logistic regression on unit vectors (n, width) of a frozen encoder; all else is as of :func:`fit_words`."""
    clock = time.monotonic()
    return _choose("frozen", _unit(vectors), y, _unit(held_vectors), y_held, balanced, clock, seconds, [])


def refit(fitted: Fitted, inputs: Sequence[str] | np.ndarray, y: np.ndarray, balanced: bool = False) -> Fitted:
    """Returns the same classifier, with the same C, fitted anew on n texts or vectors (n, width), all choices made."""
    clock, choice = time.monotonic(), [part["settings"] for part in fitted.counts]
    counts, x = _count(inputs, choice, int(max(y)) + 1) if choice else ([], _unit(inputs))
    coef, intercept = _fit(fitted.kind, x, y, fitted.C, balanced)
    spent = fitted.seconds + time.monotonic() - clock
    return replace(fitted, coef=coef, intercept=intercept, counts=counts, texts=len(y), seconds=spent)


def _count(texts: Sequence[str], choice: list[dict], classes: int) -> tuple[list[dict[str, Any]], sparse.csr_matrix]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    least, most = 2 if len(texts) >= MANY_TEXTS else 1, min(MOST_FEATURES, MOST_WEIGHTS // classes)
    counts, blocks = [], []
    for settings in choice:
        counter = TfidfVectorizer(sublinear_tf=True, dtype=np.float64, min_df=least, max_features=most, **settings)
        try:
            step = len(texts) // TERMS  # of very many texts some tell the terms: all pairs of words would fill memory
            blocks.append(counter.fit(texts[::step]).transform(texts) if step > 1 else counter.fit_transform(texts))
        except ValueError:  # no text has such a token
            continue
        counts.append({"settings": settings, "terms": counter.get_feature_names_out().tolist(), "counter": counter})
    if not counts:
        raise InputError("No text has a word or a character to count: look at the column of the texts.")
    return counts, sparse.hstack(blocks, format="csr")


def _features(counts: list[dict[str, Any]], texts: Sequence[str]) -> sparse.csr_matrix:
    return sparse.hstack([part["counter"].transform(texts) for part in counts], format="csr")


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The rows divided by their length; a row of zeros stays so."""
    vectors = np.asarray(vectors, dtype="float64")
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype("float32")


def _some(y: np.ndarray, most: int) -> np.ndarray:
    """The numbers of all rows, or of about ``most`` drawn at random, at least one of each class."""
    if len(y) <= most:
        return np.arange(len(y))
    return np.union1d(np.unique(y, return_index=True)[1], np.random.default_rng(0).choice(len(y), most, replace=False))


def _log_p(kind: str, x: Any, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Log-probabilities: the softmax of the logits, or each class's own against the rest, scaled to one."""
    logits = np.asarray(x @ coef.T) + intercept
    return log_softmax(log_expit(logits) if kind == "words" else logits, axis=1)


def _fit(kind: str, x: Any, y: np.ndarray, strength: float, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
    """Fits dense vectors by one model, in fewer steps with very many classes; counts, each class against the rest."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    size = np.bincount(y)
    weight = len(y) / (len(size) * size)[y] if balanced else None
    if kind == "frozen" and len(size) > 2:
        model = LogisticRegression(C=strength, max_iter=min(300, 20 + 10**9 // (len(y) * len(size)))).fit(x, y, weight)
        return model.coef_.astype("float32"), model.intercept_.astype("float32")

    def against_rest(label: int) -> np.ndarray:
        model = LogisticRegression(C=strength, solver="liblinear", tol=1e-3).fit(x, y == label, weight)
        return np.r_[model.coef_[0], model.intercept_].astype("float32")

    if kind == "words":
        x.sum_duplicates()  # sorts; a fit would do it in place, while the other threads read
    ask = range(len(size)) if len(size) > 2 else [1]
    with threadpool_limits(1):  # else each of the threads would start threads of its own, for vectors it adds
        rows = Parallel(-1, prefer="threads")(delayed(against_rest)(label) for label in ask)
    if len(size) == 2:  # the other class is its mirror; a softmax counts the difference of both
        half = 1.0 if kind == "words" else 0.5
        rows = [-half * rows[0], half * rows[0]]
    found = np.stack(rows)
    return found[:, :-1], found[:, -1]


def _choose(
    kind: str, x: Any, y: np.ndarray, held: Any, y_held: np.ndarray, balanced: bool, clock: float, seconds: float,
    counts: list,
) -> Fitted:  # fmt: skip
    """Tries each C, the likeliest first; on very many rows C is chosen on a sample of them, and the fit is of all."""
    likely, work = (10, x.nnz * (int(max(y)) + 1)) if kind == "words" else (3, 1)
    sample = _some(y, min(CHOICE, MOST_WORK * len(y) // work))
    some, rows, best, spent = x[sample] if len(sample) < len(y) else x, [], None, 0.0
    for strength in sorted(STRENGTHS, key=lambda c: abs(np.log(c / likely))):
        begun = time.monotonic()
        if best and begun + spent > clock + seconds / 4:  # the rest is for all rows, and for others
            break
        coef, intercept = _fit(kind, some, y[sample], strength, balanced)
        spent = max(spent, time.monotonic() - begun)
        logs = _log_p(kind, held, coef, intercept)
        score = (float((logs.argmax(1) == y_held).mean()), float(logs[np.arange(len(y_held)), y_held].mean()))
        rows.append((strength, score[0], -score[1]))
        if best is None or score > best[0]:
            best = score, strength, coef, intercept
    _, chosen, coef, intercept = best
    rest = max(clock + seconds - time.monotonic(), 0)
    more = _some(y, int(min(rest / (1.5 * spent) * len(sample), len(y))))
    if len(sample) < len(more):
        sample, (coef, intercept) = more, _fit(kind, x[more], y[more], chosen, balanced)
    tried = pd.DataFrame(rows, columns=["C", "accuracy", "log_loss"]).sort_values("C", ignore_index=True)
    return Fitted(kind, coef, intercept, chosen, tried, time.monotonic() - clock, len(sample), counts)


def mix(parts: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Returns the normalised product of powers of the models' probabilities, (n, classes).

    Examples:
        >>> mix([np.array([[0.8, 0.2]]), np.array([[0.5, 0.5]])], [1.0, 1.0]).round(3).tolist()
        [[0.8, 0.2]]
    """
    logs = [np.log(np.clip(p, 1e-6, 1)) for p in parts]
    return softmax(np.tensordot(np.asarray(weights, float), np.stack(logs), 1), axis=1)


def save(folder: Path, name: str, fitted: Fitted, **settings: Any) -> None:
    """Writes ``<name>.json`` and ``<name>.npz`` into a run's ``model/``, without pickle.

    ``settings`` are what a reader needs beside them, such as ``labels``, ``preset`` and ``length``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"coef": fitted.coef.astype("float16"), "intercept": fitted.intercept}
    arrays |= {f"idf_{i}": part["counter"].idf_.astype("float32") for i, part in enumerate(fitted.counts)}
    with files.whole(folder / f"{name}.npz") as file:
        np.savez_compressed(file, **arrays)
    kept = [{"settings": part["settings"], "terms": part["terms"]} for part in fitted.counts]
    files.write_json(folder / f"{name}.json", {"kind": fitted.kind, "C": fitted.C, "counts": kept} | settings)


def load(folder: Path, name: str) -> tuple[Fitted, dict[str, Any]]:
    """Returns what :func:`save` wrote, and the settings."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    settings = json.loads((folder / f"{name}.json").read_text("utf-8"))
    arrays = dict(np.load(folder / f"{name}.npz", allow_pickle=False))
    counts = settings.pop("counts")
    for i, part in enumerate(counts):
        part["settings"]["ngram_range"] = tuple(part["settings"]["ngram_range"])
        known = {str(term): place for place, term in enumerate(part["terms"])}
        counter = TfidfVectorizer(sublinear_tf=True, dtype=np.float64, vocabulary=known, **part["settings"])
        counter.idf_, part["counter"] = arrays[f"idf_{i}"], counter
    coef, intercept = arrays["coef"].astype("float32"), arrays["intercept"]
    return Fitted(settings.pop("kind"), coef, intercept, float(settings.pop("C")), counts=counts), settings
