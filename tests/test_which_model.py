"""Notebook 06 and the compare command: an answer for a small file with texts without words, and names kept apart."""

import signal
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, command, functions_of, make_run, record, start, topics, wait_for

from helpers import InputError, predict
from helpers.commands import compare


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    place = tmp_path_factory.mktemp("compare")
    rows = topics(40, sport="goal team match coach win", money="bank rate loan share price")
    rows.loc[::5, "body"] = ":)"
    rows.to_csv(place / "my.csv", index=False)
    done = command("compare", place / "my.csv", "--minutes", 0.7, runs=place / "runs")
    return place, done


@pytest.mark.slow
def test_a_file_gets_an_answer_with_all_its_rows_and_a_model_for_new_texts(answered, tmp_path):
    place, done = answered
    folder = place / "runs" / "06_which_model" / "my"
    said = record(folder)
    assert said["status"] == "completed" and said["parameters"]["MINUTES"] == 0.7 and said["seconds"] < 60 * 0.7 + 120
    assert {"accuracy", "log_loss", "tfidf_accuracy", "first_line_seconds"} <= set(said["metrics"])
    board = pd.read_csv(folder / "leaderboard.csv").set_index("model")
    table = pd.read_csv(folder / "predictions.csv")
    tested = table.loc[table["split"] == "test", "row"].nunique()
    assert board.loc["tfidf", "texts learned from"] == 80 - tested
    for part in ("validation", "test"):
        assert (table[table["split"] == part]["text"] == ":)").any()
    answer = (folder / "answer.txt").read_text("utf-8").splitlines()
    assert answer[0] in done.stdout and "tfidf" in done.stdout and "report.html" in done.stdout
    (tmp_path / "new.csv").write_text("text\nteam goal coach\nbank loan\n:)\n", "utf-8")
    command("predict", folder, tmp_path / "new.csv", "--out", tmp_path / "out.csv", runs=place / "runs")
    assert pd.read_csv(tmp_path / "out.csv")["label"].tolist()[:2] == ["sport", "money"]


@pytest.mark.slow
def test_the_same_command_changes_nothing_and_a_name_of_other_data_is_kept(answered, tmp_path):
    place, _ = answered
    again = command("compare", place / "my.csv", "--minutes", 0.7, runs=place / "runs")
    assert "unchanged" in again.stdout + again.stderr
    (tmp_path / "my.csv").write_text("text,label\na,x\n", "utf-8")
    other = command("compare", tmp_path / "my.csv", "--name", "my", runs=place / "runs", status=2)
    assert "belongs to" in other.stderr


def test_names_come_from_the_file_and_are_numbered(tmp_path, capsys):
    assert compare._free_name(tmp_path, "d1/my file.csv") == "my-file"
    assert compare._free_name(tmp_path, "trec6/train.csv") == "trec6"
    make_run(tmp_path / "my", notebook="06_which_model", parameters={"DATA": "d1/my.csv"})
    assert compare._free_name(tmp_path, "d1/my.csv") == "my"
    assert compare._free_name(tmp_path, "d2/my.csv") == "my-2"
    assert "belongs to d1/my.csv" in capsys.readouterr().out


def test_less_is_read_of_each_text_where_the_time_is_short_and_the_name_says_so():
    clock, ones = [0.0], lambda some, length: np.ones((len(some), length), int)
    time, encode = SimpleNamespace(monotonic=lambda: clock[-1]), lambda _, ids: clock.append(clock[-1] + ids.size)
    names = {"time": time, "pretrained": SimpleNamespace(encode_ids=encode), "pieces": ones, "short": {"frozen": 40}}
    names |= {"sample": np.array([64]), "texts": {"train": ["t"] * 128}, "sizes": {"train": 128, "test": 32}}
    lesson = functions_of("06", **names, np=np, InputError=InputError, encoder=None, length=64)  # 1 s a piece
    for most in (64, 40, 16):
        lesson.left = lambda most=most: most * 160 / 0.8
        assert lesson.fitting() == most
    lesson.left = lambda: 3000.0
    with pytest.raises(InputError, match="reading 16 pieces of all texts needs about 2560 s, 2400 s may be spent"):
        lesson.fitting()
    assert [lesson.full("lstm", 99), lesson.full("frozen", 99)] == ["lstm (99 texts)", "frozen (40 pieces, 99 texts)"]


@pytest.mark.slow
def test_an_interrupted_run_holds_the_answer_so_far_and_goes_on(answered, tmp_path):
    place, _ = answered
    given = {"DATA": place / "my.csv", "MINUTES": 6, "CONTENDERS": "words frozen lstm"}
    given |= {"PRESET": ROOT / "data" / "docs_bert"}
    words, done = ["run", "06", "--name", "stopped", "--resume"], tmp_path / "06_which_model" / "stopped"
    with start(*words, runs=tmp_path, stdout=subprocess.DEVNULL, **given) as process:
        wait_for(lambda: list(done.parent.glob(".stopped*/checkpoint/06-lstm-1/done.npz")), 600)
        process.send_signal(signal.SIGINT)
        assert process.wait(60)
    tables = (pd.read_csv(done.with_name("stopped.failed") / f"{n}.csv") for n in ("leaderboard", "predictions"))
    assert all(set(table["model"]) == {"tfidf", "frozen", "lstm"} for table in tables)
    command(*words, runs=tmp_path, **given)
    assert record(done)["resumed"] and (done / "history.csv").is_file()
    assert "lstm, epochs" not in (done / "notebook.ipynb").read_text("utf-8")  # it was not trained again
    for model in ("frozen", "lstm"):
        assert predict.predict_file(str(done), str(place / "my.csv"), tmp_path / "out.csv", "body", model) == 80
