"""The data checks find what was planted, count it exactly, and stay silent on clean data."""

import numpy as np
import pandas as pd
import pytest

from helpers import checks, data

TOPICS = {
    "sport": "match goal team coach league striker referee stadium season trophy",
    "money": "bank shares profit market loan budget interest trade invoice dividend",
    "food": "soup bread oven recipe garlic butter pepper kitchen dough flavour",
}
FILLER = "the and for with that this from you are what how to"


def clean(rows=40, seed=0):
    """Different English texts, their topic clear, each topic with so many rows."""
    rng = np.random.default_rng(seed)
    draw = {topic: (words.split(), FILLER.split()) for topic, words in TOPICS.items()}
    drawn = [
        (" ".join([*rng.choice(words, 7, replace=False), *rng.choice(filler, 5, replace=False)]), topic)
        for topic, (words, filler) in draw.items()
        for _ in range(rows)
    ]
    return pd.DataFrame(drawn, columns=["text", "label"])


def frame(*pairs):
    return pd.DataFrame(pairs, columns=["text", "label"])


def make_splits(train, test=None, validation=None):
    parts = [frame() if part is None else part for part in (train, validation, test)]
    parts = [p.reset_index(drop=True).assign(row=range(1, len(p) + 1))[["row", "text", "label"]] for p in parts]
    return data.Splits(*parts, labels=sorted(set(train["label"])), name="made")


def rows_of(*parts):
    return checks.together(make_splits(*parts))


def many(*classes):
    """Different training texts, so many of each class."""
    return frame(*[(f"{name} text{i} of class{name}", name) for name, size in classes for i in range(size)])


def test_clean_data_is_fine_throughout_and_the_same_each_time():
    made = make_splits(clean(), clean(10, seed=1), clean(3, seed=7))
    found = checks.check(made) + checks.slow_checks(made)
    assert [(f.name, f.finding) for f in found if f.level != "fine"] == []
    assert len({f.name for f in found}) == len(found) == 8
    for one, again in zip(found, checks.check(made), strict=False):
        assert one.finding.endswith(".") and one.advice.endswith(".") and "\n" not in one.finding
        assert one.finding == again.finding and one.examples.equals(again.examples) and len(one.examples) <= 10


def test_duplicates_are_counted_exactly_and_loosely():
    train = frame(("One two.", "a"), ("One two.", "a"), ("One two.", "b"), ("one, two", "a"), ("three", "b"))
    found = checks.duplicates(rows_of(train, None, frame(("ONE TWO!", "a"), ("four", "b"))))
    assert found.level == "problem" and "2 of 7 training texts repeat" in found.finding and ", 4 when" in found.finding
    assert "1 validation texts stand in train" in found.advice
    expected = [["validation", 1, 1, "a"], *[["train", row, 1, "a"] for row in (2, 3, 4)]]
    assert found.examples[["part", "row", "earlier_row", "earlier_label"]].to_numpy().tolist() == expected


def test_conflicting_labels_include_the_test_rows():
    train = frame(("good film", "a"), ("Good film!", "b"), ("bad film", "b"), ("dull", "a"), ("dull", "a"))
    found = checks.conflicting_labels(rows_of(train, frame(("bad film", "a"), ("new", "a"))))
    assert found.finding == "2 texts carry two or more labels, in 4 of 7 rows (1 in test)."
    assert len(found.examples) == 4


def test_test_texts_in_training_are_found_in_train_and_validation():
    test = frame(("match goal", "sport"), ("Ｍatch　goal！", "sport"), ("bank", "money"), ("unseen", "food"))
    rows = rows_of(frame(("match goal", "sport"), ("x", "money")), test, frame(("Bank.", "money")))
    found = checks.leaked_test_texts(rows)
    assert found.finding.startswith("1 of 4 test texts stand in the training rows word for word, 3 when")
    assert found.examples["training_row"].tolist() == [1, 1, 1]
    assert found.examples["training_label"].tolist() == ["sport", "sport", "money"]


def test_samples_are_said_and_keep_rare_classes(monkeypatch):
    monkeypatch.setattr(checks, "SAMPLE", 300)
    rows = rows_of(clean(150))
    assert "of 450 training labels" in checks.doubtful_labels(rows, 42).finding
    assert "of 450 training texts" in checks.label_words(rows, 42).finding
    rows = rows_of(many(("a", 2000), ("b", 3)))
    assert "of 300 of 2,003" in checks.doubtful_labels(rows, 1).finding


def test_more_classes_than_can_be_told_apart_are_left_out(monkeypatch):
    monkeypatch.setattr(checks, "MOST_CLASSES", 2)
    assert checks.slow_checks(make_splits(clean(), clean(10, seed=1), clean(3, seed=7))) == []


def test_symbols_keep_texts_apart():
    texts = ["C", "C++", "fine 🙂", "fine 🙁", "कि", "का", "!!!", "???", "\ud800"]
    assert len({checks.loose(t) for t in texts}) == len(texts)


def test_short_and_long_texts():
    odd = frame(("!", "food"), ("too short", "food"), ("word " * 513, "food"))
    found = checks.lengths(rows_of(pd.concat([clean(), odd])))
    assert "2 of 123 texts have fewer than 3 words and 1 more than 512" in found.finding
    assert found.examples["tokens"].tolist() == [1, 2, 513] and found.examples["text"].str.len().max() == 80
    assert "LENGTH" in found.advice


