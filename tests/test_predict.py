"""A run's classifier applied to a file."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from conftest import names, tiny_lstm

from helpers import InputError, data, files, predict, training

WORDS = ["", "[UNK]", "one", "two", "three", "four", "five", "six"]
TEXTS = ["six five", "one", "", "no such words", "two, three", ":)"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    network = tiny_lstm(len(WORDS), 2, training.keras.layers.LSTM(4))
    training.save_classifier(folder / "model", network, WORDS, ["a", "b"], unit="word", length=10)
    return str(folder)


@pytest.fixture
def source(tmp_path):
    pd.DataFrame({"id": range(6), "text": TEXTS}).to_csv(tmp_path / "new.csv", index=False)
    return str(tmp_path / "new.csv")


def test_a_file_is_labelled_in_its_order(run, source, tmp_path):
    out = tmp_path / "out.csv"
    assert predict.predict_file(run, source, out) == 6
    table = pd.read_csv(out, keep_default_na=False)
    assert table.columns.tolist() == ["id", "text", "label", "p_a", "p_b"]
    assert table["text"].tolist() == TEXTS and table["id"].tolist() == list(range(6))
    p = predict.load_classifier(run)[0](TEXTS)
    assert np.allclose(table[["p_a", "p_b"]], p, atol=1e-5)
    assert table["label"].tolist() == np.array(["a", "b"])[p.argmax(1)].tolist()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_a_killed_labelling_goes_on(run, source, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(predict, "CHUNK", 2)
    predict.predict_file(run, source, tmp_path / "whole.csv")
    write, written = files.write_atomic, []

    def stopped_once(path, content):
        written.append(path.name.split("-")[1])
        if len(written) == 2:
            raise stop
        write(path, content)

    monkeypatch.setattr(files, "write_atomic", stopped_once)
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(stop):
        predict.predict_file(run, source, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "old"
    with ThreadPoolExecutor(2) as pool:
        predict.predict_file(run, source, tmp_path / "out.csv", spread=pool.map)
    assert written == ["0", "2", "2", "4"]  # the first two texts are not read again
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert names(tmp_path) == ["new.csv", "out.csv", "whole.csv"]


def test_what_another_network_or_column_said_is_not_taken(run, source, tmp_path):
    moved, (table, _) = shutil.copytree(run, tmp_path / "onnx-runs" / "run"), data.read_table(source)
    marks = [predict._mark(str(moved), ("", False, column), table) for column in ("text", "id")]
    (moved / "model" / "classifier.keras").write_bytes(b"another")
    assert len({*marks, predict._mark(str(moved), ("", False, "text"), table)}) == 3


def test_the_users_columns_stay(run, source, tmp_path, capsys):
    table = pd.read_csv(source, dtype=str, keep_default_na=False).assign(p_a="mine", label="old", prediction="kept")
    table.to_csv(source, index=False)
    predict.predict_file(run, source, tmp_path / "out.csv")
    again = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert again[list(table)].equals(table)
    assert list(again)[len(list(table)) :] == ["label_2", "p_a_2", "p_b_2"]
    assert "label_2" in capsys.readouterr().out


def test_a_link_is_written_through(run, source, tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    predict.predict_file(run, source, tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink() and len(pd.read_csv(tmp_path / "real.csv")) == 6
    assert names(tmp_path) == ["link.csv", "new.csv", "real.csv"]


DAMAGE = [{"length": "long"}, {"unit": "verse"}, b"", b"PK\x03\x04 cut"]


@pytest.mark.parametrize("change", DAMAGE, ids=str)
def test_a_damaged_network_is_one_sentence(run, tmp_path, change):
    folder = shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("onnx")) / "model"
    if isinstance(change, bytes):
        (folder / "classifier.keras").write_bytes(change)
    else:
        path = folder / "classifier.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="damaged") as error:
        predict.load_classifier(folder.parent)
    assert "\n" not in str(error.value)
