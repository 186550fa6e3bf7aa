"""Model cards say what was recorded, and nothing in them comes alive in a viewer."""

import numpy as np
import pandas as pd
from conftest import make_run

from helpers import cards


def test_a_card_holds_what_was_recorded_and_no_more(tmp_path):
    truth, folder = np.arange(90) % 3, tmp_path / "run"
    p = 0.8 * np.eye(3)[(truth + (np.arange(90) % 4 == 0)) % 3] + 0.2 / 3
    told = {"versions": {"python": "3.12"}, "metrics": {"train_texts": 300.0}}
    told["parameters"] = {"DATA": "/home/me/my_[x](y).csv", "TEST": "other/test.csv"}
    make_run(folder, ["<img src=x>", "accuracy", "体育"], truth, p, "bert", **told)
    text = cards.write(folder, "bert", ["No model beats guessing."]).read_text("utf-8")
    assert "| accuracy | 0.744 |" in text and "texts to train on: 300" in text
    assert "texts to judge by (test): 90" in text and "体育" in text
    assert "**But:** No model beats guessing." in text and "## Cost" not in text  # nothing was measured
    assert "<img" not in text and "&lt;img src=x&gt;" in text and "[x](y)" not in text
    assert "- DATA: my" in text and "- TEST: other/test.csv" in text and "/home" not in text
    row = {"model": "bert", "train_seconds": 12.0, "texts_per_second_1": 30.0, "texts_per_second_64": 90.0}
    row |= {"p95_ms_1": 40.0, "p95_ms_64": 800.0, "size_mb": 91.0}
    pd.DataFrame([row]).to_csv(folder / "costs.csv", index=False)
    text = cards.write(folder, "bert").read_text("utf-8")
    assert "training: 12 s" in text and "30 one by one, 90 by 64" in text
