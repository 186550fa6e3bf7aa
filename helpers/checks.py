"""Checks of labelled texts before any training; where one looks at a sample, its finding says so."""

import re
import sys
import unicodedata
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from helpers import data, text

LOOSELY = "when punctuation, width and case are ignored"
PROBLEM = 0.01  # share of the rows from which a fault counts as a problem; below it is a note
SAMPLE = 20_000  # texts that a classifier or a search for the labels' words reads at most
SAMPLE_CELLS = 2_000_000  # texts times classes that a classifier learns from at most
MOST_CLASSES = 800  # that a classifier tells apart
FOLDS = 3  # of a cross-validation; a class needs a text for each
SCRIPTS = {"Latin": "in Latin script", "Chinese": "Chinese", "other": "in another script", "none": "without a letter"}
ENGLISH = frozenset(("the", "and", "to", "for", "with", "that", "this", "what", "how", "are", "you", "from"))


@dataclass(frozen=True)
class Finding:
    """What one check found, in one plain sentence with the figures, and what it would change or what to do."""

    name: str
    level: str  # "fine", "note" or "problem"
    finding: str
    advice: str
    examples: pd.DataFrame  # at most 10 rows, often with part, row (number in its file), text (shortened) and label


def check(splits: data.Splits, seed: int = 42) -> list[Finding]:
    """Returns the findings of all quick checks; train and validation rows together are the training rows."""
    rows = together(splits)
    quick = (duplicates, conflicting_labels, leaked_test_texts, look_alikes, lengths, languages)
    return [*(look(rows) for look in quick), label_words(rows, seed)]


def slow_checks(splits: data.Splits, seed: int = 42) -> list[Finding]:
    """Returns what is found of doubtful labels; of over 800 classes nothing, for it would take too long."""
    rows = together(splits)
    return [doubtful_labels(rows, seed)] if rows["label"].nunique() <= MOST_CLASSES else []


def together(splits: data.Splits) -> pd.DataFrame:
    """Returns all rows, training rows first: ``part`` (such as test), ``row``, ``text``, ``label``, ``key`` (loose)."""
    learned = pd.concat([splits.train.assign(part="train"), splits.validation.assign(part="validation")])
    rows = pd.concat([learned.sort_values("row", kind="stable"), splits.test.assign(part="test")], ignore_index=True)
    return rows.assign(key=rows["text"].map(loose))[["part", "row", "text", "label", "key"]]


@cache
def _ignored() -> dict[int, None]:
    """Punctuation, white space and control characters; symbols stay, since C++ is not C, nor a frown a smile."""
    every = range(sys.maxunicode + 1)
    return {i: None for i in every if unicodedata.category(chr(i)).startswith(("P", "Z", "Cc", "Cf"))}


def loose(content: str) -> str:
    """Returns a text without punctuation, white space, width and case; as it is where nothing else would be left."""
    return unicodedata.normalize("NFKC", content).casefold().translate(_ignored()) or content


def _learned(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["part"] != "test"].reset_index(drop=True)


def _shown(rows: pd.DataFrame, **more: Any) -> pd.DataFrame:
    """The first ten rows with more columns beside them, each text on one line and cut."""
    table = rows[["part", "row", "text", "label"]].assign(**more).head(10).reset_index(drop=True)
    lines = (" ".join(t.split()) for t in table["text"])
    cut = [t if len(t) <= 80 else t[:79] + "…" for t in lines]
    return table.assign(text=np.array(cut, dtype=object))


def _finding(name: str, level: str | tuple[int, int], finding: str, advice: str, shown: pd.DataFrame) -> Finding:
    """A finding; ``level`` may be how many rows have the fault, and of how many. What is fine needs no advice."""
    if not isinstance(level, str):
        level = "fine" if not level[0] else "note" if level[0] < PROBLEM * level[1] else "problem"
    return Finding(name, level, finding, "It would change nothing." if level == "fine" else advice, shown)


def _of(count: int, total: int) -> str:
    return f"{count:,}" if count == total else f"{count:,} of {total:,}"


def duplicates(rows: pd.DataFrame) -> Finding:
    """Finds training texts that repeat an earlier one, word for word and loosely (see :func:`loose`)."""
    learned = _learned(rows)
    exact, again = int(learned.duplicated("text").sum()), learned.duplicated("key")
    train, held_out = (learned[learned["part"] == part]["key"] for part in ("train", "validation"))
    total, loosely, leaked = len(learned), int(again.sum()), held_out.isin(train).sum()
    finding = f"{exact:,} of {total:,} training texts repeat an earlier one word for word, {loosely:,} {LOOSELY}."
    leak = f"; {leaked:,} validation texts stand in train, which flatters a model that memorises" * bool(leaked)
    advice = f"Remove the repeats{leak}."
    first = learned.groupby("key", sort=False)[["row", "label"]].transform("first")[again]
    shown = _shown(learned[again], earlier_row=first["row"], earlier_label=first["label"])
    return _finding("repeated texts", (loosely, total), finding, advice, shown)


