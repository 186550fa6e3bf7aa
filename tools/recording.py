"""What the project ships of its own runs: predictions for notebook 05, and figures and tables for the README.

``python tools/recording.py`` is the last step of ``make notebooks``: it copies the runs by hand that have just been
made. ``python tools/recording.py RUN...`` adds the metrics of further runs of 06 to the README's results; a long run
of 07 becomes its record, ``07-long.json``, and its weights ``data/docs_bert``.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers import evaluation, files, plots, runs
from helpers.files import project_root

MODELS = {
    "03_lstm_classifier": ("tfidf", "as_printed", "mended", "bilstm", "bilstm_pretrained"),
    "04_bert_finetune": ("frozen", "bert"),
}
COLUMNS = {  # of the README's table: what a run of 06 records
    "tfidf_accuracy": "counting words",
    "lstm_accuracy": "LSTM",
    "frozen_accuracy": "frozen BERT",
    "bert_accuracy": "fine-tuned BERT",
    "mixture_accuracy": "mixture",
}
PUBLISHED = {  # of others, on the same test texts; named in the README
    "banking77": "BERT .937",
    "chnsenticorp": "BERT .950",
    "sst2": "CNN .881, BiLSTM .875, BERT-base .935",
    "thucnews": "180,000 texts: TextRNN .911, BERT .948",
    "trec6": "CNN .936, ULMFiT .964",
}
TEXTS = {  # plain texts that runs of 02 learned from: their tokens, and perplexities of others
    "ptb": ("words", "Kneser-Ney 141.2, LSTM 114.5 to 78.4"),
    "shakespeare": ("characters", "Transformer 6.6 on a processor, 4.3 on a GPU"),
}
LADDER = {
    "chance": "always the largest class",
    "as_printed_accuracy": "LSTM as the documents print it",
    "bilstm_accuracy": "LSTM, mended and regularised",
    "bilstm_pretrained_accuracy": "LSTM on MiniLM's word vectors",
    "tfidf_accuracy": "TF-IDF + logistic regression",
    "frozen_accuracy": "frozen BERT + logistic regression",
    "04": "BERT, fine-tuned",
}


def record_predictions(run: str, out: Path, models: Sequence[str]) -> None:
    """Writes a small copy of a run for notebook 05: some models, probabilities to four digits, costs.

    Args:
        run: a finished run folder.
        out: the folder to write, such as ``data/recorded/03_lstm_classifier``.
        models: the models to keep; those whose cost was measured are kept as well.
    """
    out.mkdir(parents=True, exist_ok=True)
    measured = evaluation.read_costs([run])
    models = [*models, *(name for name in measured["model"] if name not in models)]
    for name in ("costs.csv", "data_sizes.csv"):
        if len(table := evaluation.read_costs([run], name)):
            files.write_atomic(out / name, table.to_csv(index=False))
    for name in ("predictions.csv", "history.csv"):
        table = evaluation.read_table(run, name, ("model",))
        kept = table[table["model"].isin(models)]
        files.write_atomic(out / name, kept.to_csv(index=False, float_format="%.4g"))
    record_metrics(run, out / "metrics.json")


def record_metrics(run: str, out: Path) -> None:
    """Copies ``metrics.json`` of a run without paths of this machine."""
    record = runs.load(run)
    for name, value in record["parameters"].items():
        if isinstance(value, str) and "/" in value:
            record["parameters"][name] = "/".join(Path(value).parts[-2:])
    kept = ("notebook", "name", "status", "parameters", "metrics", "seconds", "versions")
    files.write_json(out, {key: record[key] for key in kept if key in record})


def record_pretraining(run: str) -> None:
    """Keeps a long run of 07: its curve and what it measured as one file, and its weights."""
    import pandas as pd

    folder, data = runs.find_run(run), project_root() / "data"
    record_metrics(run, data / "recorded" / "07-long.json")
    record = json.loads((data / "recorded" / "07-long.json").read_text("utf-8"))
    curve = evaluation.read_table(run, "curve.csv", ("step", "val_loss"))
    record |= {
        "steps": int(curve["step"].max()),
        "rates": json.loads((folder / "rates.json").read_text("utf-8")),
        "curve": curve[["step", "loss", "val_loss", "accuracy", "seconds"]].round(4).to_dict("records"),
        "transfer": pd.read_csv(folder / "transfer.csv").round(4).to_dict("records"),
    }
    files.write_json(data / "recorded" / "07-long.json", record)
    shutil.copytree(folder / "docs_bert", data / "docs_bert", dirs_exist_ok=True)


def results() -> dict[str, tuple[float, dict[str, float]]]:
    """Minutes and metrics of the recorded runs of 06, by data set; of several the one with most time."""
    found: dict[str, tuple[float, dict[str, float]]] = {}
    for path in sorted((project_root() / "data" / "recorded").glob("06-*.json")):
        record = json.loads(path.read_text("utf-8"))
        source = record["parameters"]["DATA"]
        name, minutes = Path(source).parent.name if "/" in source else source, record["parameters"]["MINUTES"]
        if minutes > found.get(name, (0,))[0]:
            found[name] = minutes, record["metrics"]
    return found


def steps(name: str) -> dict[str, float]:
    """Test accuracies of the recorded runs of 03 and 04 on a data set, ``03`` and ``04`` for the notebooks' own."""
    found: dict[str, float] = {}
    for path in sorted((project_root() / "data" / "recorded").rglob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        number, metrics = record["notebook"][:2], record["metrics"]
        if number not in ("03", "04") or record["parameters"]["DATA"] != name:
            continue
        found |= {k: v for k, v in metrics.items() if k.endswith("_accuracy")} | {number: metrics["accuracy"]}
    return found


def results_table() -> str:
    """The README's table of results in Markdown, from recorded metrics only."""
    rows = [["data", "minutes", *COLUMNS.values(), "published"], ["---"] + ["---:"] * (len(COLUMNS) + 1) + ["---"]]
    for name, (minutes, row) in sorted(results().items()):
        rows.append([name, f"{minutes:g}", *(f"{row[key]:.3f}" if key in row else "" for key in COLUMNS)])
        rows[-1].append(PUBLISHED.get(name, ""))
    used = [i for i in range(len(rows[0])) if i == 0 or any(r[i] for r in rows[2:])]
    return "\n".join("| " + " | ".join(r[i] for i in used) + " |" for r in rows)


def texts_table() -> str:
    """The README's table of perplexities in Markdown, from recorded runs of 02 only."""
    rows = ["| text | counting | LSTM | Transformer | mixture | minutes of the LSTM | published |"]
    rows.append("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for name, (tokens, others) in TEXTS.items():
        found = json.loads((project_root() / "data" / "recorded" / f"02-{name}.json").read_text("utf-8"))["metrics"]
        models = (found[f"{model}_test_perplexity"] for model in ("kneser_ney", "lstm", "transformer", "mixture"))
        minutes = f"{found['lstm_train_seconds'] / 60:.0f}"
        rows.append(f"| {name}, {tokens} | {' | '.join(f'{p:.2f}' for p in models)} | {minutes} | {others} |")
    return "\n".join(rows)


def draw_ladder(name: str, path: Path) -> None:
    """Draws test accuracy by model on a recorded data set, from worst to best, as a PNG."""
    import pandas as pd

    row = steps(name)
    values = pd.Series({text: row[key] for key, text in LADDER.items() if key in row}).sort_values()
    title = f"{name}: from {values.iloc[0]:.3f} to {values.iloc[-1]:.3f}"
    ax = plots.bars(values, title, "test accuracy", decimals=3)
    files.write_atomic(path, plots.to_png(ax))


def update_readme() -> None:
    """Puts the current table and ladder into the README."""
    readme = project_root() / "README.md"
    page = readme.read_text("utf-8")
    for name, table in (("results", results_table()), ("texts", texts_table())):
        before, _, rest = page.partition(f"<!-- {name} -->\n")
        page = f"{before}<!-- {name} -->\n{table}\n<!-- /{name} -->{rest.partition(f'<!-- /{name} -->')[2]}"
    files.write_atomic(readme, page)
    draw_ladder("news_en", project_root() / "docs" / "ladder.png")


def main(arguments: Sequence[str]) -> None:
    """Records the latest runs by hand, or the metrics of the named runs; then updates the README."""
    recorded = project_root() / "data" / "recorded"
    for run in arguments:
        record: dict[str, Any] = runs.load(run)
        if record["notebook"] == "07_pretraining":
            record_pretraining(run)
            continue
        record_metrics(run, recorded / f"{record['notebook'][:2]}-{record['name']}.json")
    if not arguments:
        record_metrics(str(files.runs_root() / "06_which_model" / "interactive"), recorded / "06-news_en.json")
    for notebook, models in {} if arguments else MODELS.items():
        record_predictions(str(files.runs_root() / notebook / "interactive"), recorded / notebook, models)
    update_readme()


if __name__ == "__main__":
    main(sys.argv[1:])
