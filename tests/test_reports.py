"""Reports: self-contained, readable, and deaf to whatever the data says."""

import base64
import io
import json
import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from helpers import InputError
from helpers import __main__ as command_line
from helpers.commands import compare_page, safe_html
from helpers.commands import report as reports

EVIL = "<script>alert(1)</script>"
BREAKOUT = '"><img src=x onerror=alert(1)>'
MATHS = (
    "## The model\n\nThe mask $m_t$ picks the last state, so that $P(y) = \\operatorname{softmax}(W h)_y$:\n\n"
    "$$\\mathcal{L} = -\\frac{1}{N} \\sum_{i=1}^{N} \\log \\frac{e^{z_{y_i}}}{\\sum_{k} e^{z_k}}$$\n\n"
    "\\begin{align}a &= b < c\\\\ d &= e\\end{align}\n\n"
    "It costs $5 and $6, or `$x$` in code, and \\$7 too.\n\n"
    "```python\nprice = '$y$'\n```\n\n变量$z$的值。\n\n$\\nosuchthing x$"
)
CODE = (
    "import numpy as np\n\n\ndef split_rows(labels, seed=0, share=0.2):\n"
    '    """Return the rows of a stratified test split."""\n'
    "    random, chosen = np.random.default_rng(seed), []\n"
    "    for label in sorted(set(labels)):\n        rows = np.flatnonzero(labels == label)  # keep the order\n"
    "        chosen.extend(random.permutation(rows)[: int(len(rows) * share)])\n    return np.sort(chosen)"
)


def png(kind: str = "curve") -> str:
    from matplotlib.figure import Figure

    ax = (figure := Figure(figsize=(6.4, 3.2), dpi=80, layout="constrained")).subplots()
    ax.plot([1, 2, 3, 4], [0.3, 0.6, 0.75, 0.8], marker="o") if kind == "curve" else ax.barh(["a", "b"], [3, 5])
    ax.set(xlabel="epoch", ylabel="accuracy", title="Accuracy rises and levels off")
    figure.savefig(buffer := io.BytesIO(), format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def display(data: dict, **metadata):
    return new_output("display_data", data=data, metadata=metadata)


def code(source: str, *outputs, tags=(), **metadata):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags), **metadata})


def sample():
    frame = pd.DataFrame(
        {"model": ["TF-IDF", "BiLSTM", "MiniLM"], "accuracy": [0.56, 0.68, 0.84], "rows": [400, 400, 400]}
    )
    figure = {"image/png": {"alt": "Line chart: accuracy over four epochs"}}
    return new_notebook(
        metadata={"language_info": {"name": "python", "pygments_lexer": "ipython3"}},
        cells=[
            new_markdown_cell(
                "# A headline classifier: LSTM\n\nWhich class does a headline belong to, and how well can 1,280 rows "
                "teach that?\n\n从零训练一个新闻标题分类器。\n\nYou will\n\n- turn text into padded token ids,\n"
                "- train a bidirectional LSTM,\n- compare it with a baseline. See [BERT](04_bert_classifier.ipynb), "
                "[the data](../data/card.md) and [Keras](https://keras.io).\n\n"
                "| part | minutes |\n|---|---|\n| data | 0.5 |\n| training | 2.5 |"
            ),
            new_markdown_cell("## Setup\n\nEverything a reader may change stands in one cell."),
            code("import helpers"),
            code("DATA: str = 'news_en'  # data\nEPOCHS: int = 4\nSEED: int = 0", tags=["parameters"]),
            code("# Parameters\nEPOCHS = 6", tags=["injected-parameters"]),
            new_markdown_cell("## Look at the data\n\nThree rows as they are."),
            code(
                "frame.head(3)", new_output("execute_result", data={"text/html": frame.to_html(), "text/plain": "df"})
            ),
            new_markdown_cell(MATHS),
            new_markdown_cell("### Split\n\nThe split keeps each class's share."),
            code(
                CODE,
                new_output(
                    "stream", name="stdout", text="train 1280 rows\n\x1b[32mvalidation\x1b[0m 320 rows\ntest 400 rows\n"
                ),
                new_output("stream", name="stderr", text="10%|#\r100%|##########\n"),
            ),
            new_markdown_cell("## Train\n\nThe curve levels off after the third epoch."),
            code("plots.curve(history)", display({"image/png": png(), "text/plain": "<Figure>"}, **figure)),
            code("plots.bars(scores)", display({"image/png": png("bars")}), alt="Bar chart: two classes"),
            code("secret = 1", new_output("stream", text="never shown"), tags=["remove-cell"]),
            code("hidden_source = 1", new_output("stream", text="but this is shown"), tags=["remove-input"]),
            code(
                "slider",
                display({"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Slider()"}),
            ),
            new_markdown_cell("## 小结 Summary\n\n> Small data needs a strong start.\n\n- 预训练带来的提升最大。"),
        ],
    )