def conflicting_labels(rows: pd.DataFrame) -> Finding:
    """Finds texts with two or more labels, punctuation, width and case ignored, test rows included."""
    found = rows[rows.groupby("key")["label"].transform("nunique") > 1].sort_values("key", kind="stable")
    count, texts, in_test = len(found), found["key"].nunique(), (found["part"] == "test").sum()
    finding = f"{texts:,} texts carry two or more labels, in {count:,} of {len(rows):,} rows ({in_test:,} in test)."
    advice = "No model can get all of these right: decide on one label for each text, or remove them."
    return _finding("same text, other label", (count, len(rows)), finding, advice, _shown(found))


def leaked_test_texts(rows: pd.DataFrame) -> Finding:
    """Finds test texts that stand in the training rows, word for word and loosely (see :func:`loose`)."""
    learned, test = _learned(rows), rows[rows["part"] == "test"]
    leaked, exact = test[test["key"].isin(learned["key"])], int(test["text"].isin(learned["text"]).sum())
    count, total = len(leaked), len(test)
    finding = f"{exact:,} of {total:,} test texts stand in the training rows word for word, {count:,} {LOOSELY}."
    advice = "A model that memorises gets them right: remove these rows from training, or report the score without."
    first = learned.drop_duplicates("key").set_index("key").loc[leaked["key"]]
    shown = _shown(leaked, training_row=first["row"].to_numpy(), training_label=first["label"].to_numpy())
    return _finding("test texts in training", (count, total), finding, advice, shown)


def look_alikes(rows: pd.DataFrame) -> Finding:
    """Finds labels that differ in case, width, white space, invisible characters or the spelling of a number only."""
    labels = rows["label"].drop_duplicates().sort_values()
    alike = [list(group) for _, group in labels.groupby(labels.map(_spelt), sort=False) if len(group) > 1]
    listed = "; ".join(" and ".join(map(ascii, group)) for group in alike[:5])
    finding = f"{len(alike):,} groups of labels look alike{': ' * bool(alike)}{listed}."
    advice = "They stay classes of their own: if they are one, spell them alike, or the model cannot tell them apart."
    shown = _shown(rows[rows["label"].isin({x for group in alike for x in group})].drop_duplicates("label"))
    return _finding("look-alike labels", "note" if alike else "fine", finding, advice, shown)


def _spelt(label: str) -> str:
    """What look-alikes have in common: the plain text, of a number without zeros at its ends."""
    plain = text.normalise(label).casefold().replace(" ", "")
    bare = re.sub(r"^\+?0*(?=\d)|(?<=^-)0+(?=\d)|\.0*$|(?<=\.)(\d*[1-9])0+$", r"\1", plain)
    return bare if re.fullmatch(r"[+-]?[\d.]+", plain) else plain


def lengths(rows: pd.DataFrame) -> Finding:
    """Finds texts of fewer than 3 tokens (:func:`helpers.text.tokenize`), or of more than the 512 that BERT reads."""
    unit = text.guess_unit(rows["text"].iloc[:SAMPLE])
    tokens = rows["text"].map(lambda t: len(text.tokenize(t, unit)))
    odd = tokens[(tokens < 3) | (tokens > 512)].sort_values(kind="stable")
    short, reach = (tokens < 3).sum(), np.ceil(tokens.quantile(0.95))
    finding = f"{short:,} of {len(rows):,} texts have fewer than 3 {unit}s and {len(odd) - short:,} more than 512; "
    finding += f"the median is {tokens.median():.0f}, the longest {tokens.max():,}."
    advice = f"95 % of the texts are whole within {reach:,.0f} {unit}s: see LENGTH of notebook 03 (at most 1,000) and "
    advice += "SEQUENCE_LENGTH of 04 (in word pieces, at most 512)."
    advice += " The very short ones say little: check that they are no leftovers." * bool(short)
    level = "note" if len(odd) >= PROBLEM * len(rows) else "fine"
    return _finding("text lengths", level, finding, advice, _shown(rows.loc[odd.index], tokens=odd))


def languages(rows: pd.DataFrame) -> Finding:
    """Counts the scripts of the texts, and whether Latin ones look English (share of its commonest function words)."""
    scripts = rows["text"].map(text.script)
    counts = scripts.value_counts().reindex(list(SCRIPTS), fill_value=0)
    lettered = counts.drop("none")
    main = lettered.idxmax()
    tokens = [token for t in rows["text"][scripts == "Latin"].iloc[:SAMPLE] for token in text.tokenize(t)]
    english = sum(token in ENGLISH for token in tokens) >= 0.03 * max(len(tokens), 1)
    known = {"Latin": "English" if english else "Latin script, perhaps not English", "Chinese": "Chinese"}
    alone = counts[main] >= 0.9 * max(lettered.sum(), 1)
    language = known.get(main, "another script") if alone else "a mix of scripts" if lettered.any() else "no language"
    strangers, fits = rows[~scripts.isin((main, "none"))], language == "English"
    listed = ", ".join(f"{count / len(rows):.1%} {SCRIPTS[name]}" for name, count in counts.items() if count)
    model = "MiniLM, the default of notebook 04, is an English model: for another language name one of it (PRESET)."
    odd = f"Check the {len(strangers):,} texts in another script than most."
    advice = " ".join([model] * (not fits) + [odd] * bool(len(strangers)))
    level = (len(strangers), len(rows)) if fits or len(strangers) >= PROBLEM * len(rows) else "note"
    return _finding("languages", level, f"The texts look like {language}: {listed}.", advice, _shown(strangers))


