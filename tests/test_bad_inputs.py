"""Bad input: each gets one sentence and exit status 2, and nothing is written."""

from __future__ import annotations

import threading

import nbformat
import pytest
from conftest import left


def run(*words: str) -> list[str]:
    return ["run", "toy.ipynb", *words]


def p(name: str, value: str) -> list[str]:
    return run("-p", name, value)


BAD = [
    [],
    ["rum"],
    ["run"],
    ["params"],
    ["report"],
    ["predict", "x"],
    ["run", "99_nothing"],
    ["run", "03_lstm_clasifier"],
    ["run", "nowhere.ipynb"],
    ["run", "."],
    ["run", "empty.ipynb"],
    ["run", "binary.ipynb"],
    ["run", "list.ipynb"],
    ["run", "untagged.ipynb"],
    ["run", "twice.ipynb"],
    ["run", "derived.ipynb"],
    ["run", "syntax.ipynb"],
    ["run", "overwrites.ipynb", "-p", "EPOCHS", "4"],
    ["params", "99_nothing"],
    ["params", "untagged.ipynb"],
    p("EPOCH", "5"),
    p("epochs", "5"),
    p("EPOCHS", "abc"),
    p("EPOCHS", "-1"),
    p("EPOCHS", "0"),
    p("EPOCHS", "501"),
    p("EPOCHS", "1.5"),
    p("EPOCHS", "1e3"),
    p("EPOCHS", ""),
    p("EPOCHS", "None"),
    p("EPOCHS", "True"),
    p("EPOCHS", "9" * 5000),
    p("RATE", "nan"),
    p("RATE", "inf"),
    p("RATE", "0"),
    p("RATE", "0,1"),
    p("UNIT", "sentence"),
    p("UNIT", "Word"),
    p("SHUFFLE", "yes"),
    p("SHUFFLE", "1"),
    p("SIZES", "[1, 'a']"),
    p("SIZES", "[0]"),
    p("SIZES", "[1"),
    p("SIZES", "[" * 500),
    run("-p", "SIZES", "[1", "-p", "SIZES", "2"),
    run("-f", "double.yaml"),
    ["run", "unhashable.ipynb"],
    ["run", "x" * 300 + ".ipynb"],
    ["params", "x" * 300 + ".ipynb"],
    ["report", "x" * 300],
    p("NOTE", "x" * 100_001),
    p("a-b", "1"),
    p("class", "1"),
    p("x=1;import os#", "1"),
    p("", "1"),
    run("-p", "EPOCHS"),
    run("-p", "EPOCHS", "1", "-p", "EPOCHS", "2"),
    run("--epochs", "3"),
    run("--name", "a/b"),
    run("--name", "../x"),
    run("--name", ""),
    run("--name", "a.b"),
    run("--name", "interactive"),
    run("--name", "x" * 300),
    run("--name", "a\nb"),
    run("-f", "nowhere.yaml"),
    run("-f", "."),
    run("-f", "list.yaml"),
    run("-f", "broken.yaml"),
    run("-f", "binary.ipynb"),
    run("--cell-timeout", "-1"),
    run("--cell-timeout", "soon"),
    run("--time-limit", "0"),
    run("--time-limit", "nan"),
    ["run", "data.ipynb", "-p", "DATA", "nowhere.csv"],
    ["run", "data.ipynb", "-p", "DATA", "empty.ipynb"],
    ["run", "data.ipynb", "-p", "TEST", "nowhere.csv"],
    ["run", "data.ipynb", "-p", "LABEL_COLUMN", "class"],
    ["run", "many.ipynb", "-p", "RUNS", "nowhere"],
    ["report", "nowhere"],
    ["report", "."],
    ["sweep", "toy.ipynb"],
    ["sweep", "toy.ipynb", "nowhere.yaml"],
    ["sweep", "toy.ipynb", "broken.yaml"],
    ["sweep", "toy.ipynb", "grid.yaml", "--jobs", "0"],
    ["sweep", "toy.ipynb", "grid.yaml", "--backend", "spark"],
    ["sweep", "toy.ipynb", "grid.yaml", "--backend", "dask"],
    ["sweep", "toy.ipynb", "grid.yaml", "--scheduler", "tcp://127.0.0.1:1"],
    ["sweep", "toy.ipynb", "unknown.yaml"],
    ["sweep", "toy.ipynb", "values.yaml"],
    ["sweep", "toy.ipynb", "none.yaml"],
    ["sweep", "toy.ipynb", "a b.yaml"],
    ["sweep", "toy.ipynb", "double.yaml"],
    ["sweep", "toy.ipynb", "grid.yaml", "-p", "EPOCHS", "1"],
]


@pytest.fixture(scope="module")
def bad_place(tmp_path_factory):
    """A folder of files that are not what they should be."""
    from conftest import PARAMETERS

    folder = tmp_path_factory.mktemp("bad")

    def book(name, *cells, tags=("parameters",)):
        made = [nbformat.v4.new_code_cell(c, metadata={"tags": list(t)}) for c, t in zip(cells, tags, strict=False)]
        made += [nbformat.v4.new_code_cell(c) for c in cells[len(tags) :]]
        nbformat.write(nbformat.v4.new_notebook(cells=made), folder / f"{name}.ipynb")

    tag = ("parameters",)
    book("toy", PARAMETERS, "1", tags=[tag])
    book("untagged", PARAMETERS, tags=[])
    book("twice", PARAMETERS, PARAMETERS, tags=[tag, tag])
    book("derived", "A: int = 1\nB: int = A", tags=[tag])
    book("unhashable", "A: str = {[1]: 2}", tags=[tag])
    book("syntax", "A: int =", tags=[tag])
    book("overwrites", PARAMETERS, "EPOCHS = 9", tags=[tag])
    columns = 'TEXT_COLUMN: str = "text"\nLABEL_COLUMN: str = "label"'
    book("data", f'DATA: str = "tiny.csv"\nTEST: str = ""\n{columns}', tags=[tag])
    book("many", "RUNS: list[str] = []", tags=[tag])
    rows = "".join(f"some text {i},{label}\n" for i in range(4) for label in "ab")
    texts = {
        "empty.ipynb": "", "list.ipynb": "[]", "tiny.csv": f"text,label\n{rows}", "list.yaml": "- 1\n- 2\n",
        "broken.yaml": "a: [\n", "grid.yaml": "EPOCHS: [1, 2]\n", "unknown.yaml": "EPOCH: [1]\n",
        "values.yaml": "EPOCHS: [1, many]\n", "none.yaml": "EPOCHS: []\n", "a b.yaml": "EPOCHS: [1]\n",
        "double.yaml": "EPOCHS: 3\nEPOCHS: 5\n",
    }  # fmt: skip
    for name, content in texts.items():
        (folder / name).write_text(content, "utf-8")
    (folder / "binary.ipynb").write_bytes(bytes(range(256)))
    return folder


@pytest.mark.parametrize("words", BAD, ids=lambda words: " ".join(words)[:40] or "nothing")
def test_bad_input_gets_one_sentence(words, bad_place, monkeypatch, capsys, runs_folder):
    from helpers.__main__ import main

    monkeypatch.chdir(bad_place)
    files = left(bad_place)
    threads = threading.active_count()
    assert main(words) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert len(said) < 600
    assert left(bad_place) == files
    assert not runs_folder.exists()
    assert threading.active_count() == threads


def test_there_are_sixty_bad_inputs():
    assert len(BAD) >= 60