def hostile():
    frame = pd.DataFrame({EVIL: [BREAKOUT, EVIL]})
    mimes = {
        "text/vnd.mermaid": f"graph</pre>{EVIL}{BREAKOUT}",
        "application/javascript": "alert(1)",
        "image/svg+xml": f"<svg onload=alert(1)>{EVIL}</svg>",
        "text/latex": f"$\\text{{{EVIL}}}$",
        "text/markdown": f"{EVIL} [x](javascript:alert(1)) {BREAKOUT}",
    }
    tricks = (
        f'{EVIL}{BREAKOUT}<a href="javascript&#58;alert(1)">a</a>'
        '<a href="data&#58;text/html,x">b</a><svg/onload=alert(1)>'
        '<iframe src="https://a.example"></iframe><style>@import "http://b.example"</style>'
        '<p style="x" onclick="alert(1)">p</p>'
        '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">'
        '<img src="http://c.example/x.png">'
        "<link rel=stylesheet href=http://d.example><form action=//e><button>x</button></form>"
        '<img src="data:image/svg+xml;base64,AAAA"><base href="http://f.example">'
    )
    cells = [
        new_markdown_cell(f"# Title {EVIL}{BREAKOUT}"),
        new_markdown_cell(f'## Head {EVIL}{BREAKOUT}\n\n{tricks}\n\n<img alt="$x onerror=alert(1)$">'),
        new_markdown_cell(f"$\\text{{{EVIL}}}$ $\\href{{javascript:alert(1)}}{{x}}$ $$\\text{{{BREAKOUT}}}$$"),
        new_markdown_cell(
            f"```mermaid\n{EVIL}{BREAKOUT}\n```\n\n![{BREAKOUT}](javascript:alert(1)) ![p](attachment:none.png)"
        ),
        code(f"A: str = {EVIL!r}  # {BREAKOUT}", tags=["parameters", BREAKOUT]),
        code(f"x = '{EVIL}'", new_output("stream", text=EVIL + BREAKOUT)),
        code("frame", new_output("execute_result", data={"text/html": frame.to_html(), "text/plain": EVIL})),
        code("tricks", display({"text/html": tricks, "text/plain": EVIL})),
        code("f", display({"image/png": f"AAAA{BREAKOUT}"}, **{"image/png": {"alt": BREAKOUT}}), alt=EVIL),
        code("g", display({"image/png": "AAAA"}, **{"image/png": {"alt": BREAKOUT, "width": BREAKOUT}})),
        code("e", new_output("error", ename=EVIL, evalue=BREAKOUT, traceback=[EVIL, BREAKOUT])),
        *(code(EVIL, display({mime: text})) for mime, text in mimes.items()),
        code("w", display({"application/vnd.jupyter.widget-view+json": {"model_id": EVIL}, "text/plain": BREAKOUT})),
    ]
    return new_notebook(
        metadata={"title": EVIL, "language_info": {"name": "python", "pygments_lexer": BREAKOUT}}, cells=cells
    )


def save_run(root: Path, nb=None, notebook="03_lstm_classifier", name="default", **more) -> Path:
    (folder := root / re.sub(r"\W", "_", notebook) / re.sub(r"\W", "_", name)).mkdir(parents=True)
    nbformat.write(sample() if nb is None else nb, folder / "notebook.ipynb")
    run = {
        "notebook": notebook,
        "name": name,
        "status": "done",
        "parameters": {"DATA": "news_en", "EPOCHS": 6, "SEED": 0},
    }
    run |= {
        "metrics": {"accuracy": 0.8425, "macro_f1": 0.839, "log_loss": 0.512, "train_seconds": 95.2},
        "seconds": 130.4,
    }
    run |= {"versions": {"keras": "3.13.0"}, "started": "2026-03-01T08:15:00+00:00"} | more
    (folder / "metrics.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


def save_figures(run: Path, **figures: str) -> Path:
    """Put base64 pictures into the run's `figures/`."""
    (run / "figures").mkdir(exist_ok=True)
    for name, data in figures.items():
        (run / "figures" / f"{name}.png").write_bytes(base64.b64decode(data))
    return run


def save_sweep(notebook: Path, nb=None, name="sweep-grid", states=("completed", "completed", "failed")) -> Path:
    """The folder of a sweep, as `helpers.commands.sweep` leaves it."""
    (folder := notebook / name).mkdir(parents=True)
    page = new_notebook(cells=[new_markdown_cell(f"# {name} of {notebook.name}")]) if nb is None else nb
    nbformat.write(page, folder / "sweep.ipynb")
    table = pd.DataFrame({"run": [f"grid-{i}" for i, _ in enumerate(states)], "status": states})
    table.to_csv(folder / "results.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The sample's report, parsed."""
    folder = save_run(tmp_path_factory.mktemp("runs"))
    return BeautifulSoup(reports.render(folder / "notebook.ipynb", folder / "r.html").read_text("utf-8"), "html.parser")


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """Reports, comparison and index of a run and a sweep in which every text is hostile."""
    root = tmp_path_factory.mktemp("evil")
    run = save_run(
        root,
        hostile(),
        f"00_{EVIL}",
        f"../{BREAKOUT}",
        status="failed",
        error=EVIL + BREAKOUT,
        failed_cell=EVIL,
        parameters={"A": BREAKOUT, EVIL: [EVIL]},
        metrics={"accuracy": EVIL, EVIL: 1, BREAKOUT: [EVIL]},
        seconds=EVIL,
        started=BREAKOUT,
    )
    # A file name holds no slash.
    save_figures(run, **{EVIL.replace("/", ""): png(), f"{BREAKOUT}<script>": "AAAA"})
    (run / "figures" / f"{BREAKOUT}.png").write_bytes(base64.b64decode(png("bars")))
    sweep = save_sweep(run.parent, hostile(), f"sweep-{BREAKOUT}{EVIL}".replace("/", ""), [EVIL, BREAKOUT])
    index = reports.build([run, sweep, run], root / "out", compare=True)
    return sorted((root / "out").iterdir()), index


def harmless(text: str) -> None:
    soup = BeautifulSoup(text, "html.parser")
    policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert len(soup.find_all("script")) == 1 and "alert" not in soup.script.string
    assert len(soup.find_all("style")) == 1 and "url(" not in soup.style.string and "@import" not in soup.style.string
    assert not soup.find_all(["iframe", "object", "embed", "svg", "link", "form", "base", "video", "audio"])
    for tag in soup.find_all(True):
        assert not [name for name in tag.attrs if name.startswith("on") or name in ("style", "srcset", "action")], tag
        assert re.match(r"data:image/(png|jpeg);base64,", tag.get("src", "data:image/png;base64,")), tag
        assert "href" not in tag.attrs or tag.name == "a"
        assert re.match(r"https?://|[^:]*$", tag.get("href", "")), tag


def test_no_outside_resource_and_no_foreign_script(page):
    harmless(str(page))
    assert {a["href"] for a in page.find_all("a") if a["href"].startswith("http")} == {"https://keras.io"}


def test_hostile_text_is_escaped_everywhere(evil):
    files, _ = evil
    assert len(files) == 5
    for file in files:
        text = file.read_text("utf-8")
        harmless(text)
        assert EVIL not in text and "<img src=x" not in text.replace("&lt;img src=x", "")
        assert "&lt;script&gt;alert(1)" in text
        assert file.name in ("compare.html", "index.html") or re.fullmatch(r"00_[\w.-]+\.html", file.name)


def test_hostile_pictures_never_get_a_source_outside(evil):
    images = [
        image for file in evil[0] for image in BeautifulSoup(file.read_text("utf-8"), "html.parser").find_all("img")
    ]
    assert len(images) > 4
    for image in images:
        assert image["src"].startswith("data:image/png;base64,") and "svg" not in image["src"]


def test_head_names_notebook_run_time_and_parameters(page):
    head = page.find("header").get_text(" ", strip=True)
    for text in ("03_lstm_classifier", "default", "2026-03-01 08:15 UTC", "2 min 10 s", "0.843", "EPOCHS"):
        assert text in head
    assert [strong.get_text() for strong in page.find("header").find_all("strong")] == ["6"]
    assert [h1.get_text() for h1 in page.find_all("h1")] == ["A headline classifier: LSTM"] == [page.title.get_text()]
    assert reports.NOTICE in page.get_text()


def test_contents_point_at_the_headings(page):
    links = page.select(".sidebar a")
    assert [a.get_text() for a in links] == ["Setup", "Look at the data", "The model", "Split", "Train", "小结 Summary"]
    assert all(page.find(id=unquote(a["href"][1:])).get_text() == a.get_text() for a in links)
    assert page.select("details.toc a") and page.select_one("a.skip")["href"] == "#main"


def test_equal_headings_get_their_own_anchor(tmp_path):
    nb = new_notebook(cells=[new_markdown_cell("## Same\n\n## Same\n\n## main\n\n[jump](#Same)")])
    nbformat.write(nb, tmp_path / "n.ipynb")
    soup = BeautifulSoup(reports.render(tmp_path / "n.ipynb", tmp_path / "n.html").read_text("utf-8"), "html.parser")
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids)) and soup.find("a", string="jump")["href"] == "#Same"


