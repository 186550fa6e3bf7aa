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
from helpers.commands import overview, safe_html
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
        metrics={EVIL: 1, BREAKOUT: 2},
        seconds=EVIL,
        started=BREAKOUT,
    )
    # A file name holds no slash.
    save_figures(run, **{EVIL.replace("/", ""): png(), f"{BREAKOUT}<script>": "AAAA"})
    (run / "figures" / f"{BREAKOUT}.png").write_bytes(base64.b64decode(png("bars")))
    sweep = save_sweep(run.parent, hostile(), f"sweep-{BREAKOUT}{EVIL}".replace("/", ""), [EVIL, BREAKOUT])
    whole = save_run(root, hostile(), f"04_{BREAKOUT}", parameters={"DATA": EVIL}, metrics={EVIL: 1}, started=EVIL)
    save_predictions(save_figures(whole, telling=png()), **{EVIL: "yy", BREAKOUT: "yn"})
    index = reports.build([run, sweep, run, whole], root / "out")
    return sorted((root / "out").iterdir()), index


def harmless(text: str) -> None:
    soup = BeautifulSoup(text, "html.parser")
    policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert len(soup.find_all("script")) == 1 and "alert" not in soup.script.string
    assert len(soup.find_all("style")) == 1 and "url(" not in soup.style.string and "@import" not in soup.style.string
    assert not soup.find_all(
        ["iframe", "object", "embed", "foreignobject", "use", "link", "form", "base", "video", "audio"]
    )
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
        assert file.name == "index.html" or re.fullmatch(r"0[04]_[\w.-]+\.html", file.name)


def test_hostile_pictures_never_get_a_source_outside(evil):
    images = [
        image for file in evil[0] for image in BeautifulSoup(file.read_text("utf-8"), "html.parser").find_all("img")
    ]
    assert len(images) > 3
    for image in images:
        assert image["src"].startswith("data:image/png;base64,") and "svg" not in image["src"]


def test_head_names_notebook_run_time_and_parameters(page):
    head = page.find("header").get_text(" ", strip=True)
    for text in ("03_lstm_classifier", "default", "2026-03-01 08:15 UTC", "2 min 10 s"):
        assert text in head
    assert [strong.get_text() for strong in page.find_all("strong")] == ["1 not the default", "6"]
    assert [h1.get_text() for h1 in page.find_all("h1")] == ["A headline classifier: LSTM"] == [page.title.get_text()]
    assert reports.NOTICE in page.get_text()


def test_contents_point_at_the_headings(page):
    links = page.select(".sidebar a")
    assert [a.get_text() for a in links] == ["Look at the data", "The model", "Split", "Train", "小结 Summary"]
    assert all(page.find(id=unquote(a["href"][1:])).get_text() == a.get_text() for a in links)
    assert page.select("details.toc a") and page.select_one("a.skip")["href"] == "#main"


def test_equal_headings_get_their_own_anchor(tmp_path):
    nb = new_notebook(cells=[new_markdown_cell("## Same\n\n## Same\n\n## main\n\n[jump](#Same)")])
    nbformat.write(nb, tmp_path / "n.ipynb")
    soup = BeautifulSoup(reports.render(tmp_path / "n.ipynb", tmp_path / "n.html").read_text("utf-8"), "html.parser")
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids)) and soup.find("a", string="jump")["href"] == "#Same"


def test_code_and_setup_are_folded_and_checks_are_gone(page):
    assert not page.select("details[open]")
    setup = page.select("details.setup")[-1].get_text()
    assert "import helpers" in setup and "EPOCHS = 6" in setup and "frame.head" not in setup
    text = page.get_text()
    assert "never shown" not in text and "secret = 1" not in text
    assert "but this is shown" in text and "hidden_source" not in text
    assert "Interactive: open the notebook. Slider()" in text


def test_the_answer_comes_first_and_checks_are_hidden(tmp_path):
    cells = [
        new_markdown_cell("# T\n\nwords"),
        code("assert x", new_output("stream", text="held"), tags=["check"]),
        code("tell()", display({"text/markdown": "**bert**: use it"}), tags=["answer"]),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "n.ipynb")
    soup = BeautifulSoup(reports.render(tmp_path / "n.ipynb", tmp_path / "n.html").read_text("utf-8"), "html.parser")
    text = soup.main.get_text(" ", strip=True)
    assert text.index("bert : use it") < text.index("words") and "held" not in text and "tell" not in text


@pytest.mark.parametrize(
    ("source", "caption"),
    [
        ("# Draw it\nplots.x()", "Draw it"), ("import re\nfrom a import (\n    b,\n)\n\nx = f(3)", "x = f(3)"),
        ("import re", ""), ("", ""), ("@plots.styled\ndef heat(x):\n    pass", "def heat(x):"),
    ],
)  # fmt: skip
def test_a_code_chip_has_a_caption_or_none(source, caption):
    assert reports._caption(source) == caption


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
        ("\\begin{align}a &= b\\end{align}", 1),
    ],
)
def test_what_is_a_formula(source, count):
    assert safe_html.markdown(source).count("<math") == count