GERMAN = "die Mannschaft gewann das Spiel und der Trainer war mit dem Ergebnis sehr zufrieden"
LANGUAGES = [
    (["the match was won by the team from this town", "12 34"], "English", "fine"),
    ([GERMAN], "Latin script, perhaps not English", "note"),
    (["déjà vu à Orléans", "123 !!", "１２３ 🙂"], "Latin script, perhaps not English", "note"),
    (["球队赢得比赛冠军", "iPhone 手机很好用", "服务还可以，888888888888888888"], "Chinese", "note"),
    (["это русский текст", "これは日本語の文章です", "한국어 문장입니다"], "another script", "note"),
    (["球队赢得比赛冠军", "the team won"], "a mix of scripts", "problem"),
]


@pytest.mark.parametrize(("texts", "guess", "level"), LANGUAGES)
def test_languages(texts, guess, level):
    found = checks.languages(rows_of(frame(*[(t, "a") for t in texts * 4])))
    assert f"look like {guess}:" in found.finding and found.level == level
    assert ("PRESET" in found.advice) == (guess != "English")


def test_wrong_labels_are_found_with_a_suggestion():
    train, wrong = clean(60), {5: "money", 70: "food", 130: "sport"}
    train.loc[list(wrong), "label"] = list(wrong.values())
    found = checks.doubtful_labels(rows_of(train), 42)
    assert found.finding.startswith("3 of 180 training labels") and found.level == "note"
    told = {row - 1: (label, said) for row, label, said in found.examples[["row", "label", "suggested"]].to_numpy()}
    assert told == {5: ("money", "sport"), 70: ("food", "money"), 130: ("sport", "food")}
    assert (found.examples["p_suggested"] > found.examples["p_label"]).all()
    blind = frame(*[(f"{i} :)" if i % 2 else f"{i} :(", "ab"[i % 2]) for i in range(100)])
    assert "only guesses here" in checks.doubtful_labels(rows_of(blind), 42).finding
    few = checks.doubtful_labels(rows_of(frame(("one", "a"), ("two", "a"), ("three", "b"), ("four", "b"))), 42)
    assert few.level == "note" and "cannot be looked for" in few.finding


def test_the_name_of_the_class_in_its_texts():
    train = clean()
    train.loc[:23, "text"] += " Sport!"
    train.loc[50, "text"] += " sport"
    train.loc[60:70, "text"] += " moneybag"
    found = checks.label_words(rows_of(train), 42)
    assert found.level == "note" and "1 of 3 classes" in found.finding
    assert "'sport', in 60% of its texts" in found.finding
    assert found.examples[["row", "label", "own_share"]].to_numpy().tolist() == [[1, "sport", 0.6]]
    chinese = [(f"第{i}条体育新闻", "体育") for i in range(12)] + [(f"第{i}条新闻", "财经") for i in range(12)]
    found = checks.label_words(rows_of(frame(*chinese)), 42)
    assert found.level == "problem" and found.examples["label"].tolist() == ["体育"]
    pairs = [(f"question {i} on the exchange rate", "exchange_rate") for i in range(12)]
    pairs += [(f"exchange {i} this card", "card") for i in range(12)]
    assert sorted(checks.label_words(rows_of(frame(*pairs)), 42).examples["label"]) == ["card", "exchange_rate"]


ALIKE = ["Spam|spam", "a|a\u200b", "caf\u00e9|cafe\u0301", "1|1.0", "1|+01", "-1|-1.0", "a b|a  b", "A|Ａ",
         *(APART := ["x|y", "1|1.5", "20240101123456789001|20240101123456789002", "1e400|1e500"])]  # fmt: skip


@pytest.mark.parametrize("pair", ALIKE)
def test_look_alike_labels_are_named(pair):
    one, other = pair.split("|")
    found = checks.look_alikes(rows_of(many((one, 3), (other, 3))))
    assert found.level == ("fine" if pair in APART else "note")
    assert found.level == "fine" or found.finding.startswith("1 groups of labels look alike: ")
    assert found.finding.isascii()


LINES, HALVES, NUMBERS = [f"a longer sentence, number {i}" for i in range(8)], list("aabbaabb"), list("12345678")
GUESSED = [
    ({"label": HALVES, "text": LINES}, ("text", "label")),
    ({"id": NUMBERS, "Headline": LINES, "Category": HALVES}, ("Headline", "Category")),
    ({"review_text": LINES, "star_label": HALVES}, ("review_text", "star_label")),
    ({"标题": ["短"] * 8, "内容": LINES, "标签": HALVES}, ("内容", "标签")),
    ({"a": LINES, "b": HALVES, "c": NUMBERS}, ("a", "b")),
    ({"text": LINES, "label": HALVES, "label_text": ["no", "yes"] * 4}, ("text", "label")),
    ({"x": [True, False] * 4, "y": LINES}, ("y", "x")),
]


@pytest.mark.parametrize(("columns", "expected"), GUESSED)
def test_columns_are_guessed_and_said(columns, expected, tmp_path):
    pd.DataFrame(columns).to_csv(tmp_path / "my.csv", index=False)
    splits = data.load(str(tmp_path / "my.csv"), "", "", "")
    assert f"column {expected[0]!r}, class in column {expected[1]!r}" in splits.notes[0]