def test_code_is_folded_but_parameters_are_open(page):
    folds = page.select("details.code")
    assert [fold.has_attr("open") for fold in folds] == [False, True, True, *[False] * (len(folds) - 3)]
    text = page.get_text()
    assert "never shown" not in text and "secret = 1" not in text
    assert "but this is shown" in text and "hidden_source" not in text
    assert "Interactive: open the notebook. Slider()" in text


def test_formulas_are_mathml_and_money_is_text(page):
    assert {"m_t", "z"} <= {math["alttext"] for math in page.find_all("math")}
    assert len(page.select('math[display="block"]')) == 2
    text = page.get_text()
    assert "It costs $5 and $6, or $x$ in code, and $7 too." in text
    assert "'$y$'" in text and "$\\nosuchthing x$" in text and not page.select("code math, pre math")


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("$a$", 1),
        ("$ a$", 0),
        ("$a $", 0),
        ("$a$5", 0),
        ("US$5 and US$6", 0),
        ("$a\n\nb$", 0),
        ("    $a$", 0),
        ("", 0),
        ("``$a$`` $b$", 1),
        ("$$a$$", 1),
        ("| $a$ | b |\n|-|-|\n| $\\lvert c \\rvert$ | $3 |", 2),
        ("**$a$** _$b$_", 2),
        ("$\\frac{a$", 0),
        ("$5, `a$`", 0),
        ("~~~\n$a$\n~~~", 0),
        ("$a \\$ b$", 1),
        ("$a < b$ <b>$c$</b>", 2),
    ],
)
def test_what_is_a_formula(source, count):
    assert safe_html.markdown(source).count("<math") == count


def test_figures_carry_their_description(page):
    assert [img["alt"] for img in page.select("figure img")] == [
        "Line chart: accuracy over four epochs",
        "Bar chart: two classes",
    ]


def test_figures_without_description_are_told_in_one_line(tmp_path, capsys):
    nb = new_notebook(cells=[code("a", display({"image/png": png()})), code("b", display({"image/png": png()}))])
    nbformat.write(nb, tmp_path / "n.ipynb")
    text = reports.render(tmp_path / "n.ipynb", tmp_path / "n.html").read_text("utf-8")
    said = capsys.readouterr().err
    assert said.startswith("n: 2 figures have no description") and said.count("\n") == 1 and ".py" not in said
    assert text.count(f'alt="{reports.NO_ALT}"') == 2


def test_tables_scroll_and_numbers_stand_right(page):
    table = page.select_one(".html .scroll table")
    assert [th.get_text() for th in table.select("thead th.num")] == ["accuracy", "rows"]
    assert "num" not in table.select_one("tbody td").get("class", [])


