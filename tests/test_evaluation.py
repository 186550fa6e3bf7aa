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
    assert evaluation.calibration_error(targets, p, 10) == pytest.approx((3 * high + 1 * (1 - 0.58) + 1 * 0.5) / 5)


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


def test_runs_on_other_rows_or_texts_are_refused(tmp_path):
    runs_ = [make_run(tmp_path / "a"), make_run(tmp_path / "b", rows=(4, 5, 6)), make_run(tmp_path / "c")]
    edit(tmp_path / "c", "predictions.csv", lambda s: s.replace(",t,", ",other,"))
    for other in runs_[1:]:
        with pytest.raises(InputError, match="same DATA"):
            evaluation.read_runs([runs_[0], other])


def edit(folder, name, change):
    path = folder / name
    path.write_text(change(path.read_text("utf-8")), "utf-8")


FAULTS = {
    "predictions.csv": [
        ("", "no readable predictions.csv"),
        ("<html>", "no column row"),
        ("row,split,model,text,label,prediction,p_x,p_y\n", "no rows"),
        (("0.7", "0.6"), "do not sum to 1"),
        (("0.7", "inf"), "no numbers"),
        (("0.7", "seven"), "no readable predictions.csv"),
        (("1,test", ",test"), "values that are no numbers"),
        (("test", "future"), "splits other than"),
        ((",y,x", ",z,x"), "labels without a column"),
        (("2,test", "1,test"), "same rows and texts for each model"),
    ],
    "metrics.json": [("", "not a finished run"), ("[1]", "not a finished run"), ("{}", "not a finished run"),
                     (('"metrics": {}', '"metrics": {"accuracy": "high"}'), "not a finished run")],
    "history.csv": [("model,epoch\nm,soon\n", "no readable history.csv"), ("epoch\n1\n", "no column model")],
    "costs.csv": [("model,size_mb\nm,big\n", "no readable costs.csv"), ("size_mb\n1\n", "no column model")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "change", "told"), [(n, *case) for n, cases in FAULTS.items() for case in cases])
def test_files_that_are_not_as_they_should_be_get_one_sentence(tmp_path, name, change, told):
    folder = make_run(tmp_path / "a")
    if isinstance(change, str):
        (tmp_path / "a" / name).write_text(change, "utf-8")
    else:
        edit(tmp_path / "a", name, lambda s: s.replace(*change))
    with pytest.raises(InputError, match=told) as raised:
        evaluation.read_runs([folder])
        evaluation.read_costs([folder])
    assert "\n" not in str(raised.value)


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
    before, after = (evaluation.calibration_error(y, p) for p in (boastful, mended))
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


def test_the_most_frequent_mistakes_come_with_an_example():
    part = pd.DataFrame({"row": range(5), "text": list("vwxyz"), "label": list("aaabb"), "prediction": list("bbaab")})
    found = evaluation.confused(part)
    assert found.values.tolist() == [["a", "b", 2, 0, "v"], ["b", "a", 1, 3, "y"]]
