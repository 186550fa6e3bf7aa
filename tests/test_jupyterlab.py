"""JupyterLab in a real browser: a notebook opened, all its cells run, and its widget answers."""

import os
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT, free_port, wait_for
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

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


def run_all(driver, lab, name: str, parameters: dict) -> nbformat.NotebookNode:
    """Opens a notebook with these parameters, runs all its cells in the browser, and returns what was saved."""
    from selenium.webdriver.support.ui import WebDriverWait

    folder, address = lab
    book = parameterize_notebook(load_notebook_node(str(ROOT / "notebooks" / f"{name}.ipynb")), parameters)
    for cell in book.cells:
        cell |= {"outputs": [], "execution_count": None} if cell.cell_type == "code" else {}
    nbformat.write(book, folder / f"{name}.ipynb")
    driver.get(f"{address}/tree/{name}.ipynb")
    WebDriverWait(driver, 60).until(lambda _: driver.execute_script(READY, f"{name}.ipynb"))
    driver.execute_script(RUN_ALL, f"{name}.ipynb")
    assert WebDriverWait(driver, 900).until(lambda _: driver.execute_script("return told")) == "saved"
    return nbformat.read(folder / f"{name}.ipynb", 4)


def assert_ran(book) -> None:
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    errors = [o for cell in code for o in cell.outputs if o.output_type == "error"]
    assert not errors, errors[0]["evalue"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum("image/png" in o.get("data", {}) for cell in code for o in cell.outputs) >= 3


@pytest.mark.slow
@pytest.mark.kernel
def test_03_runs_from_top_to_bottom(browser, lab, tiny_csv):
    small = {"DATA": str(tiny_csv), "EPOCHS": 1, "LENGTH": 8}
    assert_ran(run_all(browser, lab, "03_lstm_classifier", small))


@pytest.mark.slow
@pytest.mark.kernel
def test_01_answers_a_question_typed_into_its_box(browser, lab, tiny_csv, tmp_path):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    (tmp_path / "corpus.txt").write_text("the ball and the goal\nthe price of a bank\nrain and wind\n\n" * 200)
    small = {"CORPUS": str(tmp_path / "corpus.txt"), "TEXTS": str(tiny_csv), "EPOCHS": 1, "DIMENSIONS": 8}
    assert_ran(run_all(browser, lab, "01_embeddings_and_similarity", small))
    answer = browser.find_element("css selector", ".widget-interact")
    box, before = answer.find_element("css selector", "input"), answer.text
    box.clear()
    box.send_keys("wind and rain", Keys.ENTER)
    WebDriverWait(browser, 60).until(lambda _: answer.text != before and "rain" in answer.text)