def test_terminal_text_is_plain(page):
    assert "validation 320 rows" in page.select_one("pre.stdout").get_text()
    assert page.select_one("pre.stderr").get_text() == "100%|##########\n"
    assert "\x1b" not in str(page)


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (119.7, "2 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min"), (None, "")]
)
def test_run_time_reads_well(seconds, text):
    assert compare_page.duration(seconds) == text


def test_parameters_that_differ_from_the_default_are_told():
    nb = new_notebook(cells=[code("A: int = 1  # at most 9\nC: list[int] = [1, 2]", tags=["parameters"])])
    told = [("A", 1, False), ("C", [1, 2], False), ("E", 1, True)]
    assert reports._values(nb, {"parameters": {"C": [1, 2], "E": 1}}) == told
    nb.cells[0].source = "A: int = 1\nB = min(1, 2)"
    assert reports._values(nb, {"parameters": {"E": 1}}) == [("E", 1, True)]


def test_a_comment_in_a_code_fence_is_no_title(tmp_path):
    nb = new_notebook(cells=[new_markdown_cell("Text\n\n```\n# no title\n```"), new_raw_cell("<b>raw</b>")])
    nbformat.write(nb, tmp_path / "plain.ipynb")
    text = reports.render(tmp_path / "plain.ipynb", tmp_path / "r.html").read_text("utf-8")
    assert "<h1>plain</h1>" in text and "# no title" in text and "raw</b>" not in text


def test_title_and_language(tmp_path):
    nbformat.write(sample(), tmp_path / "03_x.ipynb")
    out = reports.render(tmp_path / "03_x.ipynb", tmp_path / "deep" / "r.html", title="A & <B>", language="zh-Hans")
    text = out.read_text("utf-8")
    assert '<html lang="zh-Hans">' in text and "<title>A &amp; &lt;B&gt;</title>" in text
    with pytest.raises(InputError, match="language code"):
        reports.render(tmp_path / "03_x.ipynb", tmp_path / "r.html", language='en" x="')


def test_index_lists_runs_by_notebook(tmp_path):
    other = new_notebook(cells=[new_markdown_cell("# Language models")])
    runs = [
        save_run(tmp_path, name="mine", status="failed", error="ValueError: no rows", failed_cell=9, metrics={}),
        save_run(tmp_path),
        save_run(tmp_path, other, "02_language_models", metrics={"test_perplexity": 131.25}, parameters={}),
    ]
    index = reports.build(runs, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "index.html",
        "02_language_models.html",
        "03_lstm_classifier.html",
        "03_lstm_classifier-mine-failed.html",
    }
    soup = BeautifulSoup(index.read_text("utf-8"), "html.parser")
    harmless(str(soup))
    assert [h2.get_text() for h2 in soup.find_all("h2")] == ["Language models", "A headline classifier: LSTM"]
    assert [a["href"] for a in soup.select("td a")] == [
        "02_language_models.html",
        "03_lstm_classifier.html",
        "03_lstm_classifier-mine-failed.html",
    ]
    text = soup.get_text(" ", strip=True)
    for part in (
        "131.2",
        "0.843",
        "0.839",
        "0.512",
        "2 min 10 s",
        "ValueError: no rows",
        "failed in cell [5], below the heading “Split”",
        reports.NOTICE,
    ):
        assert part in text
    assert {strong.get_text() for strong in soup.find_all("strong")} == {"EPOCHS = 6"}
    assert "train" not in soup.find_all("thead")[1].get_text()


def test_index_shows_other_metrics_where_none_headlines(tmp_path):
    runs = [save_run(tmp_path, metrics={"rows": 1280, "share": None, "same": True, "more": 1}, seconds=None)]
    soup = BeautifulSoup(reports.build(runs, tmp_path / "out").read_text("utf-8"), "html.parser")
    cells = soup.select("tbody td")
    assert [th.get_text() for th in soup.select("thead th.num")] == ["rows", "share", "same", "Run time"]
    assert [td.get_text() for td in cells[1:4]] == ["1,280", "–", "True"]
    assert [td["data-value"] for td in soup.select("td.num")] == ["1280", "", "", ""]


def test_index_lists_sweeps_with_their_notebook(tmp_path):
    run = save_run(tmp_path)
    sweeps = [save_sweep(run.parent), save_sweep(tmp_path / "04_bert", states=())]
    (sweeps[1] / "results.csv").write_bytes(b"\xff\x00")
    soup = BeautifulSoup(reports.build([*sweeps, run], tmp_path / "out").read_text("utf-8"), "html.parser")
    assert [p.get_text() for p in soup.select("p.sweep")] == [
        "Sweep sweep-grid: 2 completed, 1 failed",
        "Sweep sweep-grid",
    ]
    assert [h2.get_text() for h2 in soup.find_all("h2")] == ["A headline classifier: LSTM", "04_bert"]
    assert "1 run 2 sweeps" in soup.get_text(" ", strip=True) and len(soup.find_all("table")) == 1
    for link in soup.select("p.sweep a"):
        assert "sweep-grid of" in (tmp_path / "out" / link["href"]).read_text("utf-8")
    (sweeps[0] / "sweep.ipynb").unlink()
    with pytest.raises(InputError, match="is not a finished sweep"):
        reports.build(sweeps, tmp_path / "out")


def compared(runs: list[Path], out: Path) -> tuple[BeautifulSoup, dict[str, list[list[str]]]]:
    """The comparison, and the rows of its tables by what they show."""
    reports.build(runs, out, compare=True)
    soup = BeautifulSoup((out / "compare.html").read_text("utf-8"), "html.parser")
    harmless(str(soup))
    rows = {
        frame["aria-label"]: [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in frame.find_all("tr")]
        for frame in soup.select(".scroll")
    }
    return soup, rows


