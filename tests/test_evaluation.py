"""Metrics (more: test_significance, notebook 05) and reading runs (what is refused: test_bad_inputs)."""

import numpy as np
import pytest
from conftest import make_run

from helpers import InputError, evaluation


def test_very_small_probabilities_cost_what_they_are_and_no_more():
    small = evaluation.metrics(np.array([0, 1]), np.array([[1, 1e-9]] * 2, dtype=np.float32))
    assert small["log_loss"] == pytest.approx(-np.log(1e-9) / 2)


def test_runs_are_joined_once_each_and_equal_names_told_apart(tmp_path):
    a, b, c = make_run(tmp_path / "a"), make_run(tmp_path / "b", p=(0.2, 0.8)), make_run(tmp_path / "c")
    table, history, records = evaluation.read_runs([a, b, c, b, f"{tmp_path}/b/../a"])
    assert table.columns.tolist() == ["row", "split", "model", "text", "label", "prediction", "p_x", "p_y"]
    assert table["model"].unique().tolist() == history["model"].tolist() == ["m", "m (03/b)"]
    assert np.allclose(evaluation.probabilities(table).sum(1), 1) and len(evaluation.summary(table)) == 4
    assert evaluation.targets(table).tolist() == [0, 1, 0] * 4 and [r["name"] for r in records] == ["a", "b", "c"]


@pytest.mark.parametrize("change", [{"first": 4}, {"text": "other"}])
def test_runs_on_other_rows_or_texts_are_refused(tmp_path, change):
    with pytest.raises(InputError, match="same DATA"):
        evaluation.read_runs([make_run(tmp_path / "a"), make_run(tmp_path / "b", **change)])


def test_a_threshold_is_reached_by_ten_answers_or_more():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    y = np.array([0, 1, 1, 0])  # right, wrong, right, right, by confidence 0.9, 0.8, 0.7, 0.6
    many_p, many_y = np.repeat(p, 10, axis=0), np.repeat(y, 10)
    assert [evaluation.reject_threshold(many_y, many_p, share) for share in (0.99, 0.70)] == [0.9, 0.6]
    assert evaluation.reject_threshold(y, p, 0.99) is None  # too few texts to trust
