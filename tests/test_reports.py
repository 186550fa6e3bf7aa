"""Reports: self-contained, readable, and deaf to whatever the data says."""

import base64
import json
import os
import re
import subprocess
import time
import warnings
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import asked, narrow_width, wait_for
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from helpers import InputError, plots
from helpers import __main__ as command_line
from helpers.commands import report as reports
from helpers.commands import safe_html

EVIL = "<script>alert(1)</script>"
BREAKOUT = '"><img src=x onerror=alert(1)>'
MATHS = "## The model\n\n$m_t$ is the mask.\n\n$$L = \\frac{a}{b}$$\n\nIt costs $5 and $6, or `$x$`."
NOTICE = "A report contains texts of the data it was made from: share it only with people who may read them."
PNG = base64.b64encode(plots.to_png(plots.bars(pd.Series({"a": 3, "b": 5}), "b leads", "texts"))).decode()


def display(data: dict, **metadata):
    return new_output("display_data", data=data, metadata=metadata)


def code(source: str, *outputs, tags=(), **metadata):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags), **metadata})


def sample():
    scores = {"model": ["TF-IDF", "BiLSTM"], "accuracy": [0.56, 0.68], "rows": [400, 400]}
    table = {"text/html": pd.DataFrame(scores).to_html(), "text/plain": "table"}
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Slider()"}
    said = "train 1280 rows\n\x1b[32mvalidation\x1b[0m 320 rows\n"
    opening = (
        "# A headline classifier: LSTM\n\n**Which class is it?** See [BERT](04_bert_classifier.ipynb), "
        "[the data](../data/card.md) and [Keras](https://keras.io).\n\n摘要：从零训练一个新闻标题分类器。"
    )
    cells = [
        new_markdown_cell(opening),
        new_markdown_cell("## Setup\n\nEverything a reader may change stands in one cell."),
        code("import helpers"),
        code("DATA: str = 'news_en'  # data\nEPOCHS: int = 4\nSEED: int = 0", tags=["parameters"]),
        code("# Parameters\nEPOCHS = 6", tags=["injected-parameters"]),
        code("import numpy", tags=["setup"]),
        new_markdown_cell("## Look at the data\n\nThree rows as they are."),
        code("frame.head(3)", new_output("execute_result", data=table)),
        new_markdown_cell(MATHS),
        new_markdown_cell("### Split\n\nThe split keeps each class's share."),
        code("import re\nfrom a import (\n    b,\n)\n\nsplit()", new_output("stream", name="stdout", text=said),
             new_output("stream", name="stderr", text="10%|#\r100%|##########\n")),
        new_markdown_cell("## 100% 训练\n\n" + "The curve levels off.\n\n" * 40),
        code("# Draw it\nx()", display({"image/png": PNG}, **{"image/png": {"alt": "Accuracy over four epochs"}})),
        code("if odd:\n    go(2)\nelse:\n    stop()\nf(3)", display({"image/png": PNG}), alt="Bar chart: two classes"),
        code("secret = 1", new_output("stream", text="never shown"), tags=["remove-cell"]),
        code("hidden_source = 1", new_output("stream", text="but this is shown"), tags=["remove-input"]),
        code("assert x", new_output("stream", text="it held"), tags=["check"]),
        code("tell()", display({"text/markdown": "**bert**: use it. Or not."}), tags=["answer"]),
        code("@styled\ndef g(x):\n    pass", display(widget)),
        new_markdown_cell("## 小结\n\n> Small data needs a strong start."),
    ]  # fmt: skip
    return new_notebook(cells=cells)


TRICKS = (
    f'{EVIL}{BREAKOUT}<a href="javascript&#58;alert(1)">a</a><a href="data&#58;text/html,x">b</a><svg/onload=alert(1)>'
    '<iframe src="https://a.example"></iframe><style>@import "http://b.example"</style>'
    '<p style="x" onclick="alert(1)">p</p>'
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">'
    '<img src="http://c.example/x.png"><link rel=stylesheet href=http://d.example>'
    '<form action=//e><button>x</button></form><img src="data:image/svg+xml;base64,AAAA"><base href="http://f.example">'
)  # fmt: skip


