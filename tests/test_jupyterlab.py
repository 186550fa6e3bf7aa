"""JupyterLab in a real browser: a notebook opened, all its cells run, and its widget answers."""

import os
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT, free_port, wait_for
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

NAME = "01_embeddings_and_similarity.ipynb"
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


@pytest.fixture
def lab(tmp_path_factory):
    """A JupyterLab of its own, which shows all cells of a notebook at once: its folder and address."""
    folder, config = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("config")
    settings = config / "lab" / "user-settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    port = free_port()
    words = f"--no-browser --allow-root --ServerApp.port={port} --IdentityProvider.token= --LabApp.news_url=None"
    words += f" --LabApp.expose_app_in_browser=True --ServerApp.root_dir={folder}"
    known = dict.fromkeys(("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"), str(config)) | {"TQDM_DISABLE": "1"}
    known |= {"HELPERS_RUNS": str(folder / "runs")}
    log = folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *words.split()], env=os.environ | known, stdout=file, stderr=file
        )
    wait_for(lambda: " is running at:" in log.read_text("utf-8"))
    yield folder, f"http://127.0.0.1:{port}/lab"
    process.terminate()
    process.wait(120)


@pytest.mark.slow
@pytest.mark.kernel
def test_01_runs_from_top_to_bottom_and_answers_a_question_typed_into_its_box(browser, lab, tiny_csv, tmp_path):
    from selenium.webdriver.common.keys import Keys

    (tmp_path / "corpus.txt").write_text("the ball and the goal\nthe price of a bank\nrain and wind\n\n" * 200)
    small = {"CORPUS": str(tmp_path / "corpus.txt"), "TEXTS": str(tiny_csv), "EPOCHS": 1, "DIMENSIONS": 8}
    folder, address = lab
    book = parameterize_notebook(load_notebook_node(str(ROOT / "notebooks" / NAME)), small)
    for cell in book.cells:
        cell |= {"outputs": [], "execution_count": None} if cell.cell_type == "code" else {}
    nbformat.write(book, folder / NAME)
    browser.get(f"{address}/tree/{NAME}")
    wait_for(lambda: browser.execute_script(READY, NAME))
    browser.execute_script(RUN_ALL, NAME)
    assert wait_for(lambda: browser.execute_script("return told"), 900) == "saved"
    code = [cell for cell in nbformat.read(folder / NAME, 4).cells if cell.cell_type == "code"]
    errors = [o for cell in code for o in cell.outputs if o.output_type == "error"]
    assert not errors, errors[0]["evalue"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum("image/png" in o.get("data", {}) for cell in code for o in cell.outputs) >= 3
    answer = browser.find_element("css selector", ".widget-interact")
    box, before = answer.find_element("css selector", "input"), answer.text
    box.send_keys(Keys.CONTROL + "a")
    box.send_keys("wind and rain", Keys.ENTER)
    wait_for(lambda: answer.text != before and "rain" in answer.text)
