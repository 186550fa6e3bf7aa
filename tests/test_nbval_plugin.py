"""The nbval plugin: strict where nbval passes in silence, patient with numbers where a tag says so."""

import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent


def validate(folder: Path, *cells: tuple) -> tuple[int, str]:
    """Runs strict nbval on cells (source, stored text, tags); returns exit status and what was printed."""
    book = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for count, (source, text, *tags) in enumerate(cells, 1):
        outputs = [new_output("stream", name="stdout", text=text)] if text else []
        ran = None if "stripped" in tags else count
        book.cells.append(new_code_cell(source, outputs=outputs, execution_count=ran, metadata={"tags": tags}))
    nbformat.write(book, folder / "book.ipynb")
    words = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "--nbval", "--nbval-current-env", "-W", "ignore"]
    words += ["--nbval-cell-timeout", "60", "-p", "tests.nbval_plugin", str(folder / "book.ipynb")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.slow
def test_outputs_that_are_as_stored_pass(tmp_path):
    cells = [
        ("[1, 2, 3];", None),
        ("print(0.1230004, 'rows', 5, 1e-17)", "0.1229999 rows 5 0\n", "nbval-tolerance-1e-3"),
        ("print(1e9 + 1, float('nan'))", "1000000000.0 nan\n", "nbval-tolerance-1e-6"),
        ("import sys; print('path', file=sys.stderr)", None),
        ("import os; print(os.environ['TQDM_DISABLE'], 'nbval' in os.environ['HELPERS_RUNS'])", "1 True\n"),
    ]
    status, printed = validate(tmp_path, *cells)
    assert status == 0, printed
    assert "5 passed" in printed


@pytest.mark.slow
def test_other_outputs_fail(tmp_path):
    cells = [
        ("print(0.2)", "0.1\n", "nbval-tolerance-1e-3"),
        ("print(0.0004)", "0.0009\n", "nbval-tolerance-1e-3"),
        ("print(0.1, 'columns')", "0.1 rows\n", "nbval-tolerance-1e-3"),
        ("print(0.1)", "0.1 0.2\n", "nbval-tolerance-1e-3"),
        ("print(0.10001)", "0.1\n"),
    ]
    status, printed = validate(tmp_path, *cells)
    assert status == 1, printed
    assert "5 failed" in printed


@pytest.mark.slow
def test_a_dead_kernel_is_noticed_at_once(tmp_path):
    clock = time.monotonic()
    status, printed = validate(tmp_path, ("import os; os.kill(os.getpid(), 9)", None), ("print(1)", "1\n"))
    assert status == 1
    assert "the kernel died" in printed
    assert time.monotonic() - clock < 30


@pytest.mark.slow
def test_a_stripped_notebook_is_refused(tmp_path):
    status, printed = validate(tmp_path, ("1", None), ("print(1 / 0)", None, "stripped"))
    assert status != 0
    assert "code cell 1 has no stored outputs" in printed