def hostile():
    table = pd.DataFrame({EVIL: [BREAKOUT, EVIL]}).to_html()
    shown = [
        {"text/html": table, "text/plain": EVIL}, {"text/html": TRICKS, "text/plain": EVIL},
        {"text/vnd.mermaid": f"graph</pre>{EVIL}{BREAKOUT}"}, {"application/javascript": "alert(1)"},
        {"image/svg+xml": f"<svg onload=alert(1)>{EVIL}</svg>"}, {"text/latex": f"$\\text{{{EVIL}}}$"},
        {"text/markdown": f"{EVIL} [x](javascript:alert(1)) {BREAKOUT}"},
        {"application/vnd.jupyter.widget-view+json": {"model_id": EVIL}, "text/plain": BREAKOUT},
    ]  # fmt: skip
    texts = [
        f"# Title {EVIL}{BREAKOUT}", f'## Head {EVIL}{BREAKOUT}\n\n{TRICKS}\n\n<img alt="$x onerror=alert(1)$">',
        f"$\\text{{{EVIL}}}$ $\\href{{javascript:alert(1)}}{{x}}$ $$\\text{{{BREAKOUT}}}$$",
        f"```mermaid\n{EVIL}{BREAKOUT}\n```\n\n![{BREAKOUT}](javascript:alert(1)) ![p](attachment:none.png)",
    ]  # fmt: skip
    cells = [
        *map(new_markdown_cell, texts),
        code(f"A: str = {EVIL!r}  # {BREAKOUT}", tags=["parameters", BREAKOUT]),
        code(f"x = '{EVIL}'", new_output("stream", text=EVIL + BREAKOUT)),
        code("f", display({"image/png": f"AAAA{BREAKOUT}"}, **{"image/png": {"alt": BREAKOUT}}), alt=EVIL),
        code("g", display({"image/png": "AAAA"}, **{"image/png": {"alt": BREAKOUT, "width": BREAKOUT}})),
        code("e", new_output("error", ename=EVIL, evalue=BREAKOUT, traceback=[EVIL, BREAKOUT])),
        *(code(EVIL, display(data)) for data in shown),
    ]
    return new_notebook(metadata={"title": EVIL}, cells=cells)


