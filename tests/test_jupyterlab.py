"""JupyterLab in a real browser: a notebook opened, all its cells run, and its widget answers."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import free_port, wait_for
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from test_reports import browser  # noqa: F401

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PAGE = """const [name] = arguments, tabs = window.jupyterapp ? [...jupyterapp.shell.widgets('main')] : [];
const page = tabs.find(tab => tab.context?.path === name);"""
READY = PAGE + "return page?.context.isReady && page.sessionContext.session?.kernel?.status === 'idle'"
RUN_ALL = (
    PAGE
    + """window.told = '';
jupyterapp.shell.activateById(page.id);
jupyterapp.commands.execute('notebook:run-all-cells').then(() => page.context.save())
  .then(() => told = 'saved', error => told = String(error))"""
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab of its own, which shows all cells of a notebook at once: its folder and address."""
    folder, config = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("config")
    settings = config / "lab" / "user-settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    port = free_port()
    words = f"--no-browser --allow-root --ServerApp.port={port} --IdentityProvider.token= --LabApp.news_url=None"
    words += f" --LabApp.expose_app_in_browser=True --ServerApp.root_dir={folder}"
    known = {"JUPYTER_CONFIG_DIR": str(config), "HELPERS_RUNS": str(folder / "runs"), "TQDM_DISABLE": "1"}
    log = folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *words.split()], env=os.environ | known, stdout=file, stderr=file
        )
    wait_for(lambda: " is running at:" in log.read_text("utf-8"))
    yield folder, f"http://127.0.0.1:{port}/lab"
    process.terminate()
    process.wait(20)


@pytest.mark.slow
@pytest.mark.kernel
def test_01_runs_and_answers_a_question_typed_into_its_box(browser, lab, tiny_csv):  # noqa: F811
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    (folder, address), name = lab, "01_embeddings_and_similarity.ipynb"
    (folder / "corpus.txt").write_text("the ball and the goal\nthe price of a bank\nrain and wind\n\n" * 200)
    small = {"CORPUS": str(folder / "corpus.txt"), "TEXTS": str(tiny_csv), "EPOCHS": 1, "DIMENSIONS": 8}
    book = parameterize_notebook(load_notebook_node(str(NOTEBOOKS / name)), small)
    for cell in book.cells:
        cell |= {"outputs": [], "execution_count": None} if cell.cell_type == "code" else {}
    nbformat.write(book, folder / name)
    browser.get(f"{address}/tree/{name}")
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(READY, name))
    browser.execute_script(RUN_ALL, name)
    assert WebDriverWait(browser, 900).until(lambda _: browser.execute_script("return told")) == "saved"
    code = [cell for cell in nbformat.read(folder / name, 4).cells if cell.cell_type == "code"]
    errors = [o for cell in code for o in cell.outputs if o.output_type == "error"]
    assert not errors, errors[0]["evalue"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    answer = browser.find_element("css selector", ".widget-interact")
    box, before = answer.find_element("css selector", "input"), answer.text
    box.clear()
    box.send_keys("wind and rain", Keys.ENTER)
    WebDriverWait(browser, 60).until(lambda _: answer.text != before and "rain" in answer.text)
