"""The models of "which model should I use?" that need no network: counting words, a frozen encoder, and a mixture.

Each gets the same care: its regularisation C is the one, of :data:`STRENGTHS`, with the highest accuracy on validation
rows, because accuracy is what the recommendation compares; between equals the lowest log loss decides. All are plain
arrays, saved as JSON and ``.npz`` without pickle, so that a run folder can be passed on. Taught in notebooks 03 and 06.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax, softmax

from helpers import InputError, files

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
MANY_TEXTS, MOST_FEATURES, CHOICE = 6_000, 300_000, 20_000
_WORDS = {"token_pattern": r"\w+|[?!]", "ngram_range": (1, 2)}
_PARTS = {"analyzer": "char_wb", "ngram_range": (2, 5)}
_CHARACTERS = {"analyzer": "char", "ngram_range": (1, 3)}


@dataclass(frozen=True)
class Fitted:
    """A fitted linear classifier over counted words or over vectors.

    Attributes:
        kind: ``words``, whose inputs are n texts, or ``frozen``, whose inputs are vectors (n, width).
        coef, intercept: (classes, features) and (classes,) of the logits.
        C: the chosen regularisation strength of scikit-learn's ``LogisticRegression``.
        tried: ``C, accuracy, log_loss`` on the validation rows, for each strength.
        seconds: for choosing and fitting.
        counts: settings, vocabulary and idf of each TF-IDF vectorizer.
    """

    kind: str
    coef: np.ndarray
    intercept: np.ndarray
    C: float = 1.0
    tried: pd.DataFrame | None = None
    seconds: float = 0.0
    counts: list[dict[str, Any]] = field(default_factory=list)

    def predict_proba(self, inputs: Sequence[str] | np.ndarray) -> np.ndarray:
        """Returns the class probabilities (n, classes)."""
        if self.kind == "frozen":
            return softmax(unit(inputs) @ self.coef.T + self.intercept, axis=1)
        rows = (_features(self.counts, list(inputs[i : i + 2000])) for i in range(0, len(inputs), 2000))
        logits = [np.asarray(x @ self.coef.T) for x in rows] or [np.zeros((0, len(self.intercept)))]
        return softmax(np.vstack(logits) + self.intercept, axis=1)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns the rows (n, width) at length one, float32; a row of zeros stays so.

    Examples:
        >>> unit(np.array([[3.0, 4.0]])).round(1).tolist() == np.float32([[0.6, 0.8]]).tolist()
        True
    """
    vectors = np.asarray(vectors, dtype="float32")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def fit_words(
    texts: Sequence[str], y: np.ndarray, validation_texts: Sequence[str], y_validation: np.ndarray,
    unit: str, balanced: bool = False,
) -> Fitted:  # fmt: skip
    """Fits the counting classifier: TF-IDF and logistic regression.

    Words and pairs of words, question and exclamation marks among them, with pieces of two to five characters of each
    word; for a script without spaces one to three characters. From 6,000 texts on a feature must occur in two of them.

    Args:
        texts: n texts to learn from.
        y: their classes (n,), from 0; every class occurs.
        validation_texts, y_validation: what C is chosen on.
        unit: ``character`` for a script without spaces, else words (:func:`helpers.text.guess_unit`).
        balanced: weigh classes so that rare ones count the same.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    clock, counts, blocks = time.perf_counter(), [], []
    least = 2 if len(texts) >= MANY_TEXTS else 1
    for settings in [_CHARACTERS] if unit == "character" else [_WORDS, _PARTS]:
        counter = TfidfVectorizer(
            sublinear_tf=True, dtype=np.float32, min_df=least, max_features=MOST_FEATURES, **settings
        )
        try:
            blocks.append(counter.fit_transform(texts))
        except ValueError:  # no text has such a token
            continue
        terms = sorted(counter.vocabulary_, key=counter.vocabulary_.__getitem__)
        counts.append({"settings": settings, "terms": terms, "idf": counter.idf_})
    if not counts:
        raise InputError("No text has a word or a character to count: look at the column of the texts.")
    from scipy import sparse

    x, held = sparse.hstack(blocks, format="csr"), _features(counts, list(validation_texts))
    return _choose("words", x, y, held, y_validation, balanced, clock, counts)


def fit_frozen(
    vectors: np.ndarray, y: np.ndarray, validation_vectors: np.ndarray, y_validation: np.ndarray,
    balanced: bool = False,
) -> Fitted:  # fmt: skip
    """Fits logistic regression on vectors (n, width) of a frozen encoder, brought to length one.

    Args:
        vectors, y: to learn from; the classes (n,) count from 0 and every one occurs.
        validation_vectors, y_validation: what C is chosen on.
        balanced: weigh classes so that rare ones count the same.
    """
    clock = time.perf_counter()
    return _choose("frozen", unit(vectors), y, unit(validation_vectors), y_validation, balanced, clock, [])


def _features(counts: list[dict[str, Any]], texts: list[str]) -> sparse.csr_matrix:
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    blocks = []
    for part in counts:
        counter = part.get("counter")
        if counter is None:
            counter = TfidfVectorizer(
                sublinear_tf=True, dtype=np.float32, vocabulary={t: i for i, t in enumerate(part["terms"])},
                **part["settings"],
            )  # fmt: skip
            counter.idf_ = part["idf"]
            part["counter"] = counter
        blocks.append(counter.transform(texts))
    return sparse.hstack(blocks, format="csr")


def _choose(
    kind: str, x: Any, y: np.ndarray, held: Any, y_held: np.ndarray, balanced: bool, clock: float, counts: list
) -> Fitted:
    """Tries each C, each fit starting from the one before; on very many rows C is chosen on a sample of them."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    classes = int(y.max()) + 1
    model = LogisticRegression(max_iter=200, warm_start=True, class_weight="balanced" if balanced else None)
    sample = np.arange(len(y))
    if len(y) > CHOICE:
        rng = np.random.default_rng(0)
        sample = np.sort(np.r_[np.unique(y, return_index=True)[1], rng.choice(len(y), CHOICE, replace=False)])
    rows, best = [], None
    for strength in STRENGTHS:
        fitted = model.set_params(C=strength).fit(x[sample], y[sample])
        coef, intercept = _two_rows(fitted)
        logs = log_softmax(np.asarray(held @ coef.T) + intercept, axis=1)
        score = (float((logs.argmax(1) == y_held).mean()), -float(-logs[np.arange(len(y_held)), y_held].mean()))
        rows.append((strength, score[0], -score[1]))
        if best is None or score > best[0]:
            best = score, strength, coef, intercept
    _, chosen, coef, intercept = best
    if len(sample) < len(y) or coef.shape[0] != classes:
        coef, intercept = _two_rows(model.set_params(C=chosen, warm_start=False).fit(x, y))
    tried = pd.DataFrame(rows, columns=["C", "accuracy", "log_loss"])
    seconds = time.perf_counter() - clock
    return Fitted(kind, coef.astype("float32"), intercept.astype("float32"), chosen, tried, seconds, counts)


