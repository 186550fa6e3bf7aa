"""Intervals, paired tests and recommendations against known truths and other libraries."""

import gc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from helpers import evaluation, significance

LABELS = ["a", "b", "c"]


@pytest.fixture(autouse=True, scope="module")
def frozen():
    """statsmodels collects garbage at each correction: what other tests left is not gone through again."""
    gc.freeze()
    yield
    gc.unfreeze()


def answers(targets, right, seed=0, classes=3, sure=0.9):
    """Probabilities of a classifier that is right where it should be."""
    rng = np.random.default_rng(seed)
    said = np.where(right, targets, (targets + rng.integers(1, classes, len(targets))) % classes)
    return np.where(np.eye(classes)[said] == 1, sure, (1 - sure) / (classes - 1))


def exact(accuracies, n=300, labels=LABELS):
    """Predictions with just these accuracies on both splits."""
    truth = np.arange(n) % len(labels)
    frame = pd.DataFrame({"row": np.arange(n), "text": "t", "label": np.array(labels)[truth]})
    right = {name: np.arange(n) < round(share * n) for name, share in accuracies.items()}
    p = {name: answers(truth, ok, 0, len(labels)) for name, ok in right.items()}
    both = ("validation", "test")
    return pd.concat(evaluation.predictions(frame, part, name, p[name], labels) for part in both for name in p)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(5, 60))
def test_the_seven_metrics_equal_scikit_learn(seed, classes, n):
    rng = np.random.default_rng(seed)
    p, y = rng.dirichlet(np.ones(classes), n), rng.integers(0, classes, n)
    ours, said, every = significance.intervals(y, p, repeats=2)["value"], p.argmax(axis=1), np.arange(classes)
    expected = {f"{a}_f1": metrics.f1_score(y, said, average=a, zero_division=0) for a in ("macro", "weighted")}
    expected |= {"accuracy": metrics.accuracy_score(y, said), "mcc": metrics.matthews_corrcoef(y, said)}
    expected["balanced_accuracy"] = np.mean([(said[y == c] == c).mean() for c in np.unique(y)])
    expected["log_loss"] = metrics.log_loss(y, p, labels=every)
    expected["brier"] = ((p - np.eye(classes)[y]) ** 2).sum(axis=1).mean()
    assert {name: pytest.approx(value) for name, value in expected.items()} == ours.to_dict()


def test_the_interval_covers_the_truth_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        truth = np.repeat(np.arange(3), 120)
        right = np.random.default_rng(seed).random(len(truth)) < 0.8
        found = significance.intervals(truth, answers(truth, right), repeats=300, seed=seed).loc["accuracy"]
        covered += found["low"] <= 0.8 <= found["high"]
    one, other = (significance.intervals(truth, answers(truth, right)) for _ in range(2))
    assert 89 <= covered <= 99 and one.equals(other)
    assert all((np.sort(truth[rows], axis=1) == truth).all() for rows in significance.resamples(truth, 7, 3))


def test_the_interval_of_many_small_classes_is_wide_enough():
    truth, covered = np.repeat(np.arange(150), [1, 2] * 75), 0
    for seed in range(100):
        right = np.random.default_rng(seed).random(len(truth)) < 0.7
        drawn = np.concatenate([right[rows].mean(axis=1) for rows in significance.resamples(truth, 200, seed)])
        covered += 0.025 <= (drawn < 0.7).mean() <= 0.975
    assert 88 <= covered <= 99


CHEAP = {"tfidf": 0.1, "frozen": 11.0, "bert": 124.0, "bert (2,000 texts)": 124.0, "mixture": 140.0, "lstm": 0.05}
SPEED = {"tfidf": 30000.0, "frozen": 105.0, "bert": 120.0, "bert (2,000 texts)": 120.0, "mixture": 60.0}
COSTS = pd.DataFrame({"train_seconds": CHEAP, "texts_per_second_64": SPEED, "size_mb": 1.0})
ADVICE = {
    "clear winner": ({"tfidf": 0.60, "bert": 0.87}, {}, "bert",
        ["Use bert: right on about 87 of 100 new texts.",
         "How sure: on the test texts it is better than every other model.",
         "bert is better than tfidf by 27.0 points", "together p < .001)", "Cost: 124 s of training"]),
    "much faster and almost as well": ({"tfidf": 0.88, "mixture": 0.90}, {}, "mixture",
        ["Use mixture: right on about 9 of 10 new texts; tfidf did almost as well on validation texts and is 500 "]),
    "tie": ({"frozen": 0.85, "bert": 0.85}, {}, "frozen",
        ["Use frozen: right on about 85 of 100 new texts", "cannot tell it from bert", "are right equally often"]),
    "cheap within a point": ({"tfidf": 0.84, "bert": 0.85}, {}, "tfidf",
        ["; bert was at most a point better on validation texts and takes 1,000 times as long"]),
    "as quick": ({"tfidf": 0.85, "lstm": 0.85}, {}, "tfidf", ["Use tfidf"]),
    "more than a point": ({"tfidf": 0.83, "bert": 0.85}, {}, "bert", ["Use bert"]),
    "none above guessing": ({"tfidf": 0.33, "bert": 0.34}, {}, "",
        ["No model beats guessing, as far as 300 test texts can show.", "The best of them, bert, is right on 34.0%"]),
    "fewer rows": ({"tfidf": 0.60, "bert (2,000 texts)": 0.96}, {}, "bert (2,000 texts)",
        ["Use bert (2,000 texts): right on about 96 of 100 new texts", "bert (2,000 texts) learned from a part"]),
    "shorter texts": ({"tfidf": 0.60, "frozen (32 pieces)": 0.96}, {}, "frozen (32 pieces)",
        ["Use frozen (32 pieces): right on", "frozen (32 pieces) read less of each text: with more time or"]),
    "one failed": ({"tfidf": 0.9, "frozen": 0.6}, {"bilstm": "it diverged."}, "tfidf",
        ["Use tfidf", "bilstm is not part of this comparison: it diverged."]),
    "one candidate": ({"tfidf": 0.84}, {}, "tfidf", ["How sure: there is no other model to compare it with."]),
    "no mistake": ({"tfidf": 1.0, "bert": 0.5}, {}, "tfidf", ["right on nearly all new texts", "98.7 to 100.0 %"]),
    "the best LSTM only": ({"a": 0.5, "b": 0.7, "lazy_tfidf": 0.8, "tfidf": 0.6}, {}, "b", ["better than tfidf"]),
}  # fmt: skip