def test_comparison_shows_two_runs_side_by_side(tmp_path):
    metrics = {"accuracy": 0.9, "own": [1], "flag": True, "log_loss": 0.5121, "rows": 2000, "lost": None}
    runs = [
        save_run(tmp_path, name="mine", parameters={"EPOCHS": 6, "SIZES": [1]}, metrics=metrics, seconds=70),
        save_run(tmp_path, metrics={"rows": 800, "accuracy": 0.8425, "log_loss": 0.512, "lost": 3, "flag": False}),
    ]
    soup, rows = compared(runs, tmp_path / "out")
    assert [h1.get_text() for h1 in soup.find_all("h1")] == ["mine and default compared"] == [soup.title.get_text()]
    assert rows["Runs"][0] == ["Name", "mine", "default", "Difference"]
    assert rows["Runs"][3] == ["Run time", "1 min 10 s", "2 min 10 s", "+1 min 0 s"]
    assert [a["href"] for a in soup.select("td a")] == ["03_lstm_classifier-mine.html", "03_lstm_classifier.html"]
    assert rows["Parameters"][1:] == [
        ["DATA", "'news_en'", "'news_en'"],
        ["EPOCHS", "6", "6"],
        ["SEED", "0", "0"],
        ["SIZES", "[1]", "–"],
    ]
    assert [strong.get_text() for strong in soup.find_all("strong")] == ["[1]", "–"]
    assert "1 of 4 differs, in bold." in soup.get_text()
    assert rows["Metrics"][1:] == [
        ["accuracy", "0.900", "0.843", "−0.057"],
        ["log loss", "0.512", "0.512", "−1e-04"],
        ["own", "[1]", "–", ""],
        ["flag", "True", "False", ""],
        ["rows", "2,000", "800", "−1,200"],
        ["lost", "–", "3", ""],
    ]
    index = BeautifulSoup((tmp_path / "out" / "index.html").read_text("utf-8"), "html.parser")
    assert index.select_one("a[href='compare.html']").get_text() == "Compare mine with default"


def test_compared_runs_of_one_name_are_told_apart():
    def told(*runs):
        known = ({"notebook": n, "name": name, "failed": failed} for n, name, failed in runs)
        return compare_page.labels(list(known))

    assert told(("03", "a", False), ("04", "b", False)) == ["a", "b"]
    assert told(("03", "default", False), ("04", "default", False)) == ["03/default", "04/default"]
    assert told(("03", "default", False), ("04", "default", True)) == ["03/default", "04/default (failed)"]
    assert told(("03", "default", False), ("03", "default", True)) == ["default", "default (failed)"]
    assert told(("03", "a", False), ("03", "a", False)) == ["a (first)", "a (second)"]


def test_comparison_of_runs_of_one_name_reads_well(tmp_path):
    runs = [save_run(tmp_path), save_figures(save_run(tmp_path, notebook="04_bert"), history=png())]
    soup, rows = compared(runs, tmp_path / "out")
    labels = ["03_lstm_classifier/default", "04_bert/default"]
    assert soup.h1.get_text() == f"{labels[0]} and {labels[1]} compared"
    assert rows["Runs"][0] == rows["Metrics"][0] == ["Name", *labels, "Difference"]
    assert f"The difference is {labels[1]} less {labels[0]}." in soup.get_text()
    assert [caption.get_text() for caption in soup.find_all("figcaption")] == labels
    index = BeautifulSoup((tmp_path / "out" / "index.html").read_text("utf-8"), "html.parser")
    assert index.select_one("a[href='compare.html']").get_text() == f"Compare {labels[0]} with {labels[1]}"


def test_comparison_pairs_figures_by_file_name(tmp_path):
    runs = [save_run(tmp_path, name=name) for name in "ab"]
    save_figures(runs[0], history=png(), own=png("bars"), broken="AAAA")
    save_figures(runs[1], history=png("bars"), folder=png())
    (runs[1] / "figures" / "dir.png").mkdir()
    soup, _ = compared(runs, tmp_path / "out")
    assert [h3.get_text() for h3 in soup.find_all("h3")] == ["folder.png", "history.png", "own.png"]
    figures = [[image["alt"] for image in pair.find_all("img")] for pair in soup.select(".side")]
    curve, bars = "Line chart: accuracy over four epochs", "Bar chart: two classes"  # what the notebook says of them
    assert figures == [[curve], [curve, bars], [bars]]
    assert soup.get_text().count("No such figure.") == 2
    assert [caption.get_text() for caption in soup.find_all("figcaption")] == ["a", "b"] * 3
    save_figures(runs[0], other=base64.b64encode(base64.b64decode(png()) + b"\0").decode())
    assert "other of the run a" in {image["alt"] for image in compared(runs, tmp_path / "out")[0].find_all("img")}


def test_comparison_of_a_failed_run_and_of_empty_ones(tmp_path):
    failed = {"status": "failed", "error": "\x1b[31mValueError\x1b[0m: no rows", "failed_cell": 7}
    bare = {"parameters": {}, "metrics": {}, "seconds": None, "started": ""}
    runs = [save_run(tmp_path, new_notebook(), name=name, **bare, **(failed if name == "b" else {})) for name in "ab"]
    text = compared(runs, tmp_path / "out")[0].get_text(" ", strip=True)
    for part in (
        "The run b of 03_lstm_classifier failed.",
        "ValueError: no rows",
        "Neither run has parameters",
        "has metrics",
    ):
        assert part in text
    assert "Neither run has figures." in text and "None" not in text


