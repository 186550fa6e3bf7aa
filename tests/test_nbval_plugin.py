"""The nbval plugin: strict where nbval passes in silence, patient with numbers where a tag says so."""

import re
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output

CELLS = [  # a source, what is stored, maybe a tag: the first four are as they should be, the others are not
    ("print(0.1230004, 'rows', 5, 1e-17)", "0.1229999 rows 5 0\n", "nbval-tolerance-1e-3"),
    ("print(1e9 + 1, float('nan'))", "1000000000.0 nan\n", "nbval-tolerance-1e-6"),
    ("import sys; print('path', file=sys.stderr)", None),
    ("import os; print(os.environ['TQDM_DISABLE'], 'nbval' in os.environ['HELPERS_RUNS'])", "1 True\n"),
    ("print(0.2)", "0.1\n", "nbval-tolerance-1e-3"),
    ("print(0.0004)", "0.0009\n", "nbval-tolerance-1e-3"),
    ("print(0.1, 'columns')", "0.1 rows\n", "nbval-tolerance-1e-3"),
    ("print(0.1)", "0.1 0.2\n", "nbval-tolerance-1e-3"),
    ("print(0.10001)", "0.1\n"),
    ("import os; os.kill(os.getpid(), 9)", None),
    ("print(1)", "1\n"),
]


@pytest.mark.kernel
def test_what_nbval_says_of_cells(tmp_path):
    book = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for count, (source, text, *tags) in enumerate(CELLS, 1):
        outputs = [new_output("stream", name="stdout", text=text)] if text else []
        book.cells.append(new_code_cell(source, outputs=outputs, execution_count=count, metadata={"tags": tags}))
    nbformat.write(book, tmp_path / "book.ipynb")
    words = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "--nbval", "--nbval-current-env", "-W", "ignore"]
    words += ["--nbval-cell-timeout", "600", "-p", "tests.nbval_plugin", str(tmp_path / "book.ipynb")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert re.findall(r"^FAILED .*::Cell (\d+)", done.stdout, re.M) == [str(i) for i in range(4, 11)]
    assert "the kernel died" in done.stdout
