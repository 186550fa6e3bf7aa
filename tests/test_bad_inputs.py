"""Bad input, a row each: one sentence that names it, exit status 2, nothing written, nothing lost."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading

import nbformat
import numpy as np
import pytest
from conftest import PARAMETERS, left, make_run
from nbformat.v4 import new_code_cell, new_notebook

# What is typed (``P`` is ``run toy.ipynb -p``, ``D`` is ``run data.ipynb -p DATA``), and a part of what is said.
COMMANDS = r"""
'' | required: COMMAND
rum | invalid choice
fetch nosuch | nosuch
run 99_nothing | There is no notebook 99_nothing
run 03_lstm_clasifier | did you mean 03_lstm_classifier?
run nowhere.ipynb | There is no notebook nowhere
run empty.ipynb | empty.ipynb is not a notebook that can be read
run number.ipynb | not a notebook that can be read
run deep.ipynb | not a notebook that can be read
run untagged.ipynb | has 0 cells tagged parameters
run twice.ipynb | has 2 cells tagged parameters
P EPOCH 5 | toy has no parameter EPOCH: did you mean EPOCHS?
P epochs 5 | did you mean EPOCHS?
P ZZZZZZ 5 | it has EPOCHS, RATE
P EPOCHS abc | EPOCHS=abc is not of the type int (passes over the texts, 1 to 500)
P EPOCHS -1 | EPOCHS=-1 is out of range: passes over the texts, 1 to 500
P RATE nan | RATE=nan is not of the type float
P RATE 0 | RATE=0.0 is out of range: step size, above 0
P UNIT sentence | UNIT=sentence is not one of 'word', 'character'
P SHUFFLE yes | SHUFFLE=yes is not of the type bool
P SIZES "[1, 'a']" | is not of the type list[int]
P SIZES [0] | SIZES=[0] is out of range
P SIZES [1 | SIZES=['[1'] is not of the type list[int]
P LIMIT 4294967296 | out of range: whole numbers end at 4294967295
P 'x=1;import os#' 1 | toy has no parameter x=1
P EPOCHS 1 -p EPOCHS 2 | EPOCHS is given twice: keep one value
P EPOCHS | expected 2 arguments
run toy.ipynb --epochs 3 | unrecognized arguments: --epochs 3
run toy.ipynb --name ../x | '../x' cannot name a run
run toy.ipynb --name interactive | cannot name a run
run toy.ipynb --name sweep-a | cannot name a run
run toy.ipynb -f nowhere.yaml | The parameter file nowhere.yaml cannot be read
run toy.ipynb -f word.yaml | not a mapping of names to values
run toy.ipynb -f binary.ipynb | binary.ipynb is not well-formed YAML or JSON
run toy.ipynb -f broken.yaml | broken.yaml is not well-formed YAML or JSON
run toy.ipynb -f object.yaml | EPOCHS=x is not of the type int
run toy.ipynb -f double.yaml | double.yaml gives EPOCHS twice: keep one value
run toy.ipynb -f double.json | double.json gives EPOCHS twice: keep one value
run toy.ipynb -f bomb.yaml | is not of the type str
run toy.ipynb -f nested.yaml | is not of the type int
run data.ipynb -p PRESET nosuch | PRESET=nosuch is none of
run data.ipynb -p TEST unseen.csv | unseen.csv has labels that tiny.csv lacks, zebra
run data.ipynb -p TEST oneclass.csv | oneclass.csv has one class only, 'a': a test needs two or more
run data.ipynb -p LABEL_COLUMN class | tiny.csv has no column 'class'; its columns are text, label
run data.ipynb -p LABEL_COLUMN text | Text and label are both the column 'text'
D nowhere.csv | nowhere.csv does not exist
D '' | DATA is empty
D . | . is a folder
D ~nosuchuser/x.csv | cannot be used
D empty.csv | empty.csv is an empty file
D big.csv | big.csv is larger than 1 GB
D tiny.docx | tiny.docx is none of .csv, .tsv, .jsonl, .parquet
D pipe.csv | pipe.csv is a folder, a pipe or a device
D HTTP://127.0.0.1:9/a.csv | could not be read
D http://me:secret@127.0.0.1:9/a.csv | http://127.0.0.1:9/a.csv could not be read
D http://127.0.0.1:9/a.csv?key=secret | http://127.0.0.1:9/a.csv could not be read
D http://localhost:port/a.csv | could not be read
D 'http://exa mple.com/a.csv' | could not be read
D http://127.0.0.1:9/a.html | could not be read
D ftp://127.0.0.1/a.csv | does not exist
compare tiny.csv --seeds 0 | SEEDS=0 is out of range
compare tiny.csv --seeds 99999999999999999999 | out of range
compare columns.csv | It cannot be said which of the columns a, b, c holds the text
run many.ipynb -p RUNS nowhere | nowhere is not a run folder
run many.ipynb -p RUNS . | not a finished run
report nowhere | nowhere is not a run folder
report . | holds no finished or failed run
sweep toy.ipynb | required: grid
sweep toy.ipynb none.yaml | has no points
sweep toy.ipynb points.json | has no points
sweep toy.ipynb unknown.yaml | did you mean EPOCHS?
sweep toy.ipynb values.yaml | EPOCHS=many is not of the type int
sweep toy.ipynb 'a b.yaml' | cannot name a sweep
sweep toy.ipynb grid.yaml --jobs 0 | --jobs 0 is out of range
sweep toy.ipynb grid.yaml --backend spark | --backend
sweep toy.ipynb grid.yaml --backend dask | --backend dask and --scheduler ADDRESS go together
sweep toy.ipynb grid.yaml --backend dask --scheduler tcp://localhost:1 --jobs 2 | --jobs is for this machine
sweep toy.ipynb grid.yaml -p EPOCHS 1 | EPOCHS is in the grid
predict nowhere tiny.csv --out o.csv | nowhere is not a run folder
predict . tiny.csv --out o.csv | holds no classifier
predict run tiny.csv --out o.csv --text-column words | no column 'words'
predict run tiny.csv --out o.csv --model bert | The run has no model 'bert'
predict run tiny.csv --out o.csv --model ../run | The run has no model '../run'
predict run tiny.csv --out pipe.csv | pipe.csv is no regular file
predict run tiny.csv --out none/o.csv | 'none/o.csv' cannot be written
predict run tiny.csv --out o.xlsx | would hold CSV: name it .csv
"""
LONG_ONES = [
    (["run", "toy.ipynb", "-p", "EPOCHS", "9" * 5000], "EPOCHS=999"),
    (["run", "toy.ipynb", "-p", "SIZES", "[" * 500], "SIZES="),
    (["run", "toy.ipynb", "-p", "NOTE", "a\0b"], "NOTE='a\\x00b'"),
    (["run", "toy.ipynb", "-p", "NOTE", "\ud800"], "NOTE='\\ud800'"),
    (["run", "toy.ipynb", "--name", "a\nb"], "cannot name a run"),
    (["run", "toy.ipynb", "--name", "x" * 300], "cannot name a run"),
    (["run", "x" * 300 + ".ipynb"], "There is no notebook"),
    (["report", "x" * 300], "is not a run folder"),
    (["run", "data.ipynb", "-p", "DATA", "x" * 5000 + ".csv"], "cannot be used"),
    (["run", "data.ipynb", "-p", "DATA", "\x1b[31mred.csv"], "does not exist"),
    (["predict", "run", "tiny.csv", "--out", "x" * 300], "cannot be written (File name too long)"),
]
ROWS = [tuple(line.split(" | ", 1)) for line in COMMANDS.strip().splitlines()]
SHORT = {"P": ["run", "toy.ipynb", "-p"], "D": ["run", "data.ipynb", "-p", "DATA"], "": []}
TYPED = [([*SHORT.get(w[0], w[:1]), *w[1:]], said) for w, said in ((shlex.split(row), s) for row, s in ROWS)]

GOOD = "text,label\none,a\ntwo,b\nthree,a\nfour,b\nfive,a\nsix,b\n"
LONG = "A sentence of a dozen words, which nobody would take for a header,"
PAIR = '{"text": "one", "label": 1}\n'
CONTENTS = [  # of my.csv unless another suffix is named, and a part of what is said
    ("text,label\n", "has a header and no rows"),
    ("\ufeff  \n\n", "nothing but white space"),
    ("words,label\na,b\n", "no column 'text'; its columns are words, label: set TEXT_COLUMN"),
    ("text,label\none,a\ntwo,a\n", "one class only, 'a'"),
    ("text,label\none,a\ntwo,b\nthree,a\n", "single row of the class 'b'"),
    ("text,label\none,1.5\ntwo,1.7\nthree,2.9\n", "3 classes in 3 rows, most of a single row: is 'label' the right"),
    ("text,label\none,a\ntwo,b\nthree,a\nfour,b\n", "too few texts to choose a model by"),
    ("text,label\none,a\n   ,b\n,a\n", "an empty text in row 2 (and 1 more)"),
    ("text,label\none,a\ntwo,\nthree,a\n", "no label in row 2"),
    ("text,label\none,a\ntwo,nan\nthree,a\n", "no label in row 2"),
    ("text,label,text\none,a,x\ntwo,b,y\n", "two columns named 'text'"),
    (bytes(range(256)) * 50, "bytes that are no text"),
    ("text,label\none,a\ntwo,b,c,d\n", "not a well-formed csv file"),
    ('text,label\n"one,a\ntwo,b\n', "not a well-formed csv file"),
    ('text,label\n"one,a\ntwo,b\nsay "x",b\nthree,a\n', "quote in row 1 that is not closed"),
    ('text;label\nzero;b\n"one;a\ntwo;b\n5";b\nthree;a\n', "quote in row 2 that is not closed"),
    ('id,text,label\n1,"He said,a\n2,two,b\n3,"four",a\n4,more,b\n', "quote in row 1 that is not closed"),
    (f'"{LONG}",a\n' + "one,b\ntwo,a\nthree,b\n", "no header row"),
    ("one,a\ntwo,b\nthree,a\nfour,b\n", "no header row"),
    (GOOD + GOOD, "its header again in row 7"),
    ("text,label\ngood,a\n好消息,b\n坏".encode() + b"\xff,a\n", "line 4 holds a byte that is no text"),
    ("text,label\ncafé,a\n".encode() + b"caf\xe9,a\n", "line 3 holds a byte that is no text"),
    ("text,label\nОчень хороший товар,да\n".encode("koi8_r"), "encoding that cannot be told for sure"),
    ("text,label\none,a\n".encode("utf-16-le"), "bytes that are no text"),
    ("<!DOCTYPE html><html><body>Log in</body></html>", "a web page (HTML)"),
    ("\ufeff\n<HTML lang=en>", "a web page (HTML)"),
    ("text,label\n:),a\n!!!,b\n\u200b,a\n...,b\n", "no text with a letter or a digit"),
    ("text\tlabel\none\ttwo\tthree\n", "not a well-formed tsv file", "tsv"),
    ("not parquet", "not a parquet file", "parquet"),
    ('{"text": ["a"], "label": 1}\n' + PAIR, "a list, an object or bytes as 'text' in row 1", "jsonl"),
    *((f"{PAIR}\n{line}\n{PAIR}", "Line 3 of my.jsonl is no JSON object", "jsonl") for line in
      ("3", "[1]", '"x"', "{", "null", "{'text': 1}", '{"text": "\\ud800"}', "[" * 100_000)),
    ('{"text": null, "label": 1}\n' + PAIR, "an empty text in row 1", "jsonl"),
    ('{"text": "a"}\n{"text": "b"}', "no column 'label'", "jsonl"),
]  # fmt: skip
CELLS = [  # of parameters, and a part of what is said
    ("A: int = ", "not valid Python"),
    ("A = 1", "Line 1 of the parameters cell of cell.ipynb is not of the form NAME: type = literal"),
    ("A: int", "not of the form"),
    ("A: int = 2\nB: int = A * 10", "Line 2 of the parameters cell of cell.ipynb is not of the form"),
    ("A: Path = 1", "of the type int, float, bool, str, list or Literal"),
    ("A: str = {[1]: 2}", "not of the form"),
    ("A: int = 'x'", "the default A=x is not of the type int"),
    ("A: int = 0  # 1 to 9", "the default A=0 is out of range"),
    ('A: Literal["a"] = "b"', "the default A=b is not one of 'a'"),
    ('DATA: str = ""', "the default DATA is empty"),
    ("A: float = 1e999", "the default A=inf is not of the type float"),
]
RUN_FILES = [  # what is changed in a run that 05 is given, and a part of what is said
    ("predictions.csv", None, "no readable predictions.csv"),
    ("metrics.json", "[" * 100_000, "not a finished run"),
    ("predictions.csv", "", "no readable predictions.csv"),
    ("predictions.csv", "<html>", "no column row"),
    ("predictions.csv", "row,split,model,text,label,prediction,p_x,p_y\n", "no rows"),
    ("predictions.csv", ("0.7", "0.6"), "do not sum to 1"),
    ("predictions.csv", ("0.7", "inf"), "no numbers"),
    ("predictions.csv", ("1,test", ",test"), "values that are no numbers"),
    ("predictions.csv", ("test", "future"), "splits other than"),
    ("predictions.csv", (",y,x", ",z,x"), "labels without a column"),
    ("predictions.csv", ("p_y", "p_x"), "labels without a column"),
    ("predictions.csv", ("2,test", "1,test"), "same rows and texts for each model"),
    ("metrics.json", None, "not a finished run"),
    ("metrics.json", "[1]", "not a finished run"),
    ("metrics.json", "{}", "not a finished run"),
    ("metrics.json", ('"metrics": {}', '"metrics": {"accuracy": "high"}'), "not a finished run"),
    ("metrics.json", ('"metrics": {}', '"metrics": [1]'), "not a finished run"),
    ("history.csv", "model,epoch\nm,soon\n", "no readable history.csv"),
    ("history.csv", "epoch\n1\n", "no column model"),
    ("history.csv", b"\xff\xfe\x00", "no readable history.csv"),
    ("costs.csv", "model,size_mb\nm,big\n", "no readable costs.csv"),
    ("costs.csv", "size_mb\n1\n", "no column model"),
]
MODEL_FILES = [  # what is changed in a foreign run that predict is given, and a part of what is said
    ("classifier.json", None, "holds no classifier"),
    ("classifier.json", "[]", "damaged"),
    ("classifier.json", ('["a", "b"]', '["a"]'), "two or more texts"),
    ("classifier.json", ('["a", "b"]', '["a", "b", "c"]'), "another number of outputs"),
    ("classifier.json", ('["a", "b"]', "[1, 2]"), "two or more texts"),
    ("classifier.json", ('"tfidf"', '"gone"'), "The run has no model 'gone'"),
    ("classifier.json", ('"tfidf"', '"../../run/model/tfidf"'), "The run has no model"),
    ("tfidf.json", "[]", "damaged"),
    ("tfidf.json", ('"words"', '"frozen"'), "damaged"),
    ("tfidf.npz", b"PK\x03\x04 cut", "damaged"),
    ("tfidf.npz", "a pickle", "damaged"),
]
PROCESSES = [  # a shell's line, with $H for ``python -m helpers``; its status; a part of what is said
    ("$H params toy.ipynb > /dev/full", 2, "No space left on device"),
    ("$H params toy.ipynb >&-", 0, ""),
    ("$H run toy.ipynb -f - <&-", 2, "not well-formed YAML or JSON"),
    ("mkdir gone; cd gone; rmdir ../gone; $H params 03", 2, "The current folder is gone"),
    ("PYTHONIOENCODING=ascii $H run data.ipynb -p DATA 新闻.csv", 2, "does not exist"),
    ("HELPERS_RUNS=$PWD/tiny.csv $H run toy.ipynb", 2, "cannot be written (Not a directory)"),
    ("HELPERS_RUNS=/proc/nope $H compare tiny.csv", 2, "cannot be written"),
]


def write_book(path, *cells, tagged=1):
    """Writes a notebook of code cells, of which the first are tagged ``parameters``."""
    made = [new_code_cell(c, metadata={"tags": ["parameters"] * (i < tagged)}) for i, c in enumerate(cells)]
    nbformat.write(new_notebook(cells=made), path)


@pytest.fixture(scope="module")
def bad_place(tmp_path_factory):
    """A folder of files that are not what they should be, and of a run that is."""
    from helpers import contenders

    folder = tmp_path_factory.mktemp("bad")
    data = ['DATA: str = "tiny.csv"', 'TEST: str = ""', 'TEXT_COLUMN: str = "text"', 'LABEL_COLUMN: str = "label"']
    data += ['PRESET: str = "minilm"', "SEED: int = 1  # 0 to 4294967295"]
    write_book(folder / "toy.ipynb", PARAMETERS, "1")
    write_book(folder / "untagged.ipynb", PARAMETERS, tagged=0)
    write_book(folder / "twice.ipynb", PARAMETERS, PARAMETERS, tagged=2)
    write_book(folder / "data.ipynb", "\n".join(data))
    write_book(folder / "many.ipynb", "RUNS: list[str] = []")
    rows = "".join(f"some text {i} of {label},{label}\n" for i in range(8) for label in "ab")
    steps = zip("abcdefg", "bcdefgh", strict=True)
    levels = "".join(f"- &{name} [{', '.join([f'*{low}'] * 9)}]\n" for low, name in steps)
    texts = {
        "empty.ipynb": "", "number.ipynb": '{"cells": [3]}', "deep.ipynb": "[" * 100_000, "word.yaml": "word",
        "broken.yaml": "a: [\n", "object.yaml": "EPOCHS: !!python/object:os.system x", "grid.yaml": "EPOCHS: [1, 2]\n",
        "double.yaml": "EPOCHS: 3\nEPOCHS: 5\n", "double.json": '{"EPOCHS": 3, "EPOCHS": 5}',
        "nested.yaml": "EPOCHS: {a: 1}", "bomb.yaml": f"NOTE:\n- &a [x, x, x]\n{levels}",
        "unknown.yaml": "EPOCH: [1]\n", "values.yaml": "EPOCHS: [1, many]\n", "none.yaml": "EPOCHS: []\n",
        "points.json": "[[1], {}]", "a b.yaml": "EPOCHS: [1]\n", "tiny.docx": "x", "empty.csv": "",
        "unseen.csv": "text,label\nfive,zebra\nsix,a\n", "oneclass.csv": "text,label\nfive,a\nsix,a\n",
        "columns.csv": "a,b,c\n" + "one,x,u\ntwo,y,v\n" * 4, "tiny.csv": f"text,label\n{rows}",
    }  # fmt: skip
    for name, content in texts.items():
        (folder / name).write_text(content, "utf-8")
    (folder / "binary.ipynb").write_bytes(bytes(range(256)))
    with (folder / "big.csv").open("wb") as file:
        file.truncate(2_000_000_000)
    os.mkfifo(folder / "pipe.csv")
    words, y = ["good one", "good two", "bad one", "bad two"] * 3, np.array([0, 0, 1, 1] * 3)
    contenders.save(folder / "run" / "model", "tfidf", contenders.fit_words(words, y, words, y, "word"))
    (folder / "run/model/classifier.json").write_text(json.dumps({"labels": ["a", "b"], "recommended": "tfidf"}))
    make_run(folder / "run")
    return folder


@pytest.fixture
def refused(bad_place, monkeypatch, capsys, runs_folder):
    """Types a command in a folder, and holds what it says against a part of the sentence."""
    from helpers.__main__ import main
    from helpers.commands import run

    monkeypatch.setattr(run, "_papermill", lambda *_: pytest.fail("a kernel was started"))

    def check(words, sentence, folder=bad_place):
        monkeypatch.chdir(folder)
        files, threads = left(folder), threading.active_count()
        capsys.readouterr()
        assert main(words) == 2
        out, said = capsys.readouterr()
        assert said.startswith("error: ") and said.count("\n") == 1 and said[:-1].isprintable() and len(said) < 600
        assert sentence in said and "secret" not in said
        assert out == "" or words[0] == "compare"
        assert left(folder) == files and not runs_folder.exists() and threading.active_count() == threads

    return check


@pytest.mark.parametrize(("words", "sentence"), TYPED + LONG_ONES, ids=lambda w: str(w)[:40])
def test_what_is_typed(words, sentence, refused):
    refused(words, sentence)


@pytest.mark.parametrize("row", CONTENTS, ids=lambda row: row[1][:40])
def test_what_a_file_of_data_holds(row, refused, bad_place, tmp_path):
    content, sentence, suffix = (*row, "csv")[:3]
    path = tmp_path / f"my.{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    refused(["run", str(bad_place / "data.ipynb"), "-p", "DATA", path.name], sentence, tmp_path)


@pytest.mark.parametrize(("cell", "sentence"), CELLS)
def test_what_a_cell_of_parameters_holds(cell, sentence, refused, tmp_path):
    write_book(tmp_path / "cell.ipynb", cell)
    refused(["params", "cell.ipynb"], sentence, tmp_path)


@pytest.mark.parametrize(("name", "change", "sentence"), RUN_FILES + MODEL_FILES)
def test_what_a_foreign_run_holds(name, change, sentence, refused, bad_place, tmp_path):
    is_model = (name, change, sentence) in MODEL_FILES
    place = shutil.copytree(bad_place / "run", tmp_path / "foreign")
    path = place / "model" / name if is_model else place / name
    if isinstance(change, tuple):
        before = path.read_text("utf-8")
        assert change[0] in before
        path.write_text(before.replace(*change), "utf-8")
    elif change is None:
        path.unlink()
    else:
        path.write_bytes(change if isinstance(change, bytes) else change.encode())
    words = ["run", str(bad_place / "many.ipynb"), "-p", "RUNS", "foreign"]
    if is_model:
        words = ["predict", "foreign", str(bad_place / "tiny.csv"), "--out", "o.csv"]
    refused(words, sentence, tmp_path)


@pytest.mark.parametrize(("line", "status", "said"), PROCESSES)
def test_what_a_process_is_given(line, status, said, bad_place, runs_folder):
    line = line.replace("$H", f"{shlex.quote(sys.executable)} -m helpers")
    done = subprocess.run(["bash", "-c", line], cwd=bad_place, capture_output=True, text=True, timeout=60)
    assert done.returncode == status and "Traceback" not in done.stderr + done.stdout
    assert said in done.stderr and done.stderr.count("\n") <= 1
