"""The data checks find what was planted, count it exactly, and stay silent on clean data."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import InputError, checks, data

TOPICS = {
    "sport": "match goal team coach league striker referee stadium season trophy",
    "money": "bank shares profit market loan budget interest trade invoice dividend",
    "food": "soup bread oven recipe garlic butter pepper kitchen dough flavour",
}
FILLER = "the and for with that this from you are what how to"


def clean(rows=40, seed=0):
    """Different English texts, their topic clear, each topic with so many rows."""
    rng = np.random.default_rng(seed)
    drawn = [
        (" ".join([*rng.choice(words.split(), 7, replace=False), *rng.choice(FILLER.split(), 5, replace=False)]), topic)
        for topic, words in TOPICS.items()
        for _ in range(rows)
    ]
    return pd.DataFrame(drawn, columns=["text", "label"])


def make_splits(train, test, validation=None):
    parts = [
        part.reset_index(drop=True).assign(row=range(1, len(part) + 1))[["row", "text", "label"]]
        for part in (train, clean(3, seed=7) if validation is None else validation, test)
    ]
    return data.Splits(*parts, labels=sorted(set(train["label"])), name="made")


def frame(*pairs):
    return pd.DataFrame(pairs, columns=["text", "label"])


def rows_of(train, test=None, validation=None):
    """The frame of all rows; no validation rows unless given."""
    nothing = frame()
    return checks.together(
        make_splits(train, nothing if test is None else test, nothing if validation is None else validation)
    )


def test_clean_data_is_fine_throughout():
    made = make_splits(clean(), clean(10, seed=1))
    found = checks.check(made) + checks.slow_checks(made)
    assert [(f.name, f.finding) for f in found if f.level != "fine"] == []
    assert len({f.name for f in found}) == len(found) == 10
    for finding in found:
        assert finding.finding.endswith(".") and finding.advice.endswith(".") and "\n" not in finding.finding
        assert len(finding.examples) <= 10
        assert all(np.isfinite(value) for value in finding.figures.values())


def test_the_same_data_give_the_same_findings():
    splits = make_splits(clean(), clean(10, seed=1))
    for one, again in zip(checks.check(splits), checks.check(splits), strict=True):
        assert one.finding == again.finding and one.figures == again.figures
        pd.testing.assert_frame_equal(one.examples, again.examples)


def test_nothing_imports_tensorflow():
    run = "checks.check(data.load('news_en'))"
    code = f"import sys; from helpers import checks, data; {run}; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_duplicates_are_counted_exactly_and_loosely():
    train = frame(("One two.", "a"), ("One two.", "a"), ("One two.", "b"), ("one, two", "a"), ("three", "b"))
    found = checks.duplicates(rows_of(train, validation=frame(("ONE TWO!", "a"), ("four", "b"))))
    assert found.figures == {"exact": 2, "same_label": 1, "loose": 4, "validation": 1, "texts": 7}
    assert found.level == "problem"
    # Rows of train and validation are sorted by row number, so the validation row 1 stands second.
    assert found.examples[["part", "row", "earlier_row", "earlier_label"]].to_numpy().tolist() == [
        ["validation", 1, 1, "a"],
        ["train", 2, 1, "a"],
        ["train", 3, 1, "a"],
        ["train", 4, 1, "a"],
    ]
    assert "3 training texts remain" in found.advice


def test_conflicting_labels_include_the_test_rows():
    train = frame(("good film", "a"), ("Good film!", "b"), ("bad film", "b"), ("dull", "a"), ("dull", "a"))
    found = checks.conflicting_labels(rows_of(train, frame(("bad film", "a"), ("new", "a"))))
    assert found.figures == {"texts": 2, "rows": 4, "test": 1}
    assert sorted(zip(found.examples["part"], found.examples["row"], strict=True)) == [
        ("test", 1),
        ("train", 1),
        ("train", 2),
        ("train", 3),
    ]


def test_overlap_is_found_in_train_and_validation():
    test = frame(("match goal", "sport"), ("Ｍatch　goal！", "sport"), ("bank", "money"), ("unseen", "food"))
    splits = make_splits(frame(("match goal", "sport"), ("x", "money")), test, frame(("Bank.", "money")))
    assert checks.overlap(splits).tolist() == [True, True, True, False]
    found = checks.leaked_test_texts(checks.together(splits))
    assert found.figures == {"exact": 1, "loose": 3, "texts": 4}
    assert found.examples["training_row"].tolist() == [1, 1, 1]
    assert found.examples["training_label"].tolist() == ["sport", "sport", "money"]


def test_the_score_without_the_overlap_is_lower_when_labels_are_random():
    rng = np.random.default_rng(3)
    train = clean(60)
    train["text"] += [f" number{i}" for i in range(len(train))]
    train["label"] = rng.choice(list(TOPICS), len(train))
    other = clean(30, seed=5)
    other["label"] = rng.choice(list(TOPICS), len(other))
    test = pd.concat([train[:90], other])
    found = checks.score_without_leaks(rows_of(train, test), "word", 42)
    assert found.level == "problem" and found.figures["texts_without"] == 90
    assert found.figures["accuracy_without"] < 0.5 < 0.6 < found.figures["accuracy"]
    assert f"{found.figures['accuracy_without']:.1%} on the 90" in found.finding


def test_a_test_set_that_stands_wholly_in_training_has_no_score_without():
    found = checks.score_without_leaks(rows_of(clean(), clean()[:20]), "word", 42)
    assert found.level == "problem" and "accuracy_without" not in found.figures


def test_a_sample_is_drawn_by_text_and_said(monkeypatch):
    monkeypatch.setattr(checks, "SAMPLE", 300)
    monkeypatch.setattr(checks, "TEST_TEXTS", 50)
    train, test = clean(150), pd.concat([clean(150)[::5], clean(30, seed=5)])
    found = checks.score_without_leaks(rows_of(train, test), "word", 42)
    assert f"{found.figures['texts']} of {len(test)} test texts" in found.finding
    share = 1 - found.figures["texts_without"] / found.figures["texts"]
    assert share == pytest.approx(0.5, abs=0.15)
    assert "of 450 training texts" in checks.doubtful_labels(rows_of(train, test), "word", 42).finding
    assert "of 450 training texts" in checks.label_words(rows_of(train, test), 42).finding


def many(*classes):
    """Different training texts, so many of each class."""
    return frame(*[(f"{name} text{i} of class{name}", name) for name, size in classes for i in range(size)])


def test_a_small_test_set_beside_a_large_training_file_is_kept(monkeypatch):
    monkeypatch.setattr(checks, "SAMPLE", 100)
    train = many(("a", 1000), ("b", 1000))
    test = pd.concat([train[:2], frame(("new a", "a"), ("new b", "b"))])
    found = checks.score_without_leaks(rows_of(train, test), "word", 42)
    assert found.figures["texts"] == 4 and found.figures["texts_without"] == 2


def test_a_rare_class_stays_in_the_sample(monkeypatch):
    monkeypatch.setattr(checks, "SAMPLE", 100)
    for seed in range(5):
        rows = rows_of(many(("a", 2000), ("b", 3)), frame(("new a", "a"), ("new b", "b")))
        assert checks.score_without_leaks(rows, "word", seed).figures["texts"] == 2
        assert checks.doubtful_labels(rows, "word", seed).figures["texts"] == 100


def test_more_classes_than_can_be_told_apart_are_sampled(monkeypatch):
    monkeypatch.setattr(checks, "SAMPLE_CELLS", 300)
    train = many(*[(f"c{i}", 4) for i in range(40)])
    rows = rows_of(train, train[::4].assign(text=lambda t: t["text"] + " again"))
    found = checks.doubtful_labels(rows, "word", 42)
    assert "doubtful to a TF-IDF classifier" in found.finding and found.figures["texts"] == 30
    assert checks.score_without_leaks(rows, "word", 42).figures["texts"] == 10


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1))
def test_repeats_ignore_punctuation_width_and_case_only(content):
    assert checks.loose(content)
    letters = "".join(c for c in content if "a" <= c <= "z")
    if letters:
        spoilt = "".join(chr(ord(c) + 0xFEE0) + "，!" for c in letters.upper())
        assert checks.loose(letters) == checks.loose(spoilt) != checks.loose(letters + "z")


def test_symbols_keep_texts_apart():
    texts = ["C", "C++", "fine 🙂", "fine 🙁", "कि", "का", "!!!", "???", "\ud800"]
    assert len({checks.loose(t) for t in texts}) == len(texts)
    assert checks.duplicates(rows_of(frame(*[(t, "a") for t in texts[:-1]]))).level == "fine"


def test_class_sizes():
    train = pd.concat(
        [frame(*[(f"text {i}", "big") for i in range(60)]), frame(*[(f"word {i}", "small") for i in range(5)])]
    )
    found = checks.class_imbalance(rows_of(train))
    assert found.figures == {"classes": 2, "ratio": 12.0, "largest_share": 60 / 65, "small_classes": 1}
    assert found.level == "note" and "BALANCED of notebooks 03 and 04" in found.advice
    assert found.examples.to_numpy().tolist() == [["small", 5], ["big", 60]]
    even = pd.concat([frame(*[(f"text {i}", name) for i in range(size)]) for name, size in (("a", 40), ("b", 13))])
    assert checks.class_imbalance(rows_of(even)).level == "note"


def test_short_and_long_texts():
    train = pd.concat([clean(), frame(("!", "food"), ("too short", "food"), ("word " * 513, "food"))])
    found = checks.lengths(rows_of(train), "word")
    assert (found.figures["short"], found.figures["long"], found.figures["longest"]) == (2, 1, 513)
    assert found.examples["tokens"].tolist() == [1, 2, 513]
    assert found.examples["text"].str.len().max() == 80
    assert "LENGTH" in found.advice


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("plain words", "Latin"),
        ("déjà vu à Orléans", "Latin"),
        ("笔记本电脑的散热很好", "Chinese"),
        ("iPhone 手机很好用", "Chinese"),
        ("服务还可以，888888888888888888", "Chinese"),
        ("これは日本語の文章です", "other"),
        ("한국어 문장입니다", "other"),
        ("это русский текст", "other"),
        ("123 !!", "none"),
        ("１２３ 🙂", "none"),
    ],
)
def test_scripts(content, expected):
    assert checks.script(content) == expected


GERMAN = "die Mannschaft gewann das Spiel und der Trainer war mit dem Ergebnis sehr zufrieden"


@pytest.mark.parametrize(
    ("texts", "guess", "level"),
    [
        (["the match was won by the team from this town"] * 8, "English", "fine"),
        ([GERMAN] * 8, "a language in Latin script other than English", "note"),
        (["球队赢得比赛冠军"] * 8, "Chinese", "note"),
        (["это русский текст"] * 8, "another script", "note"),
        (["球队赢得比赛冠军", "the team won"] * 4, "a mix of scripts", "problem"),
    ],
)
def test_languages(texts, guess, level):
    found = checks.languages(rows_of(frame(*[(t, "a") for t in texts])))
    assert f"look like {guess}:" in found.finding and found.level == level
    assert ("PRESET" in found.advice) == (guess != "English")


def test_wrong_labels_are_found_with_a_suggestion():
    train = clean(60)
    wrong = {5: "money", 70: "food", 130: "sport"}
    for place, label in wrong.items():
        train.loc[place, "label"] = label
    found = checks.doubtful_labels(rows_of(train), "word", 42)
    assert found.figures["rows"] == 3 and found.level == "note"
    assert sorted(found.examples["row"]) == [place + 1 for place in wrong]
    given = dict(zip(found.examples["row"] - 1, found.examples["label"], strict=True))
    suggested = dict(zip(found.examples["row"] - 1, found.examples["suggested"], strict=True))
    assert given == wrong and suggested == {5: "sport", 70: "money", 130: "food"}
    assert (found.examples["p_suggested"] > found.examples["p_label"]).all()


def test_doubtful_labels_need_texts():
    found = checks.doubtful_labels(
        rows_of(frame(("one", "a"), ("two", "a"), ("three", "b"), ("four", "b"))), "word", 42
    )
    assert found.level == "note" and "cannot be looked for" in found.finding


def test_the_name_of_the_class_in_its_texts():
    train = clean()
    train.loc[:23, "text"] += " Sport!"
    train.loc[50, "text"] += " sport"
    train.loc[60:70, "text"] += " moneybag"
    found = checks.label_words(rows_of(train), 42)
    assert found.figures == {"classes": 1, "largest_share": 24 / 40, "texts": 120}
    assert found.level == "problem" and "'sport', in 60% of its texts" in found.finding
    assert found.examples[["row", "label", "own_share", "other_share"]].to_numpy().tolist() == [
        [1, "sport", 0.6, 0.012]
    ]


def test_chinese_names_and_names_of_two_words():
    train = frame(*[(f"第{i}条体育新闻", "体育") for i in range(12)], *[(f"第{i}条新闻", "财经") for i in range(12)])
    assert checks.label_words(rows_of(train), 42).examples["label"].tolist() == ["体育"]
    pairs = [(f"question {i} on the exchange rate", "exchange_rate") for i in range(12)]
    train = frame(*pairs, *[(f"exchange {i} this card", "card") for i in range(12)])
    assert sorted(checks.label_words(rows_of(train), 42).examples["label"]) == ["card", "exchange_rate"]


ODD = {
    "semicolons": lambda t: t.to_csv(index=False, sep=";").encode(),
    "tabs": lambda t: t.to_csv(index=False, sep="\t").encode(),
    "quotes": lambda t: t.assign(text='He said "' + t["text"] + '",\nthen left').to_csv(index=False).encode(),
    "byte order mark": lambda t: t.to_csv(index=False).encode("utf-8-sig"),
    "GBK": lambda t: t.assign(text="这是一条关于体育和财经的新闻：" * 4 + t["text"]).to_csv(index=False).encode("gbk"),
    "Windows line ends": lambda t: t.to_csv(index=False, lineterminator="\r\n").encode(),
    "numbers as labels": lambda t: (
        t.assign(label=t["label"].map({"sport": 0, "money": 1, "food": 2})).to_csv().encode()
    ),
    "truth values as labels": lambda t: t.assign(label=t["label"] == "sport").to_csv(index=False).encode(),
    "500 labels": lambda t: pd.concat([clean(340)[:1000]]).assign(label=np.arange(1000) % 500).to_csv().encode(),
    "label first": lambda t: t[["label", "text"]].to_csv(index=False).encode(),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_files_are_checked(tmp_path, case):
    path = tmp_path / "odd.csv"
    path.write_bytes(ODD[case](clean()))
    table, _ = data.read_table(str(path))
    assert data.guess_columns(table) == ("text", "label")
    splits = data.load(str(path))
    found = checks.check(splits)
    assert len(found) == 8
    total = found[0].figures["texts"] + len(splits.test)
    assert total == (1000 if case == "500 labels" else 120)
    assert (found[3].figures["small_classes"] == 500) == (case == "500 labels")
    assert ("Chinese" in found[6].finding) == (case == "GBK")


def columns(**values):
    return pd.DataFrame({name: pd.Series(column, dtype="object") for name, column in values.items()})


SENTENCES = [f"a longer sentence, number {i}" for i in range(8)]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (columns(label=list("abababab"), text=SENTENCES), ("text", "label")),
        (columns(id=list("12345678"), Headline=SENTENCES, Category=list("aabbccdd")), ("Headline", "Category")),
        (columns(review_text=SENTENCES, star_label=list("11112222")), ("review_text", "star_label")),
        (columns(标题=["短"] * 8, 内容=SENTENCES, 标签=list("甲乙甲乙甲乙甲乙")), ("内容", "标签")),
        (columns(a=SENTENCES, b=list("ppnnppnn"), c=list("12345678")), ("a", "b")),
        (columns(text=SENTENCES, label=["0", "1"] * 4, label_text=["no", "yes"] * 4), ("text", "label")),
        (columns(x=[True, False] * 4, y=SENTENCES), ("y", "x")),
    ],
)
def test_columns_are_guessed(table, expected):
    assert data.guess_columns(table) == expected


@pytest.mark.parametrize(
    "table",
    [
        columns(only=SENTENCES),
        columns(a=SENTENCES, b=list("12345678")),
        columns(a=SENTENCES, b=list("xxyyxxyy"), c=list("uuuuvvvv")),
    ],
)
def test_columns_that_cannot_be_guessed_are_named(table):
    with pytest.raises(InputError) as error:
        data.guess_columns(table)
    sentence = str(error.value)
    assert all(name in sentence for name in table.columns) and "TEXT_COLUMN" in sentence and "\n" not in sentence


def test_look_alike_labels_are_named():
    pairs = ["Spam spam", "a a\u200b", "caf\u00e9 cafe\u0301", "1 1.0", "1 01", "x x"]
    for pair in pairs:
        train = frame(*[(f"text {i} {label!a}", label) for i in range(3) for label in pair.split(" ")])
        found = checks.look_alikes(rows_of(train))
        assert (found.level, found.figures["groups"]) == (("fine", 0) if pair == "x x" else ("note", 1)), pair
    spaced = checks.look_alikes(rows_of(frame(("one", "a b"), ("two", "a  b"), ("three", "c"))))
    assert "'a  b' and 'a b'" in spaced.finding