def _two_rows(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns weights and intercepts with a row for each class, for two classes as well."""
    if len(model.classes_) == 2:
        zero = np.zeros_like(model.coef_)
        return np.vstack([zero, model.coef_]), np.r_[0.0, model.intercept_]
    return model.coef_.copy(), model.intercept_.copy()


# ---------------------------------------------------------------- mixture


def mixture_weights(parts: Sequence[np.ndarray], y: np.ndarray) -> np.ndarray:
    """Returns the exponents (models,) of :func:`mix` with the lowest log loss on validation rows.

    They are at least 0 and need not sum to one, so that the mixture is calibrated as well.

    Args:
        parts: probabilities (n, classes) of each model on the validation rows.
        y: the classes (n,).
    """
    from scipy.optimize import minimize

    logs = np.stack([np.log(np.clip(p, 1e-6, 1)) for p in parts])

    def loss(weights: np.ndarray) -> float:
        return -log_softmax(np.tensordot(weights, logs, 1), axis=1)[np.arange(len(y)), y].mean()

    start = np.full(len(parts), 1 / len(parts))
    return minimize(loss, start, method="L-BFGS-B", bounds=[(0.0, 5.0)] * len(parts)).x


def mix(parts: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Returns the normalised product of powers of the models' probabilities, (n, classes).

    Examples:
        >>> mix([np.array([[0.8, 0.2]]), np.array([[0.5, 0.5]])], [1.0, 1.0]).round(3).tolist()
        [[0.8, 0.2]]
    """
    logs = [np.log(np.clip(p, 1e-6, 1)) for p in parts]
    return softmax(np.tensordot(np.asarray(weights, float), np.stack(logs), 1), axis=1)


# ---------------------------------------------------------------- files


def save(folder: Path, name: str, fitted: Fitted, **settings: Any) -> None:
    """Writes ``<name>.json`` and ``<name>.npz`` into a run's ``model/``; no pickle.

    Args:
        folder: made where it is missing.
        name: ``tfidf`` or ``frozen``.
        fitted: the classifier.
        **settings: what a reader needs beside it, such as ``labels``, ``preset`` and ``length``.
    """
    import io

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"coef": fitted.coef.astype("float16"), "intercept": fitted.intercept}
    arrays |= {f"idf_{i}": part["idf"].astype("float32") for i, part in enumerate(fitted.counts)}
    raw = io.BytesIO()
    np.savez_compressed(raw, **arrays)
    files.write_atomic(folder / f"{name}.npz", raw.getvalue())
    kept = [{"settings": part["settings"], "terms": part["terms"]} for part in fitted.counts]
    files.write_json(folder / f"{name}.json", {"kind": fitted.kind, "C": fitted.C, "counts": kept} | settings)


def load(folder: Path, name: str) -> tuple[Fitted, dict[str, Any]]:
    """Reads what :func:`save` wrote.

    Returns:
        The classifier, and the settings that were given.

    Raises:
        InputError: no such model, or files that do not fit together.
    """
    try:
        settings = json.loads((folder / f"{name}.json").read_text("utf-8"))
        arrays = dict(np.load(folder / f"{name}.npz", allow_pickle=False))
        counts = [
            {
                "settings": part["settings"] | {"ngram_range": tuple(part["settings"]["ngram_range"])},
                "terms": [str(term) for term in part["terms"]],
                "idf": arrays[f"idf_{i}"],
            }
            for i, part in enumerate(settings.pop("counts"))
        ]
        coef, intercept = arrays["coef"].astype("float32"), arrays["intercept"]
        sizes = [len(part["terms"]) for part in counts]
        fits = sizes == [len(part["idf"]) for part in counts] and coef.shape[0] == len(intercept)
        if not fits or (counts and sum(sizes) != coef.shape[1]) or not np.isfinite(coef).all():
            raise ValueError
        return Fitted(settings.pop("kind"), coef, intercept, float(settings.pop("C")), counts=counts), settings
    except FileNotFoundError:
        raise InputError(f"The run has no model {name!r}: leave --model out, or run the notebook again.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"model/{name}.json and {name}.npz do not fit together: run the notebook again.") from None
