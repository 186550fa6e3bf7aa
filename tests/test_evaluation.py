"""Metrics against scikit-learn and by hand; reading runs."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from helpers import InputError, evaluation


@pytest.fixture
def judged():
    rng = np.random.default_rng(5)
    targets = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet(np.ones(3), 200)
    probabilities[np.arange(200), targets] += 0.3
    return targets, probabilities / probabilities.sum(1, keepdims=True)


def test_metrics_are_those_of_the_field(judged):
    targets, p = judged
    found = evaluation.metrics(targets, p)
    assert found["accuracy"] == reference.accuracy_score(targets, p.argmax(1))
    assert found["macro_f1"] == reference.f1_score(targets, p.argmax(1), average="macro")
    assert found["log_loss"] == pytest.approx(-np.log(p[np.arange(200), targets]).mean())


def test_very_small_probabilities_cost_what_they_are_and_no_more(tmp_path):
    frame = pd.DataFrame({"row": [1, 2], "text": "t", "label": ["x", "y"]})
    table = evaluation.predictions(frame, "test", "m", np.array([[1 - 1e-9, 1e-9]] * 2), ["x", "y"])
    assert evaluation.summary(table)["log_loss"][0] == pytest.approx(-np.log(1e-9) / 2)
    small = evaluation.metrics(np.array([0, 1]), np.array([[1, 1e-9]] * 2, dtype=np.float32))
    assert small["log_loss"] == pytest.approx(-np.log(1e-9) / 2)


def test_calibration_by_hand():
    targets = np.array([0, 0, 1, 1, 1])
    p = np.array([[0.95, 0.05], [0.92, 0.08], [0.97, 0.03], [0.42, 0.58], [0.5, 0.5]])
    bins = evaluation.calibration_bins(targets, p, 10)
    assert bins["texts"].tolist() == [1, 1, 3]
    high = abs((0.95 + 0.92 + 0.97) / 3 - 2 / 3)
    assert bins.attrs["ece"] == pytest.approx((3 * high + 1 * (1 - 0.58) + 1 * 0.5) / 5)


def test_roc_and_precision_recall_equal_the_reference(judged):
    targets, p = judged
    roc = evaluation.roc_curves(targets, p, list("abc"))
    assert roc["macro average"][2] == pytest.approx(
        reference.roc_auc_score(targets, p, multi_class="ovr", average="macro")
    )
    pr = evaluation.precision_recall_curves(targets, p, list("abc"))
    for i, name in enumerate("abc"):
        assert roc[name][2] == pytest.approx(reference.roc_auc_score(targets == i, p[:, i]))
        assert pr[name][2] == pytest.approx(reference.average_precision_score(targets == i, p[:, i]))


def test_a_class_absent_from_the_test_rows_is_left_out():
    targets, p = np.array([0, 1, 0, 1]), np.array([[0.6, 0.3, 0.1]] * 4)
    assert list(evaluation.roc_curves(targets, p, list("abc"))) == ["a", "b", "macro average"]
    assert evaluation.per_class(targets, p.argmax(1), list("abc")).loc["c", "texts"] == 0


def make_run(folder, model="m", rows=(1, 2, 3), labels=("x", "y", "x"), p=(0.7, 0.3)):
    folder.mkdir(parents=True)
    frame = pd.DataFrame({"row": rows, "text": ["t"] * len(rows), "label": labels})
    p = np.tile(p, (len(rows), 1))
    tables = [evaluation.predictions(frame, split, model, p, ["x", "y"]) for split in ("validation", "test")]
    pd.concat(tables).to_csv(folder / "predictions.csv", index=False)
    record = {"notebook": "03_lstm_classifier", "name": folder.name, "parameters": {}, "metrics": {}}
    (folder / "metrics.json").write_text(json.dumps(record))
    return str(folder)


def test_predictions_hold_the_contract(tmp_path):
    table, history, records = evaluation.read_runs([make_run(tmp_path / "a")])
    assert table.columns.tolist() == ["row", "split", "model", "text", "label", "prediction", "p_x", "p_y"]
    assert np.allclose(evaluation.probabilities(table).sum(1), 1)
    assert evaluation.targets(table).tolist() == [0, 1, 0] * 2
    assert len(history) == 0 and records[0]["name"] == "a"


def test_runs_are_joined_and_equal_names_told_apart(tmp_path):
    runs_ = [make_run(tmp_path / "a"), make_run(tmp_path / "b", p=(0.2, 0.8)), make_run(tmp_path / "c")]
    table, *_ = evaluation.read_runs(runs_)
    assert table["model"].unique().tolist() == ["m", "m (03/b)"]
    assert len(evaluation.summary(table)) == 4


def test_a_run_named_twice_is_read_once(tmp_path):
    runs_ = [make_run(tmp_path / "a"), make_run(tmp_path / "b", p=(0.2, 0.8)), make_run(tmp_path / "c")]
    for folder in runs_:
        pd.DataFrame({"model": ["m"], "epoch": [1]}).to_csv(f"{folder}/history.csv", index=False)
    table, history, records = evaluation.read_runs([*runs_, runs_[1], f"{tmp_path}/b/../a"])
    assert len(table) == 12 and len(records) == 3
    assert history["model"].tolist() == ["m", "m (03/b)"]


def test_runs_on_other_rows_are_refused(tmp_path):
    runs_ = [make_run(tmp_path / "a"), make_run(tmp_path / "b", rows=(4, 5, 6))]
    with pytest.raises(InputError, match="same DATA"):
        evaluation.read_runs(runs_)


def test_a_run_without_predictions_is_refused(tmp_path):
    folder = make_run(tmp_path / "a")
    (tmp_path / "a" / "predictions.csv").unlink()
    with pytest.raises(InputError, match="no readable predictions"):
        evaluation.read_runs([folder])
    with pytest.raises(InputError, match="not a run folder"):
        evaluation.read_runs([str(tmp_path / "none")])


def test_a_temperature_mends_confidence_and_keeps_the_answers():
    rng = np.random.default_rng(0)
    honest = rng.dirichlet(np.ones(4), 4000)
    y = np.array([rng.choice(4, p=p) for p in honest])
    boastful = evaluation.scale(honest, 0.4)
    t = evaluation.temperature(y, boastful)
    assert 2.2 <= t <= 2.8  # 1 / 0.4
    mended = evaluation.scale(boastful, t)
    assert (mended.argmax(axis=1) == boastful.argmax(axis=1)).all() and np.allclose(mended.sum(axis=1), 1)
    before, after = (evaluation.calibration_bins(y, p).attrs["ece"] for p in (boastful, mended))
    assert after < 0.03 < 0.1 < before


def test_coverage_by_hand_and_a_threshold_that_is_reached():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    y = np.array([0, 1, 1, 0])  # right, wrong, right, right, by confidence 0.9, 0.8, 0.7, 0.6
    table = evaluation.coverage(y, p)
    assert table["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert np.allclose(table["accuracy"], [1, 1 / 2, 2 / 3, 3 / 4])
    many_p, many_y = np.repeat(p, 10, axis=0), np.repeat(y, 10)
    assert evaluation.reject_threshold(many_y, many_p, 0.99) == 0.9
    assert evaluation.reject_threshold(many_y, many_p, 0.70) == 0.6
    assert evaluation.reject_threshold(y, p, 0.99) is None  # too few texts to trust


def test_slices_count_every_text_once_for_each_kind():
    texts = [" ".join(["word"] * n) + (f" rare{n}" if n % 2 else "") for n in range(1, 31)]
    part = pd.DataFrame({"text": texts, "label": "a", "prediction": ["a" if n < 20 else "b" for n in range(30)]})
    found = evaluation.slices(part, "word")
    lengths = found[found.index.str.endswith("words")]
    assert lengths["texts"].sum() == 30 and lengths["accuracy"].iloc[0] == 1 and lengths["accuracy"].iloc[-1] < 0.2
    assert found[found.index.str.endswith("rare tokens")]["texts"].sum() == 30
    assert ((found["low"] <= found["accuracy"] + 1e-9) & (found["accuracy"] <= found["high"] + 1e-9)).all()


def test_texts_that_are_all_alike_are_one_slice():
    part = pd.DataFrame({"text": list("vwxyz"), "label": "a", "prediction": list("aaaab")})
    found = evaluation.slices(part, "word")
    assert found.index.tolist() == ["1 to 1 words", "100 to 100 % of rare tokens"]
    assert found["texts"].tolist() == [5, 5] and found["accuracy"].tolist() == [0.8, 0.8]


def test_the_most_frequent_mistakes_come_with_an_example():
    part = pd.DataFrame({"row": range(5), "text": list("vwxyz"), "label": list("aaabb"), "prediction": list("bbaab")})
    found = evaluation.confused(part)
    assert found.values.tolist() == [["a", "b", 2, 0, "v"], ["b", "a", 1, 3, "y"]]
