"""The nbval plugin: strict where nbval passes in silence, patient with numbers where a tag says so."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
AS_STORED = [
    ("print(0.1230004, 'rows', 5, 1e-17)", "0.1229999 rows 5 0\n", "nbval-tolerance-1e-3"),
    ("print(1e9 + 1, float('nan'))", "1000000000.0 nan\n", "nbval-tolerance-1e-6"),
    ("import sys; print('path', file=sys.stderr)", None),
    ("import os; print(os.environ['TQDM_DISABLE'], 'nbval' in os.environ['HELPERS_RUNS'])", "1 True\n"),
]
OTHER = [
    ("print(0.2)", "0.1\n", "nbval-tolerance-1e-3"),
    ("print(0.0004)", "0.0009\n", "nbval-tolerance-1e-3"),
    ("print(0.1, 'columns')", "0.1 rows\n", "nbval-tolerance-1e-3"),
    ("print(0.1)", "0.1 0.2\n", "nbval-tolerance-1e-3"),
    ("print(0.10001)", "0.1\n"),
]
CASES = {
    "5 failed, 4 passed": AS_STORED + OTHER,
    "the kernel died": [("import os; os.kill(os.getpid(), 9)", None), ("print(1)", "1\n")],
}


@pytest.mark.kernel
@pytest.mark.parametrize("told", CASES)
def test_what_nbval_says_of_cells(told, tmp_path):
    book = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for count, (source, text, *tags) in enumerate(CASES[told], 1):
        outputs = [new_output("stream", name="stdout", text=text)] if text else []
        book.cells.append(new_code_cell(source, outputs=outputs, execution_count=count, metadata={"tags": tags}))
    nbformat.write(book, tmp_path / "book.ipynb")
    words = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "--nbval", "--nbval-current-env", "-W", "ignore"]
    words += ["--nbval-cell-timeout", "600", "-p", "tests.nbval_plugin", str(tmp_path / "book.ipynb")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode
    assert told in done.stdout