@pytest.mark.parametrize("count", [1, 3])
def test_comparison_needs_two_runs(tmp_path, capsys, count):
    runs = [save_run(tmp_path, name=f"r{number}") for number in range(count)]
    sweep = save_sweep(runs[0].parent)
    words = ["report", *map(str, runs), str(sweep), "--compare", "--out", str(tmp_path / "out")]
    assert command_line.main(words) == 2
    said = capsys.readouterr().err
    assert said == f"error: A comparison needs exactly two runs, and {count} came with --compare.\n"
    assert not (tmp_path / "out").exists()
    words.remove("--compare")
    assert command_line.main(words) == 0 and not (tmp_path / "out" / "compare.html").exists()
    assert "compare.html" not in (tmp_path / "out" / "index.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        (1, 3, "+2"),
        (0.5, 0.25, "−0.250"),
        (0.1, 0.1, "±0.000"),
        (0, 2e-7, "+2e-07"),
        (1, 1e400, ""),
        (10**400, 0.5, ""),
        (1, float("nan"), ""),
        (True, 1, ""),
        ("1", 2, ""),
        (None, 2, ""),
        (-1.7e308, 1.7e308, "+inf"),
    ],
)
def test_differences(left, right, text):
    assert compare_page._difference(left, right, compare_page._small) == text
    assert compare_page.duration(10**400) == compare_page.duration(float("inf")) == ""


def test_headings_of_any_text_have_an_address(tmp_path):
    nbformat.write(new_notebook(cells=[new_markdown_cell("## 100% sure\n\n## 小结")]), tmp_path / "n.ipynb")
    soup = BeautifulSoup(reports.render(tmp_path / "n.ipynb", tmp_path / "n.html").read_text("utf-8"), "html.parser")
    assert [a["href"] for a in soup.select(".sidebar a")] == ["#100%25-sure", "#%E5%B0%8F%E7%BB%93"]
    assert [(h["id"], h.get_text()) for h in soup.find_all("h2")] == [("100%-sure", "100% sure"), ("小结", "小结")]


@pytest.mark.parametrize("place", [None, EVIL, -1, 99, 1.5])
def test_a_failed_cell_that_is_not_there_is_not_told(place):
    assert reports._where(sample(), {"failed_cell": place}) == ""


def test_a_failed_cell_is_told_as_jupyterlab_counts_it():
    nb = new_notebook(cells=[new_markdown_cell("## Train *it*\n\n```\n# no heading\n```"), code(" "), code("1")])
    assert reports._where(nb, {"failed_cell": 2}) == "in cell [1], below the heading “Train it”"
    nb.cells[2].execution_count = 12
    assert reports._where(nb, {"failed_cell": 2}).startswith("in cell [12], ")
    assert reports._where(new_notebook(cells=[code("1")]), {"failed_cell": 0}) == "in cell [1]"


def save_failed(root: Path, nb=None, **more) -> Path:
    """A run that failed, in the folder that a failed run keeps."""
    folder = save_run(root, nb, status="failed", error="ValueError: no rows", **more)
    return folder.rename(folder.with_name(f"{folder.name}.failed"))


def test_report_takes_folders_of_runs(tmp_path):
    failed, bert = save_failed(root := tmp_path / "runs"), save_run(root, notebook="04_bert")
    run, sweep = save_run(root), save_sweep(failed.parent)
    save_run(root, name="interactive")
    save_run(root, name="hidden").rename(run.parent / ".hidden.1.partial")
    (run.parent / "sweep-going").mkdir()
    assert reports.collect([run.parent]) == [run, failed, sweep]
    assert reports.collect([bert, root, run]) == [bert, run, failed, sweep]
    assert command_line.main(["report", str(root), "--out", str(tmp_path / "out")]) == 0
    soup = BeautifulSoup((tmp_path / "out" / "index.html").read_text("utf-8"), "html.parser")
    names = ["03_lstm_classifier.html", "03_lstm_classifier-failed.html", "04_bert.html"]
    assert [a["href"] for a in soup.select("td a")] == names
    assert "3 runs 1 sweep 1 failed" in soup.get_text(" ", strip=True) and "ValueError: no rows" in soup.get_text()


def test_a_run_that_failed_before_its_first_cell_is_listed(tmp_path):
    (failed := save_failed(tmp_path)).joinpath("notebook.ipynb").unlink()
    assert "ValueError: no rows" in reports.build(reports.collect([failed]), tmp_path / "out").read_text("utf-8")


STUB = """#!/bin/bash
echo "$@" >> "$LOG"
case "$*" in *"$FAILS"*) exit "$STATUS" ;; esac
"""


