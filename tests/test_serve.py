"""The page and the endpoint of ``serve``: answers, refusals, batches, corrections, the end, and a real browser."""

import json
import re
import signal
import socket
import time
import urllib.request
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import numpy as np
import pytest
from conftest import asked, command, free_port, make_run, narrow_width, start, tiny_lstm, wait_for

from helpers import data, training
from helpers.commands import serve

LABELS = ["<b>sport</b>", "trade", "天气"]
EVIL = "goal <script>document.title='taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 03 whose network is sure of ``goal`` and unsure of anything else."""
    import keras

    words = ["", "[UNK]", "goal", "bank", "rain"]
    keras.utils.set_random_seed(0)  # before the layers draw theirs
    model = tiny_lstm(5, 3, keras.layers.LSTM(4, return_sequences=True), keras.layers.GlobalAveragePooling1D())
    texts = np.array([[2], [3], [4], [1]] * 16, dtype="int32")
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    y = np.tile([0, 1, 2, 0, 0, 1, 2, 1, 0, 1, 2, 2], 6)[:64]
    model.fit(texts, y, epochs=60, verbose=0)
    folder = tmp_path_factory.mktemp("served")
    training.save_classifier(folder / "model", model, words, LABELS, unit="word", length=50)
    sure = np.arange(40) < 20  # of the others it is less sure, and they are wrong
    p = np.full((40, 3), 0.05)
    p[np.arange(40), np.arange(40) % 2] = np.where(sure, 0.9, 0.6)
    make_run(folder, LABELS, np.where(sure, p.argmax(1), 2), p, "lstm")
    (folder / "model_card.md").write_text("# Card\nNot meant for </script><b>bold</b>\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def client(run):
    from fastapi.testclient import TestClient

    with TestClient(serve.app(serve.Service(str(run)), local=True), base_url="http://127.0.0.1:8000") as made:
        yield made


def test_served_equals_offline(client, run):
    service = serve.Service(str(run))
    texts = ["goal", "bank bank", "", EVIL, "rain 🙂"] * 5
    answers = client.post("/predict", json={"texts": texts}).json()["answers"]
    found = np.array([[answer["probabilities"][name] for name in LABELS] for answer in answers])
    assert np.abs(found - service.classify(texts)).max() < 1e-6
    assert [a["label"] for a in answers] == [LABELS[i] for i in found.argmax(1)]
    one = client.post("/predict", json={"texts": "goal"}).json()["answers"]
    assert len(one) == 1 and one[0]["label"] == LABELS[0]


def test_what_it_is_unsure_of_is_for_a_human(client):
    about = client.get("/health").json()
    assert about["status"] == "ok" and about["labels"] == LABELS and about["model"] == "lstm"
    assert 0.6 < about["threshold"] <= 0.9
    sure, unsure = client.post("/predict", json={"texts": ["goal goal", "of no known word"]}).json()["answers"]
    assert max(sure["probabilities"].values()) > 0.9 and not sure["unsure"]
    assert max(unsure["probabilities"].values()) < 0.6 and unsure["unsure"]


REFUSED = {
    "no JSON": (b"goal", 422), "no object": (b"[1, 2]", 422), "another name": (b'{"text": "goal"}', 422),
    "a number": (b'{"texts": 7}', 422), "a number among texts": (b'{"texts": ["goal", 7]}', 422),
    "no text": (b'{"texts": []}', 422), "too many": (json.dumps({"texts": ["goal"] * 10_000}).encode(), 422),
    "a long one": (json.dumps({"texts": "goal " * 4_000}).encode(), 422),
    "half a letter": (b'{"texts": "\\ud83d"}', 422), "more": (b'{"texts": "goal", "model": "../x"}', 422),
    "10 MB": (b'{"texts": "' + b"x" * 10_000_000 + b'"}', 413), "not UTF-8": (b'{"texts": "\xff"}', 400),
    "in pieces": ([b'{"texts": ', b'"goal"}'], 411),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_requests_are_one_sentence(client, case):
    body, status = REFUSED[case]
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, "10000 characters" in answer.text) == (status, case == "a long one"), answer.text
    assert answer.json().keys() == {"error"} and len(answer.text) < 200 and "\n" not in answer.json()["error"]


def test_other_pages_cannot_use_it(client, run):
    before = (run / "corrections.csv").exists()
    form = {"Content-Type": "text/plain"}  # what a foreign page may send without asking
    assert client.post("/correct", content=b'{"text": "x", "label": "trade"}', headers=form).status_code == 415
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 421
    assert (run / "corrections.csv").exists() == before
    rules = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in rules and "unsafe" not in rules


def test_corrections_are_data(client, run):
    (run / "corrections.csv").unlink(missing_ok=True)
    given = [(EVIL, LABELS[0]), ('a, "quoted"\r\nline', "trade"), ("雨", "天气"), ("=1+1\x1b", "trade")]
    for text, label in given:
        assert client.post("/correct", json={"text": text, "label": label}).status_code == 201
    assert client.post("/correct", json={"text": "x", "label": "none of them"}).status_code == 422
    assert client.post("/correct", json={"text": " \x01", "label": "trade"}).status_code == 422
    table, _ = data.read_table(str(run / "corrections.csv"))
    assert table.to_numpy().tolist() == [[text.replace("\r", "").replace("\x1b", " "), label] for text, label in given]


def test_requests_that_come_together_are_one_batch(run):
    import asyncio

    service, sizes = serve.Service(str(run)), []
    known = service.classify

    def classify(texts):
        sizes.append(len(texts))
        time.sleep(0.02)
        if "fail" in texts:
            raise ValueError("a text that breaks it")
        return known(texts)

    async def ask(texts):
        async with service.opened():
            found = await asyncio.gather(*(service.predict([text]) for text in texts), return_exceptions=True)
            await service.predict(["it goes on"])
            return found

    service.classify = classify
    texts = [f"{word} {i}" for i, word in enumerate(["goal", "bank", "rain"] * 20)]
    found = asyncio.run(ask(texts))
    assert len(sizes) <= 4 and sum(sizes) == 61
    assert np.abs(np.concatenate(found) - known(texts)).max() < 1e-6
    assert "breaks it" in str(asyncio.run(ask(["fail"]))[0])
    service.classify = lambda texts: time.sleep(0.3) or known(texts)
    told = asyncio.run(ask(["goal"] * (serve.WAITING + 50)))
    assert sum(isinstance(p, asyncio.QueueFull) for p in told) in range(40, 51)


@pytest.fixture
def server(run, tmp_path):
    """A server in a process of its own; gives its address and the process."""
    errors = (tmp_path / "errors.txt").open("w+")
    process = start("serve", run, "--port", free_port(), stderr=errors)
    line = process.stdout.readline()
    errors.seek(0)
    assert "http://127.0.0.1:" in line, errors.read()
    yield re.search(r"http://\S+/", line)[0], process
    process.kill()
    process.wait()


def ask(address, texts):
    body = json.dumps({"texts": texts}).encode()
    request = urllib.request.Request(address + "predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["answers"]


@pytest.mark.kernel
def test_it_answers_many_and_ends_in_order(server, run):
    address, process = server
    with ThreadPoolExecutor(16) as clients:
        found = list(clients.map(lambda i: ask(address, ["goal", "bank", "rain"][i % 3]), range(150)))
        assert [answers[0]["label"] for answers in found] == LABELS * 50  # nobody gets another's answer
        late = [clients.submit(ask, address, ["goal"] * 256) for _ in range(12)]
        wait(late, return_when=FIRST_COMPLETED)
        process.send_signal(signal.SIGTERM)
        done = [future for future in late if not future.exception()]
    assert process.wait(20) == 0
    assert done and all(len(future.result()) == 256 for future in done)
    told = process.stdout.read()
    assert "Stopped." in told and "goal" not in told
    taken = socket.create_server(("127.0.0.1", 0))
    again = command("serve", run, "--port", taken.getsockname()[1], status=2)
    assert "give another --port" in again.stderr and "Traceback" not in again.stderr


@pytest.mark.kernel
def test_the_page_in_a_browser(browser, server, run):
    from selenium.webdriver.support.ui import Select

    (run / "corrections.csv").unlink(missing_ok=True)
    address, _ = server
    browser.get("about:blank")
    _ = browser.get_log("browser"), asked(browser)
    browser.get(address)
    title, box = browser.title, browser.find_element("id", "text")
    box.send_keys(EVIL)
    wait_for(lambda: browser.find_elements("css selector", "#read u"))
    rows = browser.find_elements("css selector", "#bars .row")
    assert len(rows) == 3 and {row.text.split("\n")[0] for row in rows} == set(LABELS)
    assert browser.find_element("id", "read").text.strip() == EVIL
    assert "</script><b>bold</b>" in browser.find_element("id", "card").text
    box.clear()
    box.send_keys("goal goal day")
    wait_for(lambda: browser.find_element("id", "read").text == "goal goal day")
    wait_for(lambda: browser.find_element("id", "verdict").text == LABELS[0])
    first = browser.find_element("css selector", "#bars .row").text
    assert first.startswith(LABELS[0]) and int(re.search(r"(\d+) %", first)[1]) > 60
    wait_for(lambda: browser.find_elements("xpath", "//p[@id='read']/u[.='goal']"))
    box.clear()
    box.send_keys("of no known word")
    wait_for(lambda: "ask a human" in browser.find_element("id", "verdict").text)
    Select(browser.find_element("id", "label")).select_by_visible_text("天气")
    browser.find_element("id", "send").click()
    wait_for(lambda: "Kept in" in browser.find_element("id", "said").text)
    assert (run / "corrections.csv").read_text("utf-8") == "text,label\nof no known word,天气\n"
    assert narrow_width(browser) <= 360
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browser.title == title and not browser.find_elements("css selector", "img, section script")
    told = [entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]]
    assert told == []
    assert all(url.startswith((address, "data:")) for url in asked(browser))
    assert (run / "model" / "onnx" / "model.onnx").exists()
