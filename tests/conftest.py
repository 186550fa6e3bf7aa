"""What the tests share: a temporary place for runs, tiny data, and notebooks that need no TensorFlow."""

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers import evaluation, pretrained, training

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, and so inherited, in a background job
settings.register_profile("any_machine", deadline=None, derandomize=True)
settings.load_profile("any_machine")

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = """from typing import Literal

EPOCHS: int = 3  # passes over the texts, 1 to 500
RATE: float = 0.1  # step size, above 0
UNIT: Literal["word", "character"] = "word"  # what a token is
SHUFFLE: bool = True  # mix the rows
NOTE: str = ""  # any text
SIZES: list[int] = [1, 2]  # layer sizes, at least 1
LIMIT: int = 0  # rows to read
"""
RECORD = 'run.record(accuracy=EPOCHS / 10)\nrun.finish()\nprint("finished with", EPOCHS)'


@pytest.fixture(autouse=True)
def runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``$HELPERS_RUNS`` of every test: a temporary folder."""
    folder = tmp_path / "runs"
    for name in [n for n in os.environ if n.startswith("HELPERS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HELPERS_RUNS", str(folder))
    return folder


@pytest.fixture
def tiny_csv(tmp_path: Path) -> Path:
    """A CSV of 36 short texts in three classes."""
    classes = {"sport": "ball goal team match win", "trade": "bank price market share loan"}
    frame = topics(12, **classes, weather="rain wind cloud sun storm")
    frame.set_axis(["label", "text"], axis="columns").to_csv(tmp_path / "tiny.csv", index=False)
    return tmp_path / "tiny.csv"


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., Path]:
    """Writes a notebook: ``notebook(*sources, parameters=..., name=...)``; sources that start with # are headings."""

    def write(*sources: str, parameters: str | None = PARAMETERS, name: str = "toy") -> Path:
        opening = f"from helpers import runs\nrun = runs.start({name!r}, globals())"
        cells = [new_markdown_cell("# A toy"), new_code_cell("import time")]
        if parameters is not None:
            cells.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}))
            cells.append(new_code_cell(opening))
        for source in sources or (RECORD,):
            cells.append((new_markdown_cell if source.startswith("# ") else new_code_cell)(source))
        book = new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(book, path)
        return path

    return write


def start(*words: object, runs: object = None, how: Callable = subprocess.Popen, **more: Any) -> Any:
    """Begins ``python -m helpers`` in a process of its own; names in upper case, as ``EPOCHS=5``, are parameters."""
    given = [word for name, value in more.items() if name.isupper() for word in ("-p", name, value)]
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {k: v for k, v in more.items() if not k.isupper()}
    known = os.environ | ({"HELPERS_RUNS": str(runs)} if runs else {})
    return how([sys.executable, "-m", "helpers", *map(str, [*words, *given])], env=known, text=True, **more)


def command(*words: object, status: int = 0, **more: Any) -> subprocess.CompletedProcess:
    """Runs ``python -m helpers``, as :func:`start`, to its end, which must be of that status."""
    done = start(*words, how=subprocess.run, timeout=900, **more)
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def topics(rows: int, **words: str) -> pd.DataFrame:
    """So many texts of each class, in three to six of its words: columns ``kind`` and ``body``."""
    drawn = [(kind, " ".join(said.split()[(i + j) % 5] for j in range(3 + i % 4)))
             for kind, said in words.items() for i in range(rows)]  # fmt: skip
    return pd.DataFrame(drawn, columns=["kind", "body"])


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Three classes of a few texts, one of them hostile: parameters that name them."""
    path = tmp_path_factory.mktemp("data") / "my.csv"
    classes = {"体育": "goal team match coach win", "money": "bank rate loan share price"}
    frame = topics(20, **classes, **{"<b>&x": "rain wind sun cloud storm"})
    frame.loc[frame["kind"] == "体育", "body"] += " <script>alert(1)</script>"
    frame.to_csv(path, index=False)
    return {"DATA": path, "TEXT_COLUMN": "body", "LABEL_COLUMN": "kind"}


def run_notebook(number: str, runs: Path, name: str = "small", **given: Any) -> Path:
    """Executes a notebook with these parameters, and returns the run's folder."""
    command("run", number, "--name", name, runs=runs, **given)
    (folder,) = runs.glob(f"{number}_*/{name}")
    return folder