def save_run(root: Path, nb=None, notebook="03_lstm_classifier", name="default", **more) -> Path:
    (folder := root / re.sub(r"\W", "_", notebook) / re.sub(r"\W", "_", name)).mkdir(parents=True)
    nbformat.write(sample() if nb is None else nb, folder / "notebook.ipynb")
    run = {"notebook": notebook, "name": name, "status": "completed", "seconds": 130.4, "versions": {}}
    run |= {"parameters": {"DATA": "news_en", "EPOCHS": 6, "SEED": 0}, "started": "2026-03-01T08:15:00+00:00"}
    run |= {"metrics": {"accuracy": 0.8425, "macro_f1": 0.839, "log_loss": 0.512, "train_seconds": 95.2}} | more
    (folder / "metrics.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


def save_predictions(run: Path, seed: str = "a", **right: str) -> Path:
    """A prediction a letter, y is right: the validation rows, a blank, the test rows."""
    rows = [(i, split, model, seed + EVIL, "a", "a" if y == "y" else "b", float(y == "y"), float(y != "y"))
            for model, letters in right.items()
            for split, part in zip(("validation", "test"), letters.split(), strict=True)
            for i, y in enumerate(part)]  # fmt: skip
    columns = ["row", "split", "model", "text", "label", "prediction", "p_a", "p_b"]
    pd.DataFrame(rows, columns=columns).to_csv(run / "predictions.csv", index=False)
    return run


def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def page_of(folder: Path, *cells) -> BeautifulSoup:
    return parsed(reports.render(save_run(folder, new_notebook(cells=list(cells)))))


def words(soup) -> str:
    return " ".join(soup.get_text(" ").split())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The sample's report, parsed."""
    return parsed(reports.render(save_run(tmp_path_factory.mktemp("runs"))))


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """Reports and index of runs in which every text is hostile."""
    root = tmp_path_factory.mktemp("evil")
    told = {"parameters": {"A": BREAKOUT, EVIL: [EVIL]}, "metrics": {EVIL: 1, BREAKOUT: 2}, "seconds": EVIL}
    told |= {"status": "failed", "error": EVIL + BREAKOUT, "failed_cell": EVIL, "started": BREAKOUT}
    run = save_run(root, hostile(), f"00_{EVIL}", f"../{BREAKOUT}", **told)
    whole = save_run(root, hostile(), f"04_{BREAKOUT}", parameters={"DATA": EVIL}, metrics={EVIL: 1}, started=EVIL)
    save_predictions(whole, **{EVIL: "yy yy", BREAKOUT: "yn yn"})
    reports.build([run, run, whole], root / "out")
    return sorted((root / "out").iterdir())


def harmless(soup: BeautifulSoup, *, drawn: bool = False) -> None:
    """No script but ours, nothing from outside; an svg only where ``drawn``, and of plain shapes."""
    policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert len(soup.find_all("script")) == 1 and "alert" not in soup.script.string
    assert len(soup.find_all("style")) == 1 and "url(" not in soup.style.string and "@import" not in soup.style.string
    foreign = ["iframe", "object", "embed", "foreignobject", "use", "link", "form", "base", "video", "audio"]
    assert not soup.find_all(foreign if drawn else [*foreign, "svg", "path", "rect"])
    assert {tag.name for svg in soup.find_all("svg") for tag in svg.find_all(True)} <= {"text", "tspan", "rect", "path"}
    for tag in soup.find_all(True):
        assert not [name for name in tag.attrs if name.startswith("on") or name in ("style", "srcset", "action")], tag
        assert re.match(r"data:image/(png|jpeg);base64,", tag.get("src", "data:image/png;base64,")), tag
        assert "href" not in tag.attrs or tag.name == "a"
        assert re.match(r"https?://|[^:]*$", tag.get("href", "")), tag


def test_hostile_text_is_escaped_everywhere(evil):
    assert len(evil) == 4
    for file in evil:
        text = file.read_text("utf-8")
        harmless(parsed(file), drawn=file.name == "index.html")
        assert EVIL not in text and "<img src=x" not in text.replace("&lt;img src=x", "")
        assert "&lt;script&gt;alert(1)" in text
        assert file.name == "index.html" or re.fullmatch(r"0[04]_[\w.-]+\.html", file.name)


def test_a_page_names_its_run_and_asks_nothing_of_others(page):
    harmless(page)
    assert {a["href"] for a in page.find_all("a") if a["href"].startswith("http")} == {"https://keras.io"}
    for text in ("03_lstm_classifier", "default", "2026-03-01 08:15 UTC", "2 min 10 s"):
        assert text in words(page.find("header"))
    assert [strong.get_text() for strong in page.select(".setup strong")] == ["1 not the default", "6"]
    assert [h1.get_text() for h1 in page.find_all("h1")] == ["A headline classifier: LSTM"] == [page.title.get_text()]
    assert NOTICE in page.get_text()


def test_contents_point_at_the_headings(page, tmp_path):
    links = page.select(".sidebar a")
    assert [a.get_text() for a in links] == ["Look at the data", "The model", "Split", "100% 训练", "小结"]
    assert all(page.find(id=unquote(a["href"][1:])).get_text() == a.get_text() for a in links)
    assert links[3]["href"] == "#100%25-%E8%AE%AD%E7%BB%83" and page.select_one("a.skip")["href"] == "#main"
    soup = page_of(tmp_path, new_markdown_cell("## Same\n\n## Same\n\n## main\n\n[jump](#Same)"))
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids)) and soup.find("a", string="jump")["href"] == "#Same"


def test_what_is_shown_folded_and_left_out(page):
    assert not page.select("details[open]")
    setup, text = page.select("details.setup")[-1].get_text(), words(page.main)
    for part in ("Everything a reader may", "import helpers", "import numpy"):
        assert part in setup
    for gone in ("never shown", "secret = 1", "EPOCHS = 6", "hidden_source", "it held", "tell()"):
        assert gone not in text
    assert "frame.head" not in setup and "but this is shown" in text
    assert "Interactive: open the notebook. Slider()" in text
    assert text.index("bert : use it") < text.index("Which class is it?")
    assert [i["alt"] for i in page.select("figure img")] == ["Accuracy over four epochs", "Bar chart: two classes"]
    assert [th.get_text() for th in page.select(".html .scroll thead th.num")] == ["accuracy", "rows"]
    assert "num" not in page.select_one("tbody td").get("class", [])
    assert [math["alttext"] for math in page.find_all("math")] == ["m_t", r"L = \frac{a}{b}"]
    assert "It costs $5 and $6, or $x$." in page.get_text()
    captions = [span.get_text() for span in page.select("main > .cell .peek")]
    assert captions == ["frame.head(3)", "split()", "Draw it", "if odd:", "def g(x):"]
    assert "validation 320 rows" in page.select_one("pre.stdout").get_text() and "\x1b" not in str(page)
    assert page.select_one("pre.stderr").get_text() == "100%|##########\n"