def label_words(rows: pd.DataFrame, seed: int) -> Finding:
    """Finds classes whose own name stands in their training texts: in 5 % or more, 5 times as often as elsewhere."""
    learned = data.sample(_learned(rows), SAMPLE, seed)
    names, lines, told = sorted(set(learned["label"])), [_spaced(t) for t in learned["text"]], []
    for name in names:
        phrase, own = _spaced(name.replace("_", " ")), (learned["label"] == name).to_numpy()
        has = np.array([phrase in line for line in lines])
        if (has & own).sum() >= 5 and has[own].mean() >= max(0.05, 5 * has[~own].sum() / max((~own).sum(), 1)):
            told.append((has[own].mean(), name, np.flatnonzero(has & own)[0]))
    told.sort(key=lambda t: -t[0])
    finding = f"{len(told):,} of {len(names):,} classes have their own name in 5 % or more of their texts, 5 times as "
    finding += f"often as the others, on {_of(len(learned), len(_learned(rows)))} training texts"
    finding += f"; most often {told[0][1]!r}, in {told[0][0]:.0%} of its texts." if told else "."
    given = sum(share >= 0.5 for share, *_ in told)  # one class in a few may well be what its texts talk about
    level = "fine" if not told else "problem" if 2 * given >= len(names) else "note"
    advice = "Find out whether the name will be there in use; if not, remove it from the texts before training."
    shown = _shown(learned.iloc[[t[2] for t in told]], own_share=[round(t[0], 3) for t in told])
    return _finding("label's name in the text", level, finding, advice, shown)


def _spaced(content: str) -> str:
    """Words between spaces, Chinese by character, so that "art" is not found in "party"."""
    words = re.sub("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])", r" \1 ", " ".join(text.tokenize(content)))
    return f" {' '.join(words.split())} "


def doubtful_labels(rows: pd.DataFrame, seed: int) -> Finding:
    """Finds training rows whose label is doubtful, by confident learning (Northcutt et al. 2021, cleanlab)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    total, learned = len(_learned(rows)), _learned(rows).drop_duplicates("key")
    learned = learned[learned.groupby("label")["row"].transform("size") >= FOLDS]
    if learned["label"].nunique() < 2:
        finding = "Fewer than two classes have 3 different training texts, so doubtful labels cannot be looked for."
        return _finding("doubtful labels", "note", finding, "Add texts.", _shown(learned.iloc[:0]))
    most = min(SAMPLE, SAMPLE_CELLS // learned["label"].nunique())
    learned = data.sample(learned.reset_index(drop=True), most, seed, least=FOLDS)
    names, targets = np.unique(learned["label"].to_numpy(dtype=object), return_inverse=True)
    chinese = text.guess_unit(learned["text"]) == "character"
    options = {"analyzer": "char", "ngram_range": (1, 2)} if chinese else {"analyzer": text.tokenize}
    features = TfidfVectorizer(**options, sublinear_tf=True).fit_transform(learned["text"])
    classifier = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=10, tol=None, random_state=seed, n_jobs=2)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    chances = cross_val_predict(classifier, features, targets, cv=folds, method="predict_proba")
    said = chances.argmax(axis=1)
    if balanced_accuracy_score(targets, said) < 1 / len(names) + len(targets) ** -0.5:  # or by luck
        finding = "A TF-IDF classifier only guesses here, so doubtful labels cannot be looked for."
        return _finding("doubtful labels", "note", finding, "See what the models make of it.", _shown(learned.iloc[:0]))
    with warnings.catch_warnings(action="ignore"):
        from cleanlab.filter import find_label_issues

        # Of four of cleanlab's filters the most precise one on labels that were flipped at random for a trial.
        options = {"filter_by": "low_normalized_margin", "return_indices_ranked_by": "self_confidence", "n_jobs": 1}
        found = find_label_issues(targets, chances, **options)
    finding = f"{len(found):,} of {_of(len(learned), total)} training labels look doubtful to a TF-IDF classifier"
    finding += f" (cleanlab), which agrees with {(said == targets).mean():.1%} of all."
    who = "some" if (said == targets).mean() > 0.8 else "many"
    advice = f"Read these rows, the most doubtful first, and mend wrong labels; {who} are errors of the classifier."
    p_suggested, p_label = chances[found, said[found]].round(3), chances[found, targets[found]].round(3)
    shown = _shown(learned.iloc[found], suggested=names[said[found]], p_suggested=p_suggested, p_label=p_label)
    return _finding("doubtful labels", "note" if len(found) else "fine", finding, advice, shown)