@pytest.mark.parametrize("case", ADVICE)
def test_the_answer_in_words(case):
    accuracies, failed, model, told = ADVICE[case]
    found = significance.recommend(exact(accuracies), COSTS, failed)
    said = " ".join(found.sentences)
    assert found.model == model, said
    assert all(words in said for words in told), said
    assert "chance" not in said and "nan" not in said


def test_a_cost_that_was_not_measured_is_not_told():
    found = significance.recommend(exact({"tfidf": 0.845, "bert": 0.85}), COSTS.loc[["tfidf"]])
    assert found.model == "bert" and not any("Cost" in sentence for sentence in found.sentences)
    assert significance.recommend(exact({"tfidf": 0.85, "bert": 0.845}), pd.DataFrame()).model == "tfidf"
    assert "somewhere from 75 to 100" in significance.recommend(exact({"tfidf": 0.9}, 20), pd.DataFrame()).sentences[0]


def test_a_choice_that_the_test_rows_contradict_is_said():
    good, bad = exact({"tfidf": 0.9, "bert": 0.5}), exact({"tfidf": 0.5, "bert": 0.9})
    mixed = pd.concat([good[good["split"] == "validation"], bad[bad["split"] == "test"]])
    found = significance.recommend(mixed, pd.DataFrame())
    assert found.model == "tfidf" and "contradict" in found.sentences[2]
    found = significance.recommend(exact({"tfidf": 0.55, "bert": 0.557}, 20_000), COSTS)
    assert found.model == "tfidf" and "bert is better, but within the one point" in found.sentences[2]


def test_a_choice_that_does_not_beat_guessing_is_said():
    tied, apart = exact({"tfidf": 0.9, "bert": 0.9}, 12), exact({"tfidf": 0.42, "bert": 1.0}, 12)
    mixed = [tied[tied["split"] == "validation"], apart[apart["split"] == "test"]]
    found = significance.recommend(pd.concat(mixed), COSTS)
    assert found.model == "tfidf" and "But: these texts do not show that tfidf beats" in found.sentences[1]


def test_a_fault_of_the_file_follows_the_answer_and_a_floor_is_told():
    found = significance.recommend(exact({"tfidf": 0.9}), COSTS, faults=["All test texts stand in training."])
    assert found.sentences[0].endswith("right on about 9 of 10 test texts, but look at the faults of the file.")
    assert found.sentences[1] == "But: All test texts stand in training."
    assert "But: x" in significance.recommend(exact({"tfidf": 0.33}), COSTS, faults=["x"]).sentences
    table = exact({"tfidf": 0.99})
    most = table["label"].where(np.arange(len(table)) % 10 == 0, "a")
    told = significance.recommend(table.assign(label=most, prediction=most), COSTS).sentences[1]
    assert "Always giving the most frequent answer is right on 93.3 %." in told


def test_no_interval_is_without_width():
    truth = np.arange(80) % 2
    found = significance.intervals(truth, np.eye(2)[truth])
    assert found.loc["accuracy", "low"] < 0.96 and np.isnan(found.loc["macro_f1", "low"])
    low, high = significance.paired_interval(truth, np.ones(80, bool), truth == 0)
    assert low < 0.45 < 0.55 < high


def test_a_constant_answer_does_not_beat_itself_and_six_of_ten_beat_a_guess_of_one():
    rare = exact({"tfidf": 0.5})
    most = rare["label"].where(np.arange(len(rare)) % 10 == 0, "a")
    assert not significance.against_guess(rare.assign(label=most, prediction="a"))["beats"].any()
    few = exact({"frozen": 0.6, "tfidf": 0.2}, n=10, labels=list("abcdefghij"))
    assert significance.against_guess(few)["beats"].to_dict() == {"frozen": True, "tfidf": False}
