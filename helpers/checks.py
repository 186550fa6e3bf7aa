"""Checks of labelled texts before any training.

Each check reads one frame of all rows (:func:`together`) and returns one :class:`Finding`: what was found, with figures
and example rows, and what it would change. :func:`check` runs them all. Where a check looks at a sample, its finding
says so.
"""

from __future__ import annotations

import re
import sys
import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import data, text

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 10
FINE = "It would change nothing."
SHOWN_CHARACTERS = 80
PROBLEM = 0.01  # share of the rows from which a fault counts as a problem; below it is a note
SAMPLE = 20_000  # texts that a classifier or a search for the labels' words reads at most
SAMPLE_CELLS = 2_000_000  # texts times classes that a classifier learns from at most
TEST_TEXTS = 200  # of a sample at least, if there are so many
FOLDS = 3  # of a cross-validation; a class needs a text for each
SHORT_TOKENS, LONG_TOKENS = 3, 512  # fewer says little; BERT reads no more
SCRIPTS = ("Latin", "Chinese", "other", "none")
ENGLISH = frozenset(("the", "and", "to", "for", "with", "that", "this", "what", "how", "are", "you", "from"))
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_LETTER = re.compile(r"[^\W\d_]")
_KANA_OR_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: what was looked for.
        level: ``"fine"``, ``"note"`` or ``"problem"``.
        finding: one plain sentence with the figures.
        advice: what it would change, or what to do.
        examples: at most 10 rows, often with ``part``, ``row`` (number in its file), ``text`` (shortened), ``label``.
        figures: the counts and shares of the finding by name.
    """

    name: str
    level: str
    finding: str
    advice: str
    examples: pd.DataFrame
    figures: dict[str, float]


def check(splits: data.Splits, seed: int = 42) -> list[Finding]:
    """Returns the findings of all quick checks in a fixed order.

    Train and validation rows together are the training rows. What needs a classifier is asked for by itself:
    :func:`slow_checks`.

    Args:
        splits: from :func:`helpers.data.load`.
        seed: which rows a check reads where it samples.
    """
    rows = together(splits)
    unit = text.guess_unit(rows["text"].iloc[:SAMPLE])
    return [
        duplicates(rows),
        conflicting_labels(rows),
        leaked_test_texts(rows),
        class_imbalance(rows),
        look_alikes(rows),
        lengths(rows, unit),
        languages(rows),
        label_words(rows, seed),
    ]


def slow_checks(splits: data.Splits, seed: int = 42) -> list[Finding]:
    """Returns what a small classifier finds: the score without the leaked test texts, and doubtful labels."""
    rows = together(splits)
    unit = text.guess_unit(rows["text"].iloc[:SAMPLE])
    return [score_without_leaks(rows, unit, seed), doubtful_labels(rows, unit, seed)]


def overlap(splits: data.Splits) -> np.ndarray:
    """Which test texts stand in the training rows, punctuation, width and case ignored: (test rows,) bool."""
    train, validation, test = (part["text"].map(loose) for part in (splits.train, splits.validation, splits.test))
    return (test.isin(train) | test.isin(validation)).to_numpy()


def together(splits: data.Splits) -> pd.DataFrame:
    """All rows in one frame, the training rows first, in file order.

    Returns:
        ``part`` (train, validation or test), ``row``, ``text``, ``label``, and ``key`` (see :func:`loose`).
    """
    import pandas as pd

    learned = pd.concat([splits.train.assign(part="train"), splits.validation.assign(part="validation")])
    rows = pd.concat([learned.sort_values("row", kind="stable"), splits.test.assign(part="test")], ignore_index=True)
    return rows.assign(key=rows["text"].map(loose))[["part", "row", "text", "label", "key"]]


@cache
def _ignored() -> dict[int, None]:
    """Punctuation, white space and control characters; symbols stay, since C++ is not C, nor a frown a smile."""
    categories = ((i, unicodedata.category(chr(i))) for i in range(sys.maxunicode + 1))
    return {i: None for i, name in categories if name[0] in "PZ" or name in ("Cc", "Cf")}


def loose(content: str) -> str:
    """A text without punctuation, white space, width and case; as it is where nothing else would be left."""
    plain = unicodedata.normalize("NFKC", content).casefold()
    return plain.translate(_ignored()) or content


def _learned(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["part"] != "test"].reset_index(drop=True)


def _shown(rows: pd.DataFrame, **more: Any) -> pd.DataFrame:
    """The first rows with more columns beside them, each text on one line and cut."""
    table = rows[["part", "row", "text", "label"]].assign(**more).head(EXAMPLES).reset_index(drop=True)
    return table.assign(text=_cut(table["text"]))


def _cut(texts: pd.Series) -> np.ndarray:
    lines = [" ".join(t.split()) for t in texts]
    cut = [t if len(t) <= SHOWN_CHARACTERS else t[: SHOWN_CHARACTERS - 1] + "…" for t in lines]
    return np.array(cut, dtype=object)


def _level(count: int, total: int) -> str:
    return "fine" if not count else "note" if count < PROBLEM * total else "problem"


def _finding(
    name: str, count: int, total: int, finding: str, advice: str, rows: pd.DataFrame, figures: dict[str, float]
) -> Finding:
    """A finding whose level follows from how many of all rows have the fault; without any there is no advice."""
    return Finding(name, _level(count, total), finding, advice if count else FINE, rows, figures)


def duplicates(rows: pd.DataFrame) -> Finding:
    """Training texts that repeat an earlier one, word for word and loosely (see :func:`loose`)."""
    learned = _learned(rows)
    exact, same = learned.duplicated("text"), learned.duplicated(["text", "label"])
    repeats = learned.duplicated("key")
    first = learned.groupby("key", sort=False)[["row", "label"]].transform("first")
    leaked = (learned["part"] == "validation") & learned["key"].isin(learned.loc[learned["part"] == "train", "key"])
    figures = {"exact": int(exact.sum()), "same_label": int(same.sum()), "loose": int(repeats.sum())}
    figures |= {"validation": int(leaked.sum()), "texts": len(learned)}
    finding = (
        f"{figures['exact']:,} of {len(learned):,} training texts repeat an earlier one word for word "
        f"({figures['same_label']:,} with the same label), {figures['loose']:,} when punctuation, width and case "
        "are ignored."
    )
    advice = (
        f"Without the repeats {len(learned) - figures['loose']:,} training texts remain; {figures['validation']:,} "
        "validation texts stand in train, which flatters the model that memorises: remove the repeats."
    )
    shown = _shown(learned[repeats], earlier_row=first["row"][repeats], earlier_label=first["label"][repeats])
    return _finding("repeated texts", figures["loose"], len(learned), finding, advice, shown, figures)


def conflicting_labels(rows: pd.DataFrame) -> Finding:
    """Texts that occur with two or more labels, punctuation, width and case ignored, test rows included."""
    pairs = rows[["key", "label"]].drop_duplicates()
    twice = pairs.loc[pairs.duplicated("key"), "key"].unique()
    found = rows[rows["key"].isin(twice)].sort_values("key", kind="stable")
    figures = {"texts": len(twice), "rows": len(found), "test": int((found["part"] == "test").sum())}
    finding = (
        f"{figures['texts']:,} texts carry two or more labels, in {figures['rows']:,} of {len(rows):,} rows "
        f"({figures['test']:,} of them in test)."
    )
    advice = "No model can get all of these right: decide on one label for each text, or remove them."
    return _finding("same text, other label", len(found), len(rows), finding, advice, _shown(found), figures)


def leaked_test_texts(rows: pd.DataFrame) -> Finding:
    """Test texts that stand in the training rows, word for word and loosely (see :func:`loose`)."""
    learned, test = _learned(rows), rows[rows["part"] == "test"].reset_index(drop=True)
    found = test["key"].isin(learned["key"])
    figures = {"exact": int(test["text"].isin(learned["text"]).sum()), "loose": int(found.sum()), "texts": len(test)}
    finding = (
        f"{figures['exact']:,} of {len(test):,} test texts stand in the training rows word for word, "
        f"{figures['loose']:,} when punctuation, width and case are ignored."
    )
    advice = (
        "A model that memorises gets them right: remove these rows from training, or report the score without them."
    )
    first = learned.drop_duplicates("key").set_index("key").loc[test.loc[found, "key"].iloc[:EXAMPLES]]
    more = {"training_row": first["row"].to_numpy(), "training_label": first["label"].to_numpy()}
    shown = _shown(test[found].head(EXAMPLES), **more)
    return _finding("test texts in training", figures["loose"], len(test), finding, advice, shown, figures)


def _classifier(unit: str, seed: int) -> Any:
    """TF-IDF of words, or of one and two characters in Chinese, and logistic regression by SGD: quick with many rows.

    The light regularisation lets it memorise, as large models do, so that repeated texts show in its score.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    options = {"tokenizer": partial(text.tokenize, unit=unit), "token_pattern": None, "sublinear_tf": True}
    options["ngram_range"] = (1, 2) if unit == "character" else (1, 1)
    sgd = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=10, tol=None, random_state=seed, n_jobs=2)
    return make_pipeline(TfidfVectorizer(**options), sgd)


