"""Our training and encoding beside transformers, sentence-transformers and torch: one table of ratios from one run.

Those are no dependencies of this project: name a Python that has them, such as that of a separate environment.

    python benchmarks/peers.py --peers /path/to/python [--data trec.csv] [--turns 3] [--only lstm]

Both sides get the same batches and the same weights, two threads, and take turns, each in a process of its own that
first does some work unmeasured. Shown are medians with least and most. That the work is the same is proved: the loss of
the first batch before training, or the cosine of the vectors, must agree.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

WARM, BATCH, UNITS, RATE = 16, 16, 64, 1e-4
TASKS = {  # what is measured: our side, their side
    "fine-tuning, float32": ("finetune", "float32", "finetune", "float32"),
    "fine-tuning, bfloat16": ("finetune", "mixed_bfloat16", "finetune", "bfloat16"),
    "encoding, float32": ("encode", "float32", "encode", ""),
    "encoding, int8 (ours)": ("encode", "int8", "encode", ""),
    "BiLSTM, theirs packed": ("lstm", "", "lstm", "packed"),
    "BiLSTM, theirs cut to length": ("lstm", "", "lstm", "cut"),
}


def prepare(folder, given):
    """Writes what both sides read: batches by length, texts, first weights of heads and of the LSTM."""
    from helpers import data, text, training, weights

    splits = data.load(given)
    texts, targets = list(splits.train["text"]), np.searchsorted(splits.labels, splits.train["label"]).astype("int32")
    unit, classes, rng = text.guess_unit(texts), len(splits.labels), np.random.default_rng(0)
    words = sorted({token for t in texts for token in text.tokenize(t, unit)})
    read = {
        "finetune": weights.tokenizer()(texts, 64)[:1280],
        "lstm": training.encode(texts, ["", "[UNK]", *words], unit, 100)[:5000],
    }
    for name, ids in read.items():
        size = BATCH if name == "finetune" else 32
        found = list(training.bucketed(ids, targets[: len(ids)], size, 0))
        parts = {f"{k}{i}": np.array(v) for i, pair in enumerate(found) for k, v in zip("xy", pair, strict=True)}
        np.savez(folder / f"{name}.npz", **parts)

    def draw(*shape):
        return rng.normal(0, 0.05, shape).astype("float32")

    known = {"head": draw(384, classes), "table": draw(len(words) + 2, UNITS), "out": draw(2 * UNITS, classes)}
    for way in ("forward", "backward"):
        known |= {f"{way}_{n}": draw(size, 4 * UNITS) for n, size in (("kernel", UNITS), ("recurrent", UNITS))}
    np.savez(folder / "weights.npz", **known)
    (folder / "texts.json").write_text(json.dumps((texts * 4)[:2000]))
    return splits.name


def batches_of(folder, name):
    """The batches of :func:`prepare`, a list of (ids, targets)."""
    found = np.load(folder / f"{name}.npz")
    return [(found[f"x{i}"], found[f"y{i}"]) for i in range(len(found.files) // 2)]


def trained(model, batches, inputs):
    """Loss of the first batch before training, and texts a second after ``WARM`` batches; ours."""
    from helpers import training

    x, y = batches[0]
    first = model.test_on_batch(inputs(x), y)[0]

    def run(some):
        kind = training.import_tensorflow().TensorSpec
        spec = kind((None, None), "int32"), kind((None,), "int32")
        rows = training.dataset(lambda: iter(some), spec, len(some)).map(lambda a, b: (inputs(a), b))
        start = time.perf_counter()
        model.fit(rows, epochs=1, verbose=0, shuffle=False)
        return time.perf_counter() - start

    run(batches[:WARM])
    return float(first), sum(len(y) for _, y in batches) / run(batches)


def ours(folder, task, how):
    """One measurement of our side: proof and texts a second."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = "2"
    from helpers import onnx_engine, pretrained, training

    training.import_tensorflow()
    import keras
    from keras import layers

    known = np.load(folder / "weights.npz")
    if task == "finetune":
        keras.config.set_dtype_policy(how)
        model, _ = pretrained.classifier("minilm", known["head"].shape[1], 0.1)
        model.output_dense.set_weights([known["head"], np.zeros(known["head"].shape[1], "float32")])
        pretrained.compile_adamw(model, RATE, 100_000)
        return trained(model, batches_of(folder, "finetune"), pretrained.inputs)
    if task == "lstm":
        table = layers.Embedding(*known["table"].shape, mask_zero=True)
        both, out = layers.Bidirectional(layers.LSTM(UNITS)), layers.Dense(known["out"].shape[1], activation="softmax")
        model = keras.Sequential([keras.Input((None,), dtype="int32"), table, both, out])
        table.set_weights([known["table"]])
        zero = np.zeros(4 * UNITS, "float32")
        first, second = ([known[f"{way}_kernel"], known[f"{way}_recurrent"], zero] for way in ("forward", "backward"))
        both.set_weights(first + second)
        out.set_weights([known["out"], np.zeros(known["out"].shape[1], "float32")])
        model.compile(keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return trained(model, batches_of(folder, "lstm"), lambda ids: ids)
    texts = json.loads((folder / "texts.json").read_text())
    if how == "int8":
        backbone, words = pretrained.load()
        build = partial(onnx_engine.bert, pretrained.arrays_of(backbone), backbone.num_heads, None, False, True)
        said = {"labels": [], "length": 256, "lowercase": words.lowercase}
        place = onnx_engine.write(folder / "frozen", build, said, words.pieces, pretrained.encode)
        encode = onnx_engine.Engine(place, int8=True, threads=2)
    else:
        encode = pretrained.encode
    encode(texts[:200])
    start = time.perf_counter()
    vectors = encode(texts)
    rate = len(texts) / (time.perf_counter() - start)
    np.save(folder / f"{how}.npy", vectors)
    return 1.0, rate


def turn(command):
    """Runs one side; returns its proof and rate."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Prints the table; with ``--side`` one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", help="a Python with torch, transformers and sentence-transformers")
    parser.add_argument("--data", default="news_en")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a row's name")
    parser.add_argument("--side", nargs=3, metavar=("FOLDER", "TASK", "HOW"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        folder, task, how = options.side
        print(json.dumps(ours(Path(folder), task, how)))
        return
    from helpers import weights

    other = Path(__file__).with_name("peer_side.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = prepare(folder, options.data)
        print(f"{data}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; texts a second, median (least to most)")
        print("| | ours | peer | ratio | the same work? |\n| --- | ---: | ---: | ---: | --- |")
        for row, (task, how, peer_task, peer_how) in TASKS.items():
            if options.only not in row:
                continue
            rates, proofs = {"ours": [], "peer": []}, {}
            for _ in range(options.turns):
                sides = {"ours": [sys.executable, __file__, "--side", folder, task, how]}
                if options.peers:
                    sides["peer"] = [options.peers, other, folder, weights.fetch(), peer_task, peer_how]
                for side, command in sides.items():
                    proofs[side], rate = turn(command)
                    rates[side].append(rate)
            said = {s: f"{np.median(r):.0f} ({min(r):.0f} to {max(r):.0f})" if r else "" for s, r in rates.items()}
            ratio = f"{np.median(rates['ours']) / np.median(rates['peer']):.2f}" if rates["peer"] else ""
            same = f"first loss {proofs['ours']:.4f}" + (f" and {proofs['peer']:.4f}" if rates["peer"] else "")
            if task == "encode":
                same = ""
                if rates["peer"]:
                    a, b = (np.load(folder / f"{n}.npy") for n in (how, "peer"))
                    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
                    same = f"cosine {cosine.mean():.4f} on average, {cosine.min():.4f} at least"
            print(f"| {row} | {said['ours']} | {said['peer']} | {ratio} | {same} |", flush=True)


if __name__ == "__main__":
    main()
