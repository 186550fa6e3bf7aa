"""``serve`` under load: requests of one text each from several clients on this machine, checked against ``predict``.

    python benchmarks/serve_speed.py RUN [--requests 1000] [--clients 16] [--int8]

RUN is a finished run of 03, 04, 06 or 08. Shown are the median and the 95th percentile of the answers' times, texts a
second, and the same with one client that waits for each answer. A missing answer ends it; answers other than those of
``predict`` are counted.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from helpers import data, predict


def ask(address, text):
    """Probabilities of one text by label, and milliseconds."""
    start = time.perf_counter()
    body = json.dumps({"texts": [text]}).encode()
    request = urllib.request.Request(f"{address}predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)["answers"][0]
    return found, 1000 * (time.perf_counter() - start)


def measure(address, texts, clients, expected):
    """Sends all texts and prints how long it took."""
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(lambda text: ask(address, text), texts))
    seconds = time.perf_counter() - start
    wrong = sum(answer["label"] != label for (answer, _), label in zip(found, expected, strict=True))
    times = np.array([ms for _, ms in found])
    said = f"median {np.median(times):.0f} ms, 95th percentile {np.percentile(times, 95):.0f} ms"
    print(f"| {clients} | {len(texts)} | {said} | {len(texts) / seconds:.0f} | {wrong} |")


def main():
    """Starts the server, measures, ends it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--int8", action="store_true")
    options = parser.parse_args()
    shipped, _ = data.read_labelled("news_en")
    texts = (list(shipped["text"]) * (1 + options.requests // len(shipped)))[: options.requests]
    classify, labels = predict.load_classifier(options.run, export=True, int8=options.int8)
    expected = [labels[i] for i in classify(texts).argmax(axis=1)]
    command = [sys.executable, "-m", "helpers", "serve", options.run, "--port", "8765"]
    with subprocess.Popen(command + ["--int8"] * options.int8, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = re.search(r"http://\S+/", server.stdout.readline())[0]
            print(f"{options.run}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
            print("| clients | requests | time of an answer | texts/s | other answers than predict |")
            print("| ---: | ---: | --- | ---: | ---: |")
            few = min(200, len(texts))
            measure(address, texts[:few], 1, expected[:few])
            measure(address, texts, options.clients, expected)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
