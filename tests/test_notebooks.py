"""Every notebook: its structure against the house style, and papermill runs with other data and small parameters."""

import ast
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from helpers import parameters, recording

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def notebook(request):
    return request.param


def cells(path, kind=None):
    return [c for c in json.loads(path.read_text("utf-8"))["cells"] if kind in (None, c["cell_type"])]


def source(cell):
    return "".join(cell["source"])


def test_code_cells_are_small(notebook):
    lines = sorted(len([x for x in source(c).splitlines() if x.strip()]) for c in cells(notebook, "code"))
    assert statistics.median(lines) <= 7
    assert lines[int(0.9 * len(lines))] <= 18
    assert lines[-1] <= 25 and lines[0] >= 1
    assert max(len(x) for c in cells(notebook, "code") for x in source(c).splitlines()) <= 79


def test_the_first_cells_hold_the_contract(notebook):
    code = cells(notebook, "code")
    assert "parameters" in code[1]["metadata"].get("tags", [])
    declared = parameters.read(notebook)
    assert 1 <= len(declared) <= 12
    assert all(name.isupper() and p.meaning for name, p in declared.items())
    assert "=" not in "".join(p.meaning + str(p.default) for p in declared.values())
    first = {source(cells(path, "code")[0]) for path in NOTEBOOKS}
    assert len(first) == 1 and "google.colab" in first.pop()


def test_prose_leads_and_links_hold(notebook):
    everything = cells(notebook)
    assert source(everything[0]).startswith("# ")
    prose = "\n".join(source(c) for c in cells(notebook, "markdown"))
    assert re.search("[\u4e00-\u9fff]{4}", source(everything[0])), "a Chinese subtitle"
    assert 500 <= len(re.findall(r"[A-Za-z]+", prose)) <= 1950
    for heading in ("## Setup", "## Summary", "## The document said"):
        assert heading in prose
    for link in re.findall(r"\]\(([^)#]+)", prose):
        assert link.startswith("http") or (notebook.parent / link).exists(), link


def test_outputs_are_fresh_and_clean(notebook):
    code = cells(notebook, "code")
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    outputs = [o for c in code for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    text = json.dumps(outputs)
    assert not re.search(r"/(home|root|Users|tmp|work)/", text)
    assert not re.search(r"0x[0-9a-f]{8}", text)
    assert notebook.stat().st_size < 450_000
    figures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert figures and all(o["metadata"]["image/png"]["alt"] for o in figures)


def test_no_forbidden_code(notebook):
    tree = ast.parse("\n".join(source(c) for c in cells(notebook, "code")))
    text = "\n".join(source(c) for c in cells(notebook, "code"))
    assert not re.search(r"^\s*[!%]|sys\.path|filterwarnings|plt\.", text, re.M)
    assert not any(isinstance(node, ast.Delete) for node in ast.walk(tree))


def test_cell_ids_are_stable_names(notebook):
    ids = [c["id"] for c in cells(notebook)]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z0-9-]{2,40}", i) for i in ids)