@pytest.mark.parametrize(("fails", "status"), [("nothing", 1), ("run 00_", 1), ("run 04_", 2), ("run 00_", 130)])
def test_make_report_goes_on_after_a_failing_notebook(tmp_path, fails, status):
    for name in ("00_foundations/default", "03_lstm_classifier/default.failed", "03_lstm_classifier/mine"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (stub := tmp_path / "python").write_text(STUB)
    stub.chmod(0o755)
    (ready := tmp_path / "ready").touch()
    known = {"LOG": str(tmp_path / "log"), "FAILS": fails, "STATUS": str(status)}
    known["HELPERS_RUNS"] = str(tmp_path / "runs")
    done = subprocess.run(
        ["make", "-s", "report", f"PY={stub}", f"READY={ready}"],
        cwd=Path(__file__).parent.parent, env=os.environ | known,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    *ran, last = (tmp_path / "log").read_text().splitlines()
    if status == 130:  # stopped by the user
        assert done.returncode and ran == [] and "run 00_" in last
        return
    folders = [str(tmp_path / "runs" / n) for n in ("00_foundations/default", "03_lstm_classifier/default.failed")]
    assert set(folders) < set(last.split())
    assert "mine" not in last
    assert last.startswith("-m helpers report")
    assert [line.split()[3][:2] for line in ran] == ["00", "01", "02", "03", "04", "05"][
        : 6 if fails == "nothing" else 5
    ]
    assert (done.returncode == 0) == (fails == "nothing")


GOOD = (
    "../some-run/report.html",
    "report.html",
    "../../04_bert/a%20b/report.html#Train",
    "../网格-1/report.html",
    "#x",
)
BAD = (
    "javascript:alert(1)", "java\tscript:alert(1).html", "data:text/html,x.html", "/etc/x.html", "//host/x.html",
    "\\\\host/x.html", "/\\host/x.html", "\t//host/x.html", "..//host/x.html", "../a/\\host.html", "../a/run.sh",
    "file:///x.html", "x:y.html", "&#106;avascript:x.html", "http:x.html", "../x.html\n", "?q=x.html",
)  # fmt: skip


def links(nb, **known) -> list[str]:
    page = BeautifulSoup(reports._html(nb, {"notebook": "x"}, **known), "html.parser")
    return [link["href"] for link in page.select(".html a[href]")]


def test_relative_links_of_tables_stay_and_others_do_not():
    def table(addresses):
        rows = "".join(f'<tr><td><a href="{address}">run</a></td></tr>' for address in addresses)
        return new_notebook(cells=[code("t", display({"text/html": f"<table>{rows}</table>"}))])

    assert links(table(GOOD)) == list(GOOD)
    assert links(table(BAD)) == []
    assert links(table(["https://a.example/x.html"])) == ["https://a.example/x.html"]
    pages = {"../some-run/report.html": "x-some-run.html"}
    assert links(table(GOOD), pages=pages) == ["x-some-run.html", "#x"]


def test_a_sweep_links_to_the_runs_beside_it(tmp_path):
    rows = '<a href="../grid_1/report.html">1</a><a href="../grid-2/report.html">2</a>'
    run = save_run(tmp_path, name="grid_1")
    sweep = save_sweep(run.parent, new_notebook(cells=[code("t", display({"text/html": rows}))]))
    other = save_run(tmp_path, notebook="04_bert", name="grid-2")
    reports.build([run, sweep, other], tmp_path / "out")
    page = BeautifulSoup((tmp_path / "out" / "03_lstm_classifier-sweep-grid.html").read_text("utf-8"), "html.parser")
    assert [a["href"] for a in page.select(".html a")] == ["03_lstm_classifier-grid_1.html"]


UNCLOSED = {
    "code": "<code>a ", "pre": "<pre>", "tag": "<", "align": "\\begin{align} x ", "gather": "\\begin{gather*}",
    "dollar": "a $b ", "block": "$$ x", "tick": "`` ` ",
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLOSED)
def test_time_is_linear_in_what_is_never_closed(name):
    def seconds(size):
        text = (UNCLOSED[name] * size)[:size]
        started = time.process_time()
        for _ in range(5):
            safe_html._MATH.sub("", text)
            safe_html._CODE_OR_TAG.sub("", text)
        return time.process_time() - started

    assert seconds(40_000) < 16 * max(seconds(5_000), 0.001)  # eight times is linear, 64 times quadratic


def test_a_cell_that_is_too_long_is_shown_as_it_is():
    page = safe_html.markdown("<b>x" * (safe_html.LONGEST // 4 + 1))
    assert page.startswith("<pre>&lt;b&gt;x")


def test_links_between_reports(tmp_path):
    bert = new_notebook(cells=[new_markdown_cell("# BERT\n\n[back](03_lstm_classifier.ipynb#Train)")])
    reports.build([save_run(tmp_path), save_run(tmp_path, bert, "04_bert_classifier")], tmp_path / "out")
    first, second = (
        (tmp_path / "out" / name).read_text("utf-8") for name in ("03_lstm_classifier.html", "04_bert_classifier.html")
    )
    assert 'href="04_bert_classifier.html"' in first and "card.md" not in first
    assert 'href="03_lstm_classifier.html#Train"' in second


def test_runs_of_one_name_do_not_overwrite_each_other(tmp_path):
    runs = [save_run(tmp_path / place, notebook="index") for place in "ab"]
    reports.build(runs, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"index.html", "index-2.html", "index-3.html"}


def test_errors_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="No runs were given"):
        reports.build([], tmp_path)
    with pytest.raises(InputError, match="is not a run folder"):
        reports.build([tmp_path / "nowhere"], tmp_path)
    with pytest.raises(InputError, match="holds no finished or failed run"):
        reports.collect([tmp_path])
    run = save_run(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        reports.build([run], tmp_path / "file" / "out")
    for text in ("", "[]", "{", '{"name": 3}', '{"notebook": "a", "name": "b", "metrics": 3}'):
        (run / "metrics.json").write_text(text)
        with pytest.raises(InputError, match="is not a finished run"):
            reports.build([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"{}", b"[]", b'{"cells": 3, "nbformat": 4, "nbformat_minor": 5}', None]
)
def test_unreadable_notebook(tmp_path, content):
    if content is not None:
        (tmp_path / "n.ipynb").write_bytes(content)
    with pytest.raises(InputError, match="is not a readable notebook") as error:
        reports.render(tmp_path / "n.ipynb", tmp_path / "n.html")
    assert "\n" not in str(error.value) and not (tmp_path / "n.html").exists()


def test_failing_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    nbformat.write(sample(), tmp_path / "n.ipynb")
    out = reports.render(tmp_path / "n.ipynb", tmp_path / "out" / "n.html")
    before = out.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        reports.render(tmp_path / "n.ipynb", out)
    assert out.read_bytes() == before and [p.name for p in out.parent.iterdir()] == ["n.html"]


def test_import_is_light():
    heavy = ("tensorflow", "keras", "nbconvert", "nbformat", "bleach", "pandas")
    check = f"import sys, helpers.commands.report; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", check], timeout=60, check=False).returncode == 0


def test_a_broken_alt_or_old_notebook_is_no_trouble(tmp_path):
    nb = new_notebook(cells=[code("a", display({"image/png": png()}, **{"image/png": "no dict"}), alt=["a", "list"])])
    nbformat.write(nb, tmp_path / "n.ipynb")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert safe_html.clean("https://a.example/x.csv") == "https://a.example/x.csv"
        assert "list" in reports.render(tmp_path / "n.ipynb", tmp_path / "n.html").read_text("utf-8")


# --- in a browser -----------------------------------------------------------------------------------------------------

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,900"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip("needs /usr/bin/chromium and /usr/bin/chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def visit(driver, path: Path) -> list[str]:
    """Open the file; returns the addresses it asked for (the browser's own start page is none of ours)."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get("about:blank")
    _ = driver.get_log("browser"), driver.get_log("performance")
    driver.get(path.as_uri())
    loaded = "return document.readyState === 'complete' && [...document.images].every(i => i.complete)"
    WebDriverWait(driver, 20).until(lambda _: driver.execute_script(loaded))
    time.sleep(0.3)  # for what a script would still ask for
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [r["request"]["url"] for r in requests if not r["documentURL"].startswith(("about:", "chrome"))]


def assert_quiet(driver, path: Path) -> None:
    from selenium.common.exceptions import NoAlertPresentException

    requests = visit(driver, path)
    assert path.as_uri() in requests
    assert [url for url in requests if url != path.as_uri() and not url.startswith("data:")] == []
    assert driver.get_log("browser") == []
    with pytest.raises(NoAlertPresentException):
        _ = driver.switch_to.alert


def test_report_in_a_browser(browser, tmp_path):
    assert_quiet(browser, reports.render(save_run(tmp_path) / "notebook.ipynb", tmp_path / "r.html"))
    widths = browser.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(widths) == 2 and min(widths) > 0
    fold = browser.find_element("css selector", "details.code:not([open])")
    fold.find_element("tag name", "summary").click()
    assert fold.get_attribute("open")
    browser.find_element("id", "show-code").click()
    assert browser.execute_script("return [...document.querySelectorAll('details.code')].every(d => d.open)")
    assert browser.execute_script("return document.querySelector('math mfrac').getBoundingClientRect().height") > 20


def test_sidebar_follows_headings_of_any_text(browser, tmp_path):
    cells = [
        new_markdown_cell("## 100% sure\n\ntext"),
        *[new_markdown_cell("text\n\n" * 60)],
        new_markdown_cell("## 小结"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "n.ipynb")
    assert_quiet(browser, reports.render(tmp_path / "n.ipynb", tmp_path / "n.html"))
    browser.find_element("css selector", ".sidebar li:first-child a").click()
    current = "return document.querySelector('.sidebar [aria-current]')?.textContent"
    time.sleep(0.3)
    assert browser.execute_script(current) == "100% sure"
    assert browser.get_log("browser") == []


def test_narrow_report_does_not_scroll_sideways(browser, tmp_path):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        visit(browser, reports.render(save_run(tmp_path) / "notebook.ipynb", tmp_path / "r.html"))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        assert browser.find_element("css selector", "details.toc").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_index_in_a_browser(browser, tmp_path):
    runs = [
        save_run(tmp_path, name=name, metrics={"accuracy": value})
        for name, value in (("a", 0.9), ("b", 0.1), ("c", 0.5))
    ]
    index = reports.build(runs, tmp_path / "out")
    assert_quiet(browser, index)
    names = "return [...document.querySelectorAll('tbody tr')].map(r => r.cells[0].innerText.trim())"
    assert browser.execute_script(names) == ["a", "b", "c"]
    head = browser.find_elements("css selector", "th button")[1]
    head.click()
    assert browser.execute_script(names) == ["b", "c", "a"]
    head.click()
    assert browser.execute_script(names) == ["a", "c", "b"]
    browser.find_element("css selector", "tbody a").click()
    assert browser.current_url.endswith("03_lstm_classifier-a.html")


def test_unknown_numbers_sort_last(browser, tmp_path):
    values = {"a": 0.9, "b": None, "c": 10, "d": "none", "e": 2}
    index = reports.build([save_run(tmp_path, name=n, metrics={"accuracy": v}) for n, v in values.items()], tmp_path)
    assert_quiet(browser, index)
    names = "return [...document.querySelectorAll('tbody tr')].map(r => r.cells[0].innerText.trim()).join('')"
    head = browser.find_elements("css selector", "th button")[1]
    for order in ("aecbd", "ceabd"):
        head.click()
        assert browser.execute_script(names) == order


def test_comparison_in_a_browser(browser, tmp_path):
    runs = [save_figures(save_run(tmp_path, name=name), history=png(), own=png("bars")) for name in "ab"]
    page = reports.build(runs, tmp_path / "out", compare=True).with_name("compare.html")
    assert_quiet(browser, page)
    places = browser.execute_script("return [...document.images].map(i => [i.naturalWidth, i.x, i.y])")
    assert len(places) == 4 and all(width > 0 for width, _, _ in places)
    assert places[0][1] < places[1][1] and places[0][2] == places[1][2] < places[2][2]
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_hostile_reports_in_a_browser(browser, evil):
    for file in evil[0]:
        assert_quiet(browser, file)