def test_figures_carry_their_description(page):
    assert [img["alt"] for img in page.select("figure img")] == [
        "Line chart: accuracy over four epochs",
        "Bar chart: two classes",
    ]


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
    assert overview.duration(seconds) == text


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
    runs = [save_run(tmp_path, metrics={"rows": 1280, "share": 0.5, "more": 1, "last": 2}, seconds=None)]
    soup = BeautifulSoup(reports.build(runs, tmp_path / "out").read_text("utf-8"), "html.parser")
    assert [th.get_text() for th in soup.select("thead th.num")] == ["rows", "share", "more", "Run time"]
    assert [td.get_text() for td in soup.select("tbody td")[1:4]] == ["1,280", "0.500", "1.000"]
    assert [td["data-value"] for td in soup.select("td.num")] == ["1280.0", "0.5", "1.0", ""]


def test_index_lists_sweeps_with_their_notebook(tmp_path):
    run = save_run(tmp_path)
    sweeps = [save_sweep(run.parent), save_sweep(tmp_path / "04_bert", states=())]
    (sweeps[1] / "results.csv").write_bytes(b"\xff\x00")
    soup = BeautifulSoup(reports.build([*sweeps, run], tmp_path / "out").read_text("utf-8"), "html.parser")
    assert [p.get_text() for p in soup.select("p.sweep")] == [
        "Sweep sweep-grid: 2 completed, 1 failed",
        "Sweep sweep-grid",
    ]
    assert "1 run 2 sweeps" in soup.get_text(" ", strip=True) and len(soup.find_all("table")) == 1
    for link in soup.select("p.sweep a"):
        assert "sweep-grid of" in (tmp_path / "out" / link["href"]).read_text("utf-8")
    (sweeps[0] / "sweep.ipynb").unlink()
    with pytest.raises(InputError, match="is not a finished sweep"):
        reports.build(sweeps, tmp_path / "out")


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
    expected = ["00", "01", "02", "03", "04", "06", "05"]
    assert [line.split()[3][:2] for line in ran] == expected[: 7 if fails == "nothing" else 6]
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


def save_predictions(run: Path, **right: str) -> Path:
    """A prediction a letter: y is right."""
    rows = [
        {"row": i, "split": "test", "model": model, "text": EVIL, "label": "a", "prediction": "a" if y == "y" else "b"}
        for model, letters in right.items() for i, y in enumerate(letters)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(run / "predictions.csv", index=False)
    return run


def test_the_index_computes_the_ladder_and_shows_a_card_a_notebook(tmp_path):
    run = save_predictions(save_figures(save_run(tmp_path), telling=png()), bert="yyyyyyyyyn", tfidf="yynnnnnnny")
    bad = save_run(tmp_path, notebook="04_bert")
    (bad / "predictions.csv").write_bytes(b"\xff,\x00")
    index = reports.build([run, bad, save_run(tmp_path, new_notebook(), "05_eval", metrics={})], tmp_path / "out")
    soup = BeautifulSoup(index.read_text("utf-8"), "html.parser")
    text = " ".join(soup.get_text(" ").split())
    assert "bert labels 90 % of 10 test texts rightly, 60 points more than tfidf" in text
    assert "7 went to bert alone and 1 to tfidf alone" in text and "with probability 0.070" in text
    assert "tfidf 0.300 (0.108 to 0.603), bert 0.900" in soup.svg["aria-label"]
    assert len(soup.select("article")) == 3 and soup.select_one("article img")["src"].startswith("data:image/png")
    assert [a["href"] for a in soup.select(".map a")][-1] == "05_eval.html"
    nav = BeautifulSoup((tmp_path / "out" / "04_bert.html").read_text("utf-8"), "html.parser")
    assert nav.select_one("[rel=prev]")["href"] == "03_lstm_classifier.html"
    assert nav.select_one("[rel=next]")["href"] == "05_eval.html"


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
    fold = browser.find_element("css selector", "main > .cell details.code:not([open])")
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
    browser.execute_script("document.querySelector('.all-runs').open = true")
    names = "return [...document.querySelectorAll('tbody tr')].map(r => r.cells[0].innerText.trim())"
    assert browser.execute_script(names) == ["a", "b", "c"]
    head = browser.find_elements("css selector", "th button")[1]
    head.click()
    assert browser.execute_script(names) == ["b", "c", "a"]
    head.click()
    assert browser.execute_script(names) == ["a", "c", "b"]
    browser.find_element("css selector", "tbody a").click()
    assert browser.current_url.endswith("03_lstm_classifier-a.html")


def test_hostile_reports_in_a_browser(browser, evil):
    for file in evil[0]:
        assert_quiet(browser, file)