def _most_classes() -> int:
    """How many classes a classifier may tell apart, if each brings a text for each fold."""
    return max(2, min(SAMPLE // FOLDS, int((SAMPLE_CELLS / FOLDS) ** 0.5)))


def _budget(labels: pd.Series) -> int:
    return min(SAMPLE, SAMPLE_CELLS // labels.nunique())


def _draw(rows: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    """About ``size`` rows at random, in their order, and of each class at least as many as there are folds."""
    mixed = rows.sample(frac=1, random_state=seed)
    least = mixed.groupby("label").cumcount() < FOLDS
    rest = mixed[~least].head(max(0, size - int(least.sum())))
    return rows.loc[sorted([*mixed.index[least], *rest.index])]


def score_without_leaks(rows: pd.DataFrame, unit: str, seed: int) -> Finding:
    """Accuracy of TF-IDF and logistic regression on all test texts, and on those that do not stand in training.

    It learns from all training rows. A sample keeps with its test texts whatever repeats them in training, so that the
    share of the overlap stays as it is.
    """
    import pandas as pd

    part = _sample_with_repeats(rows, seed)
    learned, test = _learned(part), part[part["part"] == "test"]
    seen = test["key"].isin(learned["key"]).to_numpy()
    model = _classifier(unit, seed).fit(learned["text"], learned["label"])
    right = model.predict(test["text"]) == test["label"].to_numpy()
    figures = {"accuracy": float(right.mean()), "texts": len(test), "texts_without": int((~seen).sum())}
    finding = f"TF-IDF and logistic regression reach {right.mean():.1%} on {_of(len(test), rows, 'test')} test texts"
    if seen.any() and not seen.all():
        figures["accuracy_without"] = float(right[~seen].mean())
        finding += f", {right[~seen].mean():.1%} on the {(~seen).sum():,} that do not stand in training"
    gap = abs(figures["accuracy"] - figures.get("accuracy_without", figures["accuracy"]))
    advice = "It would change nothing: no test text stands in training."
    if seen.all():
        advice = "Every test text stands in training, so this score says nothing: get other test texts."
    elif seen.any():
        advice = f"Report the score without them: it differs by {100 * gap:.1f} points."
    level = "problem" if seen.all() or gap >= PROBLEM else "note" if seen.any() else "fine"
    return Finding("score without them", level, finding + ".", advice, pd.DataFrame(), figures)


def _of(count: int, rows: pd.DataFrame, part: str) -> str:
    total = int(((rows["part"] == "test") == (part == "test")).sum())
    return f"{count:,}" if count == total else f"{count:,} of {total:,}"


def _sample_with_repeats(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Test texts, the training rows that repeat them, and other training rows of each class."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(rows.loc[rows["part"] == "test", "label"].unique())
    names = [*names, *rng.permutation(np.setdiff1d(rows["label"], names))]
    rows = rows[rows["label"].isin(names[: _most_classes()])].reset_index(drop=True)
    size = _budget(rows["label"])
    if len(rows) <= size:
        return rows
    test, share = rows["part"] == "test", size / len(rows)
    texts = rows.loc[test, "key"].unique()
    drawn = rng.permutation(texts)[: max(TEST_TEXTS, round(share * len(texts)))]
    kept = rows["key"].isin(drawn)
    others = rows[~test & ~kept].drop_duplicates("key")
    kept |= ~test & rows["key"].isin(_draw(others, round(share * len(others)), seed)["key"])
    return rows[kept].reset_index(drop=True)


def class_imbalance(rows: pd.DataFrame) -> Finding:
    """Sizes of the classes in the training rows."""
    import pandas as pd

    counts = _learned(rows)["label"].value_counts().sort_index(kind="stable").sort_values(kind="stable")
    ratio, share, small = counts.iloc[-1] / counts.iloc[0], counts.iloc[-1] / counts.sum(), int((counts < 10).sum())
    figures = {"classes": len(counts), "ratio": float(ratio), "largest_share": float(share), "small_classes": small}
    finding = (
        f"The largest of {len(counts):,} classes has {ratio:.1f} times the texts of the smallest; always guessing it "
        f"is right for {share:.1%} of the training texts; {small:,} classes have fewer than 10."
    )
    advice = (
        "Accuracy hides the small classes: read the macro F1, add texts to the smallest, and try BALANCED of notebooks "
        "03 and 04, which weighs the classes."
        if ratio >= 3 or small
        else "It would change little: accuracy and macro F1 will agree."
    )
    level = "note" if ratio >= 3 or small else "fine"
    table = pd.DataFrame({"label": counts.index, "texts": counts.to_numpy()})
    return Finding("class sizes", level, finding, advice, table.head(EXAMPLES), figures)


def look_alikes(rows: pd.DataFrame) -> Finding:
    """Labels that differ in case, width, white space, invisible characters or the spelling of a number only."""
    alike: dict[str, list[str]] = {}
    for label in sorted(rows["label"].unique()):
        alike.setdefault(_plain_label(label), []).append(label)
    groups = [group for group in alike.values() if len(group) > 1]
    listed = "; ".join(
        " and ".join(ascii(label) if not label.isascii() else repr(label) for label in g) for g in groups[:5]
    )
    finding = f"{len(groups):,} groups of labels look alike" + (f": {listed}." if groups else ".")
    advice = "They stay classes of their own: if they are one, spell them alike, or the model cannot tell them apart."
    found = rows[rows["label"].isin([label for group in groups for label in group])].drop_duplicates("label")
    level = "note" if groups else "fine"
    return Finding(
        "look-alike labels", level, finding, advice if groups else FINE, _shown(found), {"groups": len(groups)}
    )


def _plain_label(label: str) -> str:
    plain = text.normalise(label).casefold().replace(" ", "")
    try:
        return str(float(plain))
    except ValueError:
        return plain


def lengths(rows: pd.DataFrame, unit: str) -> Finding:
    """Texts of fewer than 3 or more than 512 tokens (:func:`helpers.text.tokenize`)."""
    tokens = np.fromiter((len(text.tokenize(t, unit)) for t in rows["text"]), dtype=np.int64, count=len(rows))
    odd = np.flatnonzero((tokens < SHORT_TOKENS) | (tokens > LONG_TOKENS))
    short, reach = int((tokens < SHORT_TOKENS).sum()), int(np.ceil(np.quantile(tokens, 0.95)))
    figures = {"short": short, "long": len(odd) - short, "median": float(np.median(tokens)), "reach": reach}
    figures["longest"] = int(tokens.max())
    noun = "characters" if unit == "character" else "words"
    finding = (
        f"{short:,} of {len(rows):,} texts have fewer than {SHORT_TOKENS} {noun} and {len(odd) - short:,} more than "
        f"{LONG_TOKENS}; the median is {figures['median']:.0f}, the longest {tokens.max():,}."
    )
    advice = f"A model that reads {reach:,} {noun} (LENGTH in notebooks 03 and 04) reads 95 % of the texts whole."
    if short:
        advice += " The very short ones say little: check that they are no leftovers."
    odd = np.r_[
        odd[np.argsort(tokens[odd], kind="stable")][: EXAMPLES // 2], odd[np.argsort(-tokens[odd], kind="stable")]
    ]
    odd = odd[np.sort(np.unique(odd, return_index=True)[1])]
    shown = _shown(rows.iloc[odd], tokens=tokens[odd])
    level = "note" if len(odd) >= PROBLEM * len(rows) else "fine"
    return Finding("text lengths", level, finding, advice, shown, figures)


def script(content: str) -> str:
    """The script of a text: ``"Latin"``, ``"Chinese"``, ``"other"``, or ``"none"`` where it has no letter."""
    if content.isascii():
        return "Latin" if _LATIN.search(content) else "none"
    letters = "".join(_LETTER.findall(content))
    if not letters:
        return "none"
    if 4 * len(_KANA_OR_HANGUL.findall(letters)) >= len(letters):
        return "other"
    if text.cjk_share(letters) >= 1 / 3:
        return "Chinese"
    return "Latin" if 2 * len(_LATIN.findall(letters)) >= len(letters) else "other"


def languages(rows: pd.DataFrame) -> Finding:
    """Scripts of the texts, and whether Latin ones look English (share of its commonest function words)."""
    scripts = np.array([script(t) for t in rows["text"]])
    shares = {name: float((scripts == name).mean()) for name in SCRIPTS}
    main = max(SCRIPTS, key=lambda name: shares[name])
    english = _english_share(rows["text"][scripts == "Latin"].iloc[:SAMPLE])
    guess = {
        "Latin": "English" if english >= 0.03 else "a language in Latin script other than English",
        "Chinese": "Chinese",
    }
    language = guess.get(main, "another script") if shares[main] >= 0.9 else "a mix of scripts"
    figures = {f"{name.lower()}_share": share for name, share in shares.items()} | {"english_words": english}
    strangers = np.flatnonzero(scripts != main)
    listed = ", ".join(f"{shares[name]:.1%} {_SCRIPT_NAMES[name]}" for name in SCRIPTS if shares[name])
    finding = f"The texts look like {language}: {listed}."
    advice = "Notebook 04's MiniLM fits: it is an English model."
    if language != "English":
        advice = "MiniLM, the default of notebook 04, is an English model: name one of this language (PRESET)."
    if len(strangers):
        advice += f" Check the {len(strangers):,} texts in another script than most."
    level = _level(len(strangers), len(rows))
    level = "note" if language != "English" and level == "fine" else level
    return Finding("languages", level, finding, advice, _shown(rows.iloc[strangers]), figures)


_SCRIPT_NAMES = dict(zip(SCRIPTS, ("in Latin script", "Chinese", "in another script", "without a letter"), strict=True))


def _english_share(texts: Iterable[str]) -> float:
    tokens = [token for t in texts for token in text.tokenize(t)]
    return sum(token in ENGLISH for token in tokens) / max(len(tokens), 1)


def doubtful_labels(rows: pd.DataFrame, unit: str, seed: int) -> Finding:
    """Training rows whose label is doubtful, by confident learning (Northcutt et al. 2021, cleanlab).

    Probabilities are those of TF-IDF and logistic regression in 3-fold cross-validation, without repeated texts and
    without classes of fewer than 3 of them.
    """
    learned = _learned(rows).drop_duplicates("key")
    learned = learned[learned.groupby("label")["row"].transform("size") >= FOLDS]
    names = sorted(np.random.default_rng(seed).permutation(sorted(set(learned["label"])))[: _most_classes()])
    if len(names) < 2:
        finding = "Fewer than two classes have 3 different training texts, so doubtful labels cannot be looked for."
        return Finding("doubtful labels", "note", finding, "Add texts.", _shown(learned.iloc[:0]), {})
    learned = learned[learned["label"].isin(names)]
    learned = _draw(learned, _budget(learned["label"]), seed).reset_index(drop=True)
    targets = np.searchsorted(names, learned["label"].to_numpy())
    chances = _cross_validated(learned["text"], targets, unit, seed)
    found = _label_issues(targets, chances)
    suggested = chances[found].argmax(axis=1)
    figures = {"rows": len(found), "texts": len(learned)}
    figures["accuracy"] = float((chances.argmax(axis=1) == targets).mean())
    finding = (
        f"{len(found):,} labels look doubtful to a TF-IDF classifier (cleanlab) on "
        f"{_of(len(learned), rows, 'training')} training texts; it is right for {figures['accuracy']:.1%} of them."
    )
    advice = (
        "Read these rows, the most doubtful first, and mend wrong labels: the less often the classifier is right, the "
        "more of them are its own errors."
        if len(found)
        else FINE
    )
    more = {"suggested": np.array(names, dtype=object)[suggested]}
    more |= {"p_suggested": chances[found, suggested].round(3), "p_label": chances[found, targets[found]].round(3)}
    shown = _shown(learned.iloc[found], **more)
    return Finding("doubtful labels", "note" if len(found) else "fine", finding, advice, shown, figures)


def _cross_validated(texts: pd.Series, targets: np.ndarray, unit: str, seed: int) -> np.ndarray:
    """Probabilities (n, classes) of each text by a model that has not learned from it."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    model = _classifier(unit, seed)
    features = model[:-1].fit_transform(texts)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(model[-1], features, targets, cv=folds, method="predict_proba")


def _label_issues(targets: np.ndarray, chances: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cleanlab.filter import find_label_issues

        # Of four of cleanlab's filters the most precise one on labels that were flipped at random for a trial.
        options = {"filter_by": "low_normalized_margin", "return_indices_ranked_by": "self_confidence", "n_jobs": 1}
        return find_label_issues(targets, chances, **options)


def label_words(rows: pd.DataFrame, seed: int) -> Finding:
    """Classes whose own name stands in their training texts: in 5 % or more, and 5 times as often as elsewhere."""
    import pandas as pd

    learned = data.sample(_learned(rows), SAMPLE, seed)
    table = pd.DataFrame(_name_shares(learned), columns=["label", "own_share", "other_share", "place"])
    told = table[(table["own_share"] >= 0.05) & (table["own_share"] >= 5 * table["other_share"])]
    told = told.sort_values("own_share", ascending=False, kind="stable")
    worst = float(told["own_share"].max()) if len(told) else 0.0
    figures = {"classes": len(told), "largest_share": worst, "texts": len(learned)}
    finding = (
        f"{len(told):,} of {learned['label'].nunique():,} classes have their own name in 5 % or more of their texts, "
        f"5 times as often as the others, on {_of(len(learned), rows, 'training')} training texts."
    )
    advice = FINE
    if len(told):
        finding = finding[:-1] + f"; most often {told['label'].iloc[0]!r}, in {worst:.0%} of its texts."
        advice = "Find out whether the name will be there in use; if not, remove it from the texts before training."
    shares = {name: told[name].to_numpy().round(3) for name in ("own_share", "other_share")}
    level = "fine" if not len(told) else "problem" if worst >= 0.5 else "note"
    shown = _shown(learned.iloc[told["place"]], **shares)
    return Finding("label's name in the text", level, finding, advice, shown, figures)


def _name_shares(learned: pd.DataFrame) -> list[tuple[str, float, float, int]]:
    """For each class found in 5 or more own texts: name, share of own and of other texts with it, an example's place.

    A name is compared token by token, Chinese by character, so that "art" is not found in "party".
    """
    lines = [_spaced(t) for t in learned["text"]]
    labels, shares = learned["label"].to_numpy(), []
    for name in sorted(set(labels)):
        phrase = _spaced(name.replace("_", " "))
        own, has = labels == name, np.fromiter((phrase in line for line in lines), dtype=bool, count=len(lines))
        if phrase.strip() and (has & own).sum() >= 5:
            shares.append((name, has[own].mean(), has[~own].mean(), np.flatnonzero(has & own)[0]))
    return shares


def _spaced(content: str) -> str:
    return f" {' '.join(text.tokenize(content, 'character'))} "
