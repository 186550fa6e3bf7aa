"""The compare command: columns, budget, checks, the page, and one comparison from a CSV to an answer."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import InputError, answer, comparison, data, evaluation, significance


@pytest.fixture
def splits(tiny_csv):
    return data.load(str(tiny_csv))


def test_a_budget_chooses_settings_that_fit(monkeypatch):
    monkeypatch.setattr(comparison, "_slowness", lambda: 1.0)
    splits = data.load("news_en")
    free = comparison.make_plan(splits, comparison.Question("news_en"))
    assert (free.lstm_epochs, free.bert_epochs, free.texts) == (20, 3, None)
    plans = [comparison.make_plan(splits, comparison.Question("news_en", budget=s)) for s in (600, 400, 330, 250)]
    assert all(p.seconds <= s for p, s in zip(plans, (600, 400, 330, 250), strict=True))
    assert plans[0] == free and plans[-1].texts and plans[-1].texts < 1600
    with pytest.raises(InputError, match="too short: the fastest settings need"):
        comparison.make_plan(splits, comparison.Question("news_en", budget=20))
    twice = comparison.make_plan(splits, comparison.Question("news_en", seeds=2))
    assert twice.seconds == pytest.approx(2 * free.seconds)


def test_the_estimate_grows_with_everything(monkeypatch):
    monkeypatch.setattr(comparison, "_slowness", lambda: 1.0)
    splits, lengths = data.load("news_en"), (30.0, 40.0)
    base = comparison.estimate(splits, lengths, 8, 1, None)
    assert base < comparison.estimate(splits, lengths, 20, 1, None)
    assert base < comparison.estimate(splits, lengths, 8, 3, None)
    assert base < comparison.estimate(splits, (60.0, 64.0), 8, 1, None)
    assert base > comparison.estimate(splits, lengths, 8, 1, 500)


QUESTION = comparison.Question("tiny.csv", name="tiny", text_column="text", label_column="label")


def test_a_sample_keeps_every_class(tmp_path, splits):
    sampled, fewer = comparison._sample(QUESTION, splits, comparison.Plan(8, 1, 12, 60.0), tmp_path / "compare")
    written = pd.read_csv(sampled.source)
    assert Path(sampled.source).name == "tiny-train.csv" and written.columns.tolist() == ["text", "label"]
    assert len(written) == 12 and written["label"].nunique() == 3
    assert set(written["text"]) <= set(splits.train["text"]) | set(splits.validation["text"])
    assert len(fewer.train) + len(fewer.validation) == 12 and len(fewer.test) == len(splits.test)


@pytest.mark.parametrize("rare", [2, 3, 6, 12])
def test_a_sample_of_a_rare_class_can_be_split(tmp_path, rare):
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(3000)] + [f"word {i},rare" for i in range(rare)]
    (tmp_path / "my.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    splits = data.load(str(tmp_path / "my.csv"))
    _, fewer = comparison._sample(QUESTION, splits, comparison.Plan(8, 1, 200, 60.0), tmp_path / "compare")
    assert fewer.labels == (["a", "b"] if rare == 2 else ["a", "b", "rare"])
    told = ["Left out of the sample, for want of a second training text: rare."]
    assert fewer.notes == (told if rare == 2 else [])


def test_a_sample_that_is_impossible_names_the_users_file(tmp_path):
    rows = [f"text {i},a" for i in range(300)] + ["one,b", "two,b"]
    (tmp_path / "my.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    splits = data.load(str(tmp_path / "my.csv"))
    with pytest.raises(InputError, match=r"^tiny\.csv is too small"):
        comparison._sample(QUESTION, splits, comparison.Plan(8, 1, 200, 60.0), tmp_path / "compare")


def page(cells):
    return "\n".join(cell.source for cell in cells)


def test_the_page_of_a_sample_names_the_users_file_and_its_counts(tmp_path, splits, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits.notes.append("tiny.csv was decoded as GBK.")
    plan = comparison.Plan(8, 1, 12, 60.0)
    _, used = comparison._sample(QUESTION, splits, plan, tmp_path / "compare")
    none = pd.DataFrame()
    made = comparison.Outcome(plan, used, [["03/a", "04/a"]], none, none, significance.Recommendation("", []))
    said = page(answer._data(splits, [], made))
    assert "24 to train, 6 to choose by, 6 to test" in said and "decoded as GBK" in said
    assert "because of the budget: 9 to train, 3 to choose by, 6 to test" in said
    asked = replace(QUESTION, source=str(tmp_path / "data" / "my.csv"), test="/home/me/there.csv")
    said = page(answer._made(asked, made))
    assert "- source: data/my.csv\n" in said and "- test: there.csv\n" in said


def fake_run(folder, splits, models):
    """A finished run whose models are right on 20 of 30 texts, give or take."""
    tables = []
    for i, model in enumerate(models):
        for name, part in (("validation", splits.validation), ("test", splits.test)):
            shares = 0.05 + 0.85 * np.eye(3)[np.searchsorted(splits.labels, part["label"].to_numpy())]
            shares[i::3] = shares[i::3, ::-1]
            tables.append(evaluation.predictions(part, name, model, shares, splits.labels))
    folder.mkdir(parents=True)
    pd.concat(tables).to_csv(folder / "predictions.csv", index=False)
    record = {"notebook": folder.parent.name, "name": "compare-tiny", "parameters": {}, "versions": {}}
    metrics = {"accuracy": 0.5, "tfidf_accuracy": 0.5, "frozen_accuracy": 0.5}
    (folder / "metrics.json").write_text(json.dumps(record | {"metrics": metrics}), "utf-8")
    return str(folder)


@pytest.mark.parametrize(("test", "said"), [("", "its own weights and split"), ("more.csv", "the test texts the same")])
def test_the_page_says_what_the_seeds_changed(tmp_path, runs_folder, splits, monkeypatch, test, said):
    monkeypatch.setattr(answer, "_publish", lambda *_: None)
    monkeypatch.setattr(answer, "_figures", lambda _: [])
    models = {"03_lstm_classifier": ["tfidf", "plain"], "04_bert_finetune": ["frozen", "bert"]}
    folders = [fake_run(runs_folder / name / "compare-tiny", splits, own) for name, own in models.items()]
    table, *_ = evaluation.read_runs(folders)
    found = significance.recommend(table, pd.DataFrame())
    outcome = comparison.Outcome(comparison.Plan(8, 1, None, 60.0), splits, [folders] * 2, table, pd.DataFrame(), found)
    answer.write(tmp_path / "page", tmp_path, replace(QUESTION, test=test, seeds=2), splits, [], outcome)
    book = (tmp_path / "page" / "notebook.ipynb").read_text("utf-8")
    assert said in book and "paired bootstrap" in book and "The most frequent mistakes of" in book
    record = json.loads((tmp_path / "page" / "metrics.json").read_text("utf-8"))
    assert record["answer"] == found.sentences and "bert_accuracy" in record["metrics"]
    assert (tmp_path / "page" / "model_card.md").exists()


def test_a_comparison_on_a_sample_tells_of_the_users_file(tmp_path, tiny_csv, runs_folder, monkeypatch, capsys):
    def run_both(question, plan, seed, force):
        splits = data.load(question.source, question.test, seed=seed)
        models = {"03_lstm_classifier": ["tfidf", "plain"], "04_bert_finetune": ["frozen", "bert"]}
        return 0, [fake_run(runs_folder / name / f"seed{seed}", splits, own) for name, own in models.items()]

    monkeypatch.setattr(comparison, "make_plan", lambda *_: comparison.Plan(8, 1, 12, 60.0))
    monkeypatch.setattr(comparison, "_run_both", run_both)
    monkeypatch.setattr(comparison.execution, "execute", lambda *_, **__: 0)
    monkeypatch.setattr(answer, "_publish", lambda *_: None)
    monkeypatch.setattr(answer, "_figures", lambda _: [])
    assert comparison.compare(comparison.Question(str(tiny_csv), seeds=2), tmp_path / "out") == 0
    assert "on a sample of 12 texts" in capsys.readouterr().out
    folder = runs_folder / "compare" / "tiny"
    book = (folder / "notebook.ipynb").read_text("utf-8")
    assert "source: tiny.csv" in book and "24 to train, 6 to choose by" in book and "9 to train, 3 to choose by" in book
    assert "the test texts the same" in book and str(tmp_path) not in book + (folder / "metrics.json").read_text(
        "utf-8"
    )


def test_checks_only_writes_a_page_and_trains_nothing(command, tiny_csv, tmp_path, runs_folder):
    done = command("compare", tiny_csv, "--checks-only", "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert "36 texts in 3 classes" in done.out and "text in column 'text', class in column 'label'" in done.out
    page = (tmp_path / "out" / "answer.html").read_text("utf-8")
    assert "Which model for tiny?" in page and "The answer" not in page
    assert [p.name for p in runs_folder.iterdir()] == ["compare"]
    record = (runs_folder / "compare" / "tiny" / "metrics.json").read_text("utf-8")
    assert json.loads(record)["parameters"]["source"] == "tiny.csv" and str(tmp_path) not in page + record
    found = json.loads((runs_folder / "compare" / "tiny" / "checks.json").read_text("utf-8"))
    assert {"name", "level", "finding", "advice", "figures"} == set(found[0])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["missing.csv"], "does not exist"),
        (["tiny.csv", "--budget", "soon"], "--budget"),
        (["tiny.csv", "--budget", "5s"], "too short"),
        (["tiny.csv", "--seeds", "0"], "--seeds"),
        (["tiny.csv", "--label-column", "kind"], "no column 'kind'"),
        (["one.csv"], "one class only"),
        (["three.csv"], "column"),
    ],
)
def test_bad_input_is_one_sentence(command, tiny_csv, tmp_path, runs_folder, words, told):
    (tmp_path / "one.csv").write_text("text,label\na b,x\nc d,x\n", "utf-8")
    (tmp_path / "three.csv").write_text("a\n1\n2\n", "utf-8")
    done = command("compare", *words)
    assert done.status == 2 and told in done.err and done.err.count("\n") == 1, done.err
    assert not runs_folder.exists()


@pytest.mark.slow
def test_compare_goes_from_a_csv_to_an_answer(command, tmp_path, runs_folder):
    words = {"体育 <b>": "球队 比赛 进球", "财经": "银行 利率 股价", "天气": "下雨 刮风 多云"}
    lines = [f"{text}第{i}条消息,{label}" for i in range(30) for label, text in words.items()]
    path = tmp_path / "我的.csv"
    path.write_text("内容,类别\n" + "\n".join(lines) + "\n", "gbk")
    done = command("compare", path, "--out", tmp_path / "out", timeout=900)
    assert done.status == 0, done.err
    assert "Chinese, read by character" in done.out and "Use tfidf" in done.out and "Estimated time" in done.out
    page = (tmp_path / "out" / "answer.html").read_text("utf-8")
    assert "The answer" in page and "&lt;b&gt;" in page and "体育 <b>" not in page and page.count("<img") >= 5
    assert 'href="03_lstm_classifier-compare-' in page and "Glyph" not in page
    record = json.loads((runs_folder / "compare" / "我的" / "metrics.json").read_text("utf-8"))
    assert {"tfidf_accuracy", "bert_accuracy", "frozen_accuracy"} <= set(record["metrics"])
    again = command("compare", path, "--out", tmp_path / "out", timeout=120)
    assert again.status == 0 and again.out.count("done in") == 0  # nothing is run twice