FORMULAS = {
    "$a$": 1, "$ a$": 0, "$a $": 0, "$a$5": 0, "US$5 and US$6": 0, "$a\n\nb$": 0, "    $a$": 0, "": 0, "``$a$`` $b$": 1,
    "$$a$$": 1, "| $a$ | b |\n|-|-|\n| $\\lvert c \\rvert$ | $3 |": 2, "**$a$** _$b$_": 2, "$a_$": 0,
    "$5, `a$`": 0, "~~~\n$a$\n~~~": 0, "$a \\$ b$": 1, "$a < b$ <b>$c$</b>": 2, "\\begin{align}a &= b\\end{align}": 1,
}  # fmt: skip


@pytest.mark.parametrize("source", FORMULAS)
def test_what_is_a_formula(source):
    assert safe_html.markdown(source).count("<math") == FORMULAS[source]


def test_odd_cells_are_no_trouble(tmp_path):
    soup = page_of(tmp_path, new_markdown_cell("Text\n\n```\n# no title\n```"), new_raw_cell("<b>raw</b>"))
    assert soup.h1.get_text() == "03_lstm_classifier" and "# no title" in words(soup) and "raw" not in words(soup)
    broken = code("a", display({"image/png": PNG}, **{"image/png": "no dict"}), alt=["a", "list"])
    assert "list" in page_of(tmp_path / "more", broken).img["alt"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert safe_html.clean("https://a.example/x.csv") == "https://a.example/x.csv"
    assert safe_html.markdown("<b>x" * (safe_html.LONGEST // 4 + 1)).startswith("<pre>&lt;b&gt;x")


def test_the_index_lists_runs_by_notebook(tmp_path):
    root, foreign = tmp_path / "runs", code("A: int = 1\nB = min(1, 2)", tags=["parameters"])
    other = new_notebook(cells=[new_markdown_cell("# Language models"), foreign])
    told = {"status": "failed", "error": "ValueError: no rows", "failed_cell": 10, "metrics": {}}
    failed = save_run(root, name="mine", **told)
    failed = failed.rename(failed.with_name("mine.failed"))
    run, lm = save_run(root), save_run(root, other, "02_lm", metrics={"test_perplexity": 131.25}, parameters={})
    numbers = {"rows": 1280, "share": 0.5, "more": 1, "x": 2}
    rows = save_run(root, other, "09_rows", metrics=numbers, parameters={}, seconds=None)
    save_run(root, name="interactive")
    save_run(root, name="hidden").rename(run.parent / ".hidden.1.partial")
    (run.parent / "sweep-grid").mkdir()
    assert reports.collect([run.parent]) == [run, failed]
    assert reports.collect([lm, root, run]) == [lm, run, failed, rows]
    assert command_line.main(["report", str(root), "--out", str(tmp_path / "out")]) == 0
    harmless(soup := parsed(tmp_path / "out" / "index.html"))
    names = ["02_lm", "03_lstm_classifier", "03_lstm_classifier-mine-failed", "09_rows"]
    assert [a["href"] for a in soup.select("td a")] == [f"{name}.html" for name in names]
    told = ("4 runs 1 failed", "131.2", "0.843", "0.839", "0.512", "2 min 10 s", "ValueError: no rows",
            "failed below the heading “Split”", NOTICE, "1,280 0.500 1.000")  # fmt: skip
    assert [part for part in told if part not in words(soup)] == []
    assert {strong.get_text() for strong in soup.select("td strong")} == {"EPOCHS = 6"}
    assert [td["data-value"] for td in soup.select("td.num")][-4:] == ["1280.0", "0.5", "1.0", ""]


def test_the_ladder_is_chosen_on_validation_rows_and_corrected(tmp_path):
    right = {"bert": "yyyyy yyyyyyyyyn", "tfidf": "ynnnn yynnnnnnny", "frozen": "yyyyn yyyyyyyyyy"}
    run = save_predictions(save_run(tmp_path), **right)
    other = save_predictions(save_run(tmp_path, notebook="04_bert"), "other", mixture="yyyyy yyyyyyyyyy")
    bad = save_run(tmp_path, new_notebook(), "05_eval", metrics={})
    (bad / "predictions.csv").write_bytes(b"\xff,\x00")
    soup = parsed(reports.build([run, other, bad], tmp_path / "out"))
    text = words(soup)
    assert "bert is the best on validation texts (100.0 %). It labels 90.0 % of 10 test texts rightly" in text
    assert "60.0 points more than tfidf" in text and "mixture" not in soup.svg["aria-label"]
    assert "7 went to bert alone and 1 to tfidf alone: p = .14 (exact" in text  # .0703, twice
    assert "for 3 pairs" in text and "do not settle" in text
    assert "frozen 1.000 (0.722 to 1.000; validation 0.800), bert 0.900" in soup.svg["aria-label"]
    assert len(soup.select("article")) == 3 and soup.select_one("article img")["src"].startswith("data:image/png")
    assert "bert: use it." in text and "Or not." not in text and "从零训练一个新闻标题分类器" in text
    assert [a["href"] for a in soup.select(".map a")][-1] == "05_eval.html"
    nav = parsed(tmp_path / "out" / "04_bert.html")
    assert nav.select_one("[rel=prev]")["href"] == "03_lstm_classifier.html"
    assert nav.select_one("[rel=next]")["href"] == "05_eval.html"


def test_an_update_renews_the_index_and_the_new_page_alone(tmp_path):
    runs, out = [save_run(tmp_path), save_run(tmp_path, notebook="04_bert")], tmp_path / "out"
    reports.build(runs[:1], out)
    before = (page := out / "03_lstm_classifier.html").stat().st_mtime_ns
    assert command_line.main(["report", *map(str, runs), "--out", str(out), "--update"]) == 0
    assert "04_bert.html" in (out / "index.html").read_text("utf-8") and (out / "04_bert.html").exists()
    assert page.stat().st_mtime_ns == before
    os.utime(runs[0] / "notebook.ipynb")
    reports.build(runs, out, update=True)
    assert page.stat().st_mtime_ns > before and "04_bert.html" in page.read_text("utf-8")


STUB = """#!/bin/bash
echo "$@" >> "$LOG"
case "$*" in *"$FAILS"*) exit "$STATUS" ;; esac
"""


@pytest.mark.parametrize(("fails", "status"), [("nothing", 1), ("run 00_", 1), ("run 04_", 2), ("run 00_", 130)])
def test_make_report_goes_on_after_a_failing_notebook(tmp_path, fails, status):
    runs, root = tmp_path / "my runs", Path(__file__).parent.parent
    folders = [runs / "00_foundations/default", runs / "03_lstm_classifier/default.failed", runs / "03_lstm/mine"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "notebook.ipynb").touch()
    (stub := tmp_path / "python").write_text(STUB)
    stub.chmod(0o755)
    (ready := tmp_path / "ready").touch()
    known = {"LOG": str(tmp_path / "log"), "FAILS": fails, "STATUS": str(status), "HELPERS_RUNS": str(runs)}
    words = ["make", "-s", "report", f"PY={stub}", f"READY={ready}"]
    done = subprocess.run(words, cwd=root, env=os.environ | known, capture_output=True, timeout=60, check=False)
    *ran, last = (tmp_path / "log").read_text().splitlines()
    if status == 130:  # stopped by the user
        assert done.returncode and ran == [] and "run 00_" in last
        return
    assert all(line.endswith("--update") for line in ran[1::2])  # the index is renewed after each
    assert last.startswith("-m helpers report") and "mine" not in last
    assert all(str(folder) in last for folder in folders[:2])
    late, numbers = ["03", "04", "06"], sorted(path.name[:2] for path in (root / "notebooks").glob("*.ipynb"))
    expected = [n for n in numbers if n not in [*late, "05"]] + late + ["05"] * (fails == "nothing")
    assert [line.split()[3][:2] for line in ran[::2]] == expected
    assert (done.returncode == 0) == (fails == "nothing")


BAD = (
    "javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "/etc/x.html", "//host/x.html", "\\\\host/x",
    "\t//host/x.html", "../a/report.html", "file:///x.html", "&#106;avascript:x", "http:x.html", "?q=x.html",
)  # fmt: skip


def test_only_links_to_the_web_and_within_a_page_stay():
    links = "".join(f'<a href="{address}">x</a>' for address in (*BAD, "#x", "https://a.example/x.html"))
    found = BeautifulSoup(safe_html.clean(links), "html.parser").select("a[href]")
    assert [link["href"] for link in found] == ["#x", "https://a.example/x.html"]


def test_links_between_reports(tmp_path):
    bert = new_notebook(cells=[new_markdown_cell("# BERT\n\n[back](03_lstm_classifier.ipynb#Train)")])
    reports.build([save_run(tmp_path), save_run(tmp_path, bert, "04_bert_classifier")], out := tmp_path / "out")
    first, second = ((out / f"{name}.html").read_text("utf-8") for name in ("03_lstm_classifier", "04_bert_classifier"))
    assert 'href="04_bert_classifier.html"' in first and "card.md" not in first
    assert 'href="03_lstm_classifier.html#Train"' in second


def test_runs_of_one_name_do_not_overwrite_each_other(tmp_path):
    reports.build([save_run(tmp_path / place, new_notebook(), "index") for place in "ab"], tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"index.html", "index-2.html", "index-3.html"}


def test_errors_are_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        reports.build([save_run(tmp_path)], tmp_path / "file" / "out")
    run = save_run(tmp_path / "runs")
    for content in (b"", b"\xff\xfe", b"{}", b"[]", b'{"cells": 3, "nbformat": 4, "nbformat_minor": 5}'):
        (run / "notebook.ipynb").write_bytes(content)
        with pytest.raises(InputError, match="is not a readable notebook") as error:
            reports.render(run)
        assert "\n" not in str(error.value) and not (run / "report.html").exists()


def assert_quiet(driver, path: Path) -> None:
    """Opens a page: it asks for nothing, and runs nothing but our script."""
    from selenium.webdriver.support.expected_conditions import alert_is_present

    driver.get("about:blank")
    _ = driver.get_log("browser"), asked(driver)
    driver.get(path.as_uri())
    loaded = "return document.readyState === 'complete' && [...document.images].every(i => i.complete)"
    wait_for(lambda: driver.execute_script(loaded), 20)
    time.sleep(0.3)  # for what a script would still ask for
    requests = [url for url in asked(driver) if not url.startswith("data:")]
    told = [e["message"] for e in driver.get_log("browser") if "ERR_INVALID_URL" not in e["message"]]  # a bad picture
    assert (set(requests), told) == ({path.as_uri()}, [])
    assert not alert_is_present()(driver)


@pytest.mark.kernel
def test_report_in_a_browser(browser, tmp_path):
    assert_quiet(browser, reports.render(save_run(tmp_path)))
    assert browser.execute_script("return [...document.images].map(i => i.naturalWidth)") == [1440, 1440]
    fold = browser.find_element("css selector", "main > .cell details.code:not([open])")
    fold.find_element("tag name", "summary").click()
    assert fold.get_attribute("open")
    browser.find_element("id", "show-code").click()
    assert browser.execute_script("return [...document.querySelectorAll('details.code')].every(d => d.open)")
    assert browser.execute_script("return document.querySelector('math mfrac').getBoundingClientRect().height") > 20
    browser.find_element("css selector", ".sidebar li:nth-child(4) a").click()
    current = "return document.querySelector('[aria-current]')?.textContent"
    wait_for(lambda: browser.execute_script(current) == "100% 训练")
    assert narrow_width(browser) <= 360 and browser.find_element("css selector", "details.toc").is_displayed()
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.kernel
def test_index_in_a_browser(browser, tmp_path):
    values = {"a": 0.9, "b": 0.1, "c": 0.5}
    runs = [save_run(tmp_path, new_notebook(), name=n, metrics={"accuracy": v}) for n, v in values.items()]
    assert_quiet(browser, reports.build(runs, tmp_path / "out"))
    browser.execute_script("document.querySelector('.all-runs').open = true")
    names = "return [...document.querySelectorAll('tbody tr')].map(r => r.cells[0].innerText.trim()).join('')"
    head = browser.find_elements("css selector", "th button")[1]
    for expected in ("abc", "bca", "acb"):
        assert browser.execute_script(names) == expected
        head.click()
    browser.find_element("css selector", "tbody a").click()
    assert browser.current_url.endswith("03_lstm_classifier-b.html")


@pytest.mark.kernel
def test_hostile_reports_in_a_browser(browser, evil):
    for file in evil:
        assert_quiet(browser, file)
