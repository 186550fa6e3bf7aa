"""Intervals, paired tests and recommendations against known truths and other libraries."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar

from helpers import evaluation, significance

LABELS = ["a", "b", "c"]


def answers(targets, right, seed=0, sure=0.9):
    """Probabilities of a classifier that is right where it should be."""
    rng = np.random.default_rng(seed)
    said = np.where(right, targets, (targets + rng.integers(1, len(LABELS), len(targets))) % len(LABELS))
    rest = (1 - sure) / (len(LABELS) - 1)
    return np.where(np.eye(len(LABELS))[said] == 1, sure, rest)


def table(accuracies, n=300, seed=1):
    """Predictions of models with these accuracies on validation and test rows, in expectation."""
    rng, parts = np.random.default_rng(seed), []
    for split, start in (("validation", 0), ("test", n)):
        truth = np.arange(n) % len(LABELS)
        frame = pd.DataFrame({"row": np.arange(n) + start, "text": "t", "label": np.array(LABELS)[truth]})
        ease = rng.random(n)
        for i, (name, accuracy) in enumerate(accuracies.items()):
            shares = answers(truth, ease < accuracy, i)
            parts.append(evaluation.predictions(frame, split, name, shares, LABELS))
    return pd.concat(parts, ignore_index=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(5, 60))
def test_the_seven_metrics_equal_scikit_learn(seed, classes, n):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), n)
    y = rng.integers(0, classes, n)
    ours, said, every = significance.intervals(y, p, repeats=2)["value"], p.argmax(axis=1), np.arange(classes)
    assert np.isclose(ours["accuracy"], metrics.accuracy_score(y, said))
    for average in ("macro", "weighted"):
        expected = metrics.f1_score(y, said, average=average, zero_division=0)
        assert np.isclose(ours[f"{average}_f1"], expected)
    recalls = [(said[y == c] == c).mean() for c in np.unique(y)]
    assert np.isclose(ours["balanced_accuracy"], np.mean(recalls))
    assert np.isclose(ours["mcc"], metrics.matthews_corrcoef(y, said))
    assert np.isclose(ours["log_loss"], metrics.log_loss(y, p, labels=every))
    assert np.isclose(ours["brier"], ((p - np.eye(classes)[y]) ** 2).sum(axis=1).mean())


def test_the_interval_covers_the_truth_as_often_as_it_says():
    covered = 0
    for seed in range(1000):
        truth = np.repeat(np.arange(3), 120)
        right = np.random.default_rng(seed).random(len(truth)) < 0.8
        found = significance.intervals(truth, answers(truth, right), repeats=400, seed=seed).loc["accuracy"]
        covered += found["low"] <= 0.8 <= found["high"]
    assert 930 <= covered <= 970


def test_the_intervals_are_seeded_and_keep_the_classes():
    truth = np.array([0] * 30 + [1] * 5)
    blocks = np.concatenate(list(significance.resamples(truth, 7, 3)))
    assert blocks.shape == (7, 35) and (np.sort(truth[blocks], axis=1) == truth).all()
    p = answers(truth, np.arange(35) % 3 > 0)
    pd.testing.assert_frame_equal(significance.intervals(truth, p), significance.intervals(truth, p))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 9), (10, 10), (1, 0), (40, 15)])
def test_mcnemar_equals_statsmodels(only_a, only_b):
    a = np.array([True] * only_a + [False] * only_b + [True] * 20 + [False] * 5)
    b = np.array([False] * only_a + [True] * only_b + [True] * 20 + [False] * 5)
    expected = mcnemar([[20, only_a], [only_b, 5]], exact=True).pvalue
    assert np.isclose(significance.mcnemar(a, b), expected)


def test_pairs_tell_a_difference_from_chance():
    found = significance.pairs(table({"good": 0.9, "same": 0.895, "bad": 0.5})).set_index(["better", "worse"])
    assert "better than" in found.loc[("good", "bad"), "verdict"]
    assert "could be chance" in found.loc[("good", "same"), "verdict"] or found.loc[("good", "same"), "difference"] == 0
    row = found.loc[("good", "bad")]
    assert row["low"] < row["difference"] < row["high"] and row["p"] <= row["p_holm"]


def test_many_equal_models_stay_within_the_corrected_level():
    wrong = 0
    for seed in range(100):
        rng, truth = np.random.default_rng(seed), np.arange(120) % 3
        frame = pd.DataFrame({"row": range(120), "text": "t", "label": np.array(LABELS)[truth]})
        parts = [
            evaluation.predictions(frame, "test", name, answers(truth, rng.random(120) < 0.7, i), LABELS)
            for i, name in enumerate("pqrst")
        ]
        wrong += (significance.pairs(pd.concat(parts))["p_holm"] < significance.LEVEL).any()
    assert wrong <= 10  # 5 expected at most; the exact test is cautious


def test_the_best_model_is_recommended_and_the_cheapest_of_equals():
    costs = pd.DataFrame(
        {"train_seconds": [0.1, 60.0], "texts_per_second_64": [9000.0, 80.0], "size_mb": [1.0, 90.0]},
        index=["tfidf", "bert"],
    )
    found = significance.recommend(table({"tfidf": 0.6, "bert": 0.85}), costs)
    assert found.model == "bert" and "95 % interval" in found.sentences[0]
    assert "better than every other model by better than" in found.sentences[1]
    assert "tfidf labels 9,000 a second" in found.sentences[-1]
    equal = significance.recommend(table({"tfidf": 0.85, "bert": 0.853}), costs)
    assert equal.model == "tfidf" and "costs more" in equal.sentences[0]
    assert "cannot tell it from bert" in equal.sentences[1]


def exact(accuracies, n=300):
    """Predictions with just these accuracies on both splits."""
    truth = np.arange(n) % len(LABELS)
    frame = pd.DataFrame({"row": np.arange(n), "text": "t", "label": np.array(LABELS)[truth]})
    return pd.concat(
        evaluation.predictions(frame, split, name, answers(truth, np.arange(n) < round(share * n)), LABELS)
        for split in ("validation", "test")
        for name, share in accuracies.items()
    )


def costs_of(**seconds):
    return pd.DataFrame({"train_seconds": seconds, "texts_per_second_64": 9.0, "size_mb": 1.0})


def test_exactly_one_point_is_within_one_point():
    found = significance.recommend(exact({"tfidf": 0.84, "bert": 0.85}), costs_of(tfidf=0.1, bert=60.0))
    assert found.model == "tfidf"


def test_a_cost_that_was_not_measured_is_not_told():
    found = significance.recommend(exact({"tfidf": 0.845, "bert": 0.85}), costs_of(tfidf=0.1))
    assert found.model == "bert" and not any("ost" in sentence for sentence in found.sentences)
    assert significance.recommend(exact({"tfidf": 0.85, "bert": 0.845}), costs_of(bert=60.0)).model == "tfidf"


def test_one_candidate_is_better_than_no_other():
    found = significance.recommend(exact({"tfidf": 0.84}), pd.DataFrame())
    assert found.sentences[1] == "How sure: there is no other model to compare it with."


def test_no_mistake_is_no_certainty():
    found = significance.recommend(exact({"tfidf": 1.0, "bert": 0.5}, n=30), pd.DataFrame())
    assert "100.0 % of 30 test texts (95 % interval 88.6 to 100.0 %)" in found.sentences[0]


def test_a_choice_that_the_test_rows_contradict_is_said():
    good, bad = table({"tfidf": 0.9, "bert": 0.5}), table({"tfidf": 0.5, "bert": 0.9})
    mixed = pd.concat([good[good["split"] == "validation"], bad[bad["split"] == "test"]])
    found = significance.recommend(mixed, pd.DataFrame())
    assert found.model == "tfidf" and "contradict" in found.sentences[1]


def test_noise_gets_no_recommendation():
    found = significance.recommend(table({"tfidf": 1 / 3, "bert": 0.35}), pd.DataFrame())
    assert found.model == "" and "No model beats chance" in found.sentences[0]


def test_a_constant_answer_does_not_beat_itself():
    rare = table({"tfidf": 0.5})
    most = rare["label"].where(np.arange(len(rare)) % 10 == 0, "a")
    rare = rare.assign(label=most, prediction="a")
    assert not significance.against_guess(rare)["beats"].any()