def make_run(
    folder: Path, labels: Sequence[str] = ("x", "y"), truth: Sequence[int] = (0, 1, 0), p: Any = (0.7, 0.3),
    model: str = "m", text: str = "t", first: int = 1, **told: Any,
) -> str:  # fmt: skip
    """Writes a finished run: predictions of one model, the same for both splits, a history and a record."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"row": np.arange(len(truth)) + first, "text": text, "label": np.array(labels)[list(truth)]}
    p = np.broadcast_to(p, (len(truth), len(labels)))
    parts = [evaluation.predictions(pd.DataFrame(rows), s, model, p, labels) for s in ("validation", "test")]
    pd.concat(parts).to_csv(folder / "predictions.csv", index=False)
    pd.DataFrame({"model": [model], "epoch": [1]}).to_csv(folder / "history.csv", index=False)
    told = {"notebook": "03_lstm_classifier", "name": folder.name, "parameters": {}, "metrics": {}} | told
    (folder / "metrics.json").write_text(json.dumps(told), "utf-8")
    return str(folder)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


def tiny_lstm(words: int, classes: int, *form: Any) -> Any:
    """A network as 03 and 06 make it: 4 wide vectors, the layers between, a softmax."""
    training.import_tensorflow()
    import keras

    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=1.0)
    vectors = keras.layers.Embedding(words, 4, mask_zero=True, embeddings_initializer=wide)
    last = keras.layers.Dense(classes, activation="softmax")
    return keras.Sequential([keras.Input((None,), dtype="int32"), vectors, *form, last])


def tiny_bert(pieces: int, mean: bool) -> Any:
    """A classifier as 04 or 06 make it: three classes, two layers, 8 wide, with large weights so that mistakes show."""
    training.import_tensorflow()
    from keras_hub.models import BertBackbone, BertTextClassifier

    kind, rng = pretrained.mean_classifier() if mean else BertTextClassifier, np.random.default_rng(0)
    model = kind(BertBackbone(pieces, 2, 2, 8, 16, max_sequence_length=32), 3, preprocessor=None, activation="softmax")
    for variable in model.backbone.weights:
        if "norm" not in variable.path:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    pretrained.use_exact_gelu(model.backbone)
    model.output_dense.set_weights([rng.normal(0, 2, (8, 3)), np.zeros(3)])
    return model


def functions_of(notebook: str, imports: bool = False, **names: Any) -> SimpleNamespace:
    """What the notebook of a number defines; its functions find each other, ``names``, and what is set here later."""
    (path,) = (ROOT / "notebooks").glob(f"{notebook}_*.ipynb")
    code = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    kinds = (ast.FunctionDef, ast.ClassDef, *((ast.Import, ast.ImportFrom) if imports else ()))
    body = [node for node in ast.parse("\n".join(code)).body if isinstance(node, kinds)]
    found = SimpleNamespace(**names)
    exec(compile(ast.Module(body, []), path.name, "exec"), vars(found))
    return found


def record(folder: Path) -> dict:
    """A run's ``metrics.json``, read as strict JSON."""
    return json.loads((folder / "metrics.json").read_text("utf-8"), parse_constant=pytest.fail)


def states(folder: Path) -> list[str]:
    """What papermill's record says of each cell of a run's notebook."""
    return [c.metadata.papermill["status"] for c in nbformat.read(folder / "notebook.ipynb", 4).cells]


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


def left(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def wait_for(found: Callable[[], object], seconds: float = 180) -> Any:
    """What a function gives, as soon as that is something; a slow machine may take three minutes."""
    end = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)
    return value


CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,900"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Chromium, driven; where it is not installed, the test is skipped."""
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip("needs /usr/bin/chromium and /usr/bin/chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER))) as driver:
        yield driver


def asked(driver: Any) -> list[str]:
    """The addresses that a page asked for since the last look (the browser's own start page is none of ours)."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [r["request"]["url"] for r in requests if not r["documentURL"].startswith(("about:", "chrome"))]


def narrow_width(driver: Any) -> int:
    """How wide the page is in a window as narrow as a telephone's, which stays so."""
    narrow = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    return driver.execute_script("return document.documentElement.scrollWidth")
