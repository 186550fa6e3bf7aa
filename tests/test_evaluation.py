"""Metrics by hand (against scikit-learn: test_significance) and reading runs (what is refused: test_bad_inputs)."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_run

from helpers import InputError, evaluation


def test_very_small_probabilities_cost_what_they_are_and_no_more():
    small = evaluation.metrics(np.array([0, 1]), np.array([[1, 1e-9]] * 2, dtype=np.float32))
    assert small["log_loss"] == pytest.approx(-np.log(1e-9) / 2)


def test_runs_are_joined_once_each_and_equal_names_told_apart(tmp_path):
    a, c, b, d = (make_run(tmp_path / n, p=(0.2, 0.8) if n in "bd" else (0.7, 0.3)) for n in "acbd")
    table, history, records = evaluation.read_runs([a, b, c, d, b, f"{tmp_path}/b/../a"])
    assert table.columns.tolist() == ["row", "split", "model", "text", "label", "prediction", "p_x", "p_y"]
    assert table["model"].unique().tolist() == history["model"].tolist() == ["m", "m (03/b)"]
    assert len(evaluation.summary(table)) == 4
    for folder in (a, b):
        pd.DataFrame({"model": ["m"]}).to_csv(f"{folder}/costs.csv", index=False)
    assert evaluation.read_costs([a, c, b])["model"].tolist() == ["m", "m (03/b)"]
    assert evaluation.targets(table).tolist() == [0, 1, 0] * 4 and [r["name"] for r in records] == list("abcd")


@pytest.mark.parametrize("change", [{"first": 4}, {"text": "other"}])
def test_runs_on_other_rows_or_texts_are_refused(tmp_path, change):
    with pytest.raises(InputError, match="same DATA"):
        evaluation.read_runs([make_run(tmp_path / "a"), make_run(tmp_path / "b", **change)])


def test_coverage_and_a_threshold_that_ten_answers_or_more_reach():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    y = np.array([0, 1, 1, 0])  # right, wrong, right, right, by confidence 0.9, 0.8, 0.7, 0.6
    table = evaluation.coverage(y, p)
    assert table["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert np.allclose(table["accuracy"], [1, 1 / 2, 2 / 3, 3 / 4])
    many_p, many_y = np.repeat(p, 10, axis=0), np.repeat(y, 10)
    assert [evaluation.reject_threshold(many_y, many_p, share) for share in (0.99, 0.70)] == [0.9, 0.6]
    assert evaluation.reject_threshold(y, p, 0.99) is None  # too few texts to trust


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


def test_the_most_frequent_mistakes_come_with_an_example():
    part = pd.DataFrame({"row": range(5), "text": list("vwxyz"), "label": list("aaabb"), "prediction": list("bbaab")})
    assert evaluation.confused(part).values.tolist() == [["a", "b", 2, 0, "v"], ["b", "a", 1, 3, "y"]]