def run(*arguments, runs, ok=True):
    done = subprocess.run(
        [sys.executable, "-m", "helpers", *map(str, arguments)],
        cwd=ROOT,
        env={**__import__("os").environ, "HELPERS_RUNS": str(runs)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert (done.returncode == 0) == ok, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def small_csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "my.csv"
    words = {
        "sport": "goal team match coach win",
        "money": "bank rate loan share price",
        "<b>&x": "rain wind sun cloud storm",
    }
    rows = [
        (label, " ".join(tokens.split()[(i + j) % 5] for j in range(3 + i % 4)) + f" {i}")
        for label, tokens in words.items()
        for i in range(30)
    ]
    frame = pd.DataFrame(rows, columns=["kind", "body"])
    frame.loc[0, "body"] = "goal <script>alert(1)</script> team"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def small_run(small_csv, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    run("run", "03", "-p", "DATA", small_csv, "-p", "TEXT_COLUMN", "body", "-p", "LABEL_COLUMN", "kind",
        "-p", "EPOCHS", 2, "-p", "BALANCED", "true", "-p", "LENGTH", 12, "--name", "small", runs=runs)  # fmt: skip
    return runs


@pytest.mark.slow
def test_03_runs_on_another_csv(small_run):
    folder = small_run / "03_lstm_classifier" / "small"
    record = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert record["status"] == "completed" and record["parameters"]["EPOCHS"] == 2
    assert {"accuracy", "macro_f1", "log_loss", "tfidf_accuracy", "train_seconds"} <= set(record["metrics"])
    assert all(isinstance(v, (int, float)) for v in record["metrics"].values())
    table = pd.read_csv(folder / "predictions.csv")
    assert table.columns[:6].tolist() == ["row", "split", "model", "text", "label", "prediction"]
    shares = table.filter(like="p_")
    assert shares.columns.tolist() == ["p_<b>&x", "p_money", "p_sport"]
    assert shares.sum(axis=1).sub(1).abs().max() < 1e-4
    assert set(table["split"]) == {"validation", "test"}
    assert "<script>alert(1)" not in (folder / "report.html").read_text("utf-8")
    assert list((folder / "figures").glob("*.png"))


@pytest.mark.slow
def test_03_run_labels_new_texts_and_feeds_05(small_run, tmp_path):
    folder = small_run / "03_lstm_classifier" / "small"
    new = tmp_path / "new.csv"
    new.write_text("body\nteam goal coach\nbank loan\n", "utf-8")
    run("predict", folder, new, "--out", tmp_path / "labelled.csv", "--text-column", "body", runs=small_run)
    labelled = pd.read_csv(tmp_path / "labelled.csv")
    assert labelled.columns.tolist() == ["body", "label", "p_<b>&x", "p_money", "p_sport"]
    run(
        "predict", folder, new, "--out", tmp_path / "l.csv", "--text-column", "body", "--model", "tfidf", runs=small_run
    )
    assert pd.read_csv(tmp_path / "l.csv")["label"].tolist() == ["sport", "money"]
    wrong = ["--text-column", "body", "--model", "frozen"]
    done = run("predict", folder, new, "--out", tmp_path / "l.csv", *wrong, runs=small_run, ok=False)
    assert done.returncode == 2 and "no model 'frozen'" in done.stderr
    card = (folder / "model_card.md").read_text("utf-8")
    assert card.startswith("# Model card") and "macro F1" in card and "&lt;b&gt;&amp;x" in card and "<b>" not in card
    costs = pd.read_csv(folder / "costs.csv")
    assert (costs[["texts_per_second_1", "texts_per_second_64", "size_mb"]] > 0).all().all()
    run("run", "05", "-p", "RUNS", folder, "-p", "BINS", 5, runs=small_run)
    out = tmp_path / "reports"
    run("report", folder, small_run / "05_evaluation_plots" / "default", "--out", out, runs=small_run)
    assert {p.name for p in out.iterdir()} == {
        "index.html",
        "03_lstm_classifier-small.html",
        "05_evaluation_plots.html",
    }


@pytest.mark.slow
def test_04_fine_tunes_and_is_compared_with_03(small_csv, small_run, tmp_path):
    columns = ["-p", "TEXT_COLUMN", "body", "-p", "LABEL_COLUMN", "kind", "--name", "small"]
    settings = ["-p", "EPOCHS", 1, "-p", "SEQUENCE_LENGTH", 16, "-p", "BALANCED", "true"]
    run("run", "04", "-p", "DATA", small_csv, *columns, *settings, runs=small_run)
    folder = small_run / "04_bert_finetune" / "small"
    record = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert {"accuracy", "frozen_accuracy", "tfidf_accuracy", "unknown_share"} <= set(record["metrics"])
    new = tmp_path / "new.csv"
    new.write_text("body,label\nteam goal coach,x\nbank loan,y\n", "utf-8")
    run("predict", folder, new, "--out", tmp_path / "out.csv", "--text-column", "body", runs=small_run)
    assert pd.read_csv(tmp_path / "out.csv").columns[:3].tolist() == ["body", "label", "prediction"]
    run(
        "predict",
        folder,
        new,
        "--out",
        tmp_path / "o.csv",
        "--text-column",
        "body",
        "--model",
        "frozen",
        runs=small_run,
    )
    frozen = pd.read_csv(tmp_path / "o.csv").filter(like="p_")
    assert frozen.sum(axis=1).sub(1).abs().max() < 1e-4
    lstm = small_run / "03_lstm_classifier" / "small"
    run("run", "05", "-p", "RUNS", lstm, "-p", "RUNS", folder, "--name", "both", runs=small_run)
    compared = json.loads((small_run / "05_evaluation_plots" / "both" / "metrics.json").read_text("utf-8"))["metrics"]
    assert {"bilstm_accuracy", "bert_accuracy", "frozen_accuracy"} <= set(compared)


@pytest.mark.slow
def test_04_says_what_does_not_fit(small_csv, tmp_path):
    given = ["run", "04", "-p", "DATA", small_csv, "-p", "TEXT_COLUMN", "body", "-p", "LABEL_COLUMN", "kind"]
    done = run(*given, "-p", "SEQUENCE_LENGTH", 513, runs=tmp_path, ok=False)
    assert done.returncode == 2 and "out of range" in done.stderr
    (tmp_path / "model").mkdir()
    done = run(*given, "-p", "PRESET", tmp_path / "model", runs=tmp_path / "runs", ok=False)
    assert done.returncode == 2 and "no readable config.json" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_00_runs_with_small_parameters(tmp_path):
    run("run", "00", "-p", "EPOCHS", 1, "-p", "HOUSES", 30, "--name", "small", runs=tmp_path)
    assert (tmp_path / "00_foundations" / "small" / "report.html").exists()


@pytest.mark.slow
def test_03_reads_chinese_by_character(tmp_path):
    run("run", "03", "-p", "DATA", "news_zh", "-p", "EPOCHS", 1, "--name", "zh", runs=tmp_path)
    folder = tmp_path / "03_lstm_classifier" / "zh"
    settings = json.loads((folder / "model" / "classifier.json").read_text("utf-8"))
    assert settings["unit"] == "character"
    run("run", "05", "-p", "RUNS", folder, "--name", "zh", runs=tmp_path)
    text = (tmp_path / "05_evaluation_plots" / "zh" / "report.html").read_text("utf-8")
    assert "体育" in text and "Glyph" not in text


def test_recorded_metrics_are_what_the_readme_shows():
    assert recording.results_table() in (ROOT / "README.md").read_text("utf-8")


def test_the_lock_is_complete_and_names_no_host():
    import tomllib

    lock = (ROOT / "requirements.txt").read_text("utf-8")
    locked = set(re.findall(r"^([a-z0-9._-]+)==[\w.]+", lock, re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert {re.split(r"[<>=\[]", d)[0].lower() for d in wanted} <= locked
    assert not re.search(r"https?://|--index|--find-links|file:", lock)
    assert not locked & {"torch", "transformers"} and not any("nvidia" in name or "cuda" in name for name in locked)
    assert lock.count("--hash=sha256:") > len(locked)
    assert "requirements.txt" in (ROOT / "environment.yml").read_text("utf-8")
