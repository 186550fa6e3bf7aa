"""Language models: counting against NLTK and hand results, windows, text in, bad input; and notebook 02."""

import functools
import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from conftest import command, functions_of, record
from scipy.special import softmax

from helpers import InputError, training
from helpers import language_models as lm
from helpers.training import keras

SIZE, WINDOW = 30, 12
sliding = np.lib.stride_tricks.sliding_window_view


@pytest.fixture(scope="module")
def lesson():
    tools = {"np": np, "functools": functools, "hashlib": hashlib, "softmax": softmax, "InputError": InputError}
    return functions_of("02", tf=training.import_tensorflow(), WINDOW=WINDOW, **tools)


def stream(count=3000, seed=0):
    """Random ids in which the next token depends on the last one; id 0 ends sentences, id 1 is unknown."""
    rng = np.random.default_rng(seed)
    table, ids = rng.dirichlet(np.full(SIZE, 0.1), SIZE), [0]
    for _ in range(count):
        ids.append(int(rng.choice(SIZE, p=table[ids[-1]])))
    return np.array(ids[1:], "int32")


@pytest.mark.parametrize("order", [2, 4])
def test_one_discount_agrees_with_nltk(order, monkeypatch):
    """NLTK has one D for the orders above 1; the unigrams, which come last, are as they are."""
    from nltk.lm import KneserNeyInterpolated, Vocabulary

    cut = iter([*[0.4] * (order - 1), 0])
    monkeypatch.setattr(lm.KneserNey, "_discounts", lambda self, count: np.array([0, 1, 1, 1]) * next(cut))
    ids = stream(600)
    rows = [tuple(map(str, row)) for row in sliding([*[0] * (order - 1), *ids.tolist()], order)]
    seen = sorted(set(ids.tolist()))
    theirs = KneserNeyInterpolated(order, discount=0.4, vocabulary=Vocabulary(map(str, seen), unk_cutoff=1))
    theirs.fit([[row[-k:] for row in rows] for k in range(1, order + 1)])
    contexts = np.random.default_rng(2).integers(0, SIZE, (40, order - 1))
    contexts = np.vstack([contexts, sliding(ids, order - 1)[:40]])
    model = lm.KneserNey(ids, order, SIZE)
    p = model.probabilities(contexts)
    expected = [[theirs.score(str(w), [*map(str, context)]) for w in seen] for context in contexts]
    assert np.abs(p[:, seen] - expected).max() < 1e-9 and np.abs(p.sum(axis=1) - 1).max() < 1e-9


def test_a_network_has_half_a_window_before_every_token(lesson):
    ids, vectors = keras.Input((None,), dtype="int32"), keras.layers.ReversibleEmbedding(SIZE, 16)
    x = keras.layers.LSTM(16, return_sequences=True)(vectors(ids))
    model, ids = lesson.Neural(keras.Model(ids, vectors(x, reverse=True))), stream(400, seed=7)
    scores, whole = model.log_probabilities(ids), np.concatenate([[0], ids])
    for place in (0, 3, 11, 12, 17, 18, 200, 399):
        begin = 0 if place < 12 else (place // 6 - 1) * 6
        p = model.probabilities(whole[None, begin : place + 1])
        assert np.isclose(scores[place], np.log(p[0, ids[place]]), atol=1e-4) and np.isclose(p.sum(), 1)
    with pytest.raises(InputError, match="not finite"):
        lesson.perplexity(np.array([-1.0, -np.inf]))


def test_batches_hold_windows_and_their_next_tokens():
    ids = np.arange(50)
    x, y = (np.concatenate([b.numpy() for b in part]) for part in zip(*lm.windows(ids, 3, 8), strict=True))
    assert x.tolist() == np.arange(48).reshape(6, 8).tolist() and (y == x + 1).all()
    drawn = lm.windows(ids, 3, 8, seed=0)
    first, second = (np.stack([x.numpy() for x, _ in drawn]) for _ in range(2))
    assert first.shape == (2, 3, 8) and (first != second).any() and first.max() < 49


def folder(path, **files):
    for name, lines in files.items():
        (path / f"my.{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def test_a_folder_of_prepared_text_is_cut_at_spaces(tmp_path):
    lines = [" the <unk> sat on n 's mat "] * 30
    source = folder(tmp_path, train=lines, valid=lines, test=[*lines, "the zebra sat"])
    streams, vocabulary = lm.to_streams(lm.read_folder(source), "space", 100)
    assert vocabulary[:2] == [lm.EOS, lm.UNKNOWN] and "'s" in vocabulary
    assert [(streams["train"] == i).sum() for i in (0, 1)] == [30, 30] and len(streams["train"]) == 30 * 8
    assert [vocabulary[i] for i in streams["test"][-4:]] == ["the", lm.UNKNOWN, "sat", lm.EOS]
    (tmp_path / "my.valid.txt").unlink()
    with pytest.raises(InputError, match="0 text files named valid"):
        lm.read_folder(source)
    assert lm.read_folder("python_docs") is None and lm.read_folder("") is None


def test_texts_are_split_by_their_beginnings_and_one_text_by_place(lesson):
    texts = [f"document number {i} tells of the {i % 7} seas and so on" for i in range(400)]
    parts, again = lesson.split(texts, 1.0), lesson.split(texts[::-1], 1.0)
    assert sorted(text for part in parts.values() for text in part) == sorted(texts)
    assert all(set(parts[name]) == set(again[name]) != set() for name in lm.PARTS)
    start = "one two three four five six seven eight "
    assert lesson.place(start + "nine") == lesson.place(start.upper() + "ten")
    whole = "".join(f"Line {i},\n\tsaid he.\n\n" for i in range(200))
    parts = lesson.cut(whole)
    streams, vocabulary = lm.to_streams(parts, "character", 500)
    assert "".join(part for (part,) in parts.values()) == whole
    assert "".join(vocabulary[i] for i in streams["test"]) == whole[int(0.9 * len(whole)) :]


def test_the_vocabulary_is_that_of_the_training_part_and_no_larger_than_asked():
    train, other = ["b b b a a c d"] * 30, ["a b zzz"] * 60
    streams, vocabulary = lm.to_streams({"train": train, "validation": other, "test": other}, "word", 4)
    assert vocabulary == [lm.EOS, lm.UNKNOWN, "b", "a"] and set(streams["validation"]) == {0, 1, 2, 3}
    refused = {"has no known token": ["x y"] * 50, "has 2 tokens": ["a b"]}
    for told, train in refused.items():
        with pytest.raises(InputError, match=told):
            lm.to_streams({"train": train, "validation": other, "test": other}, "word", 100)


@pytest.mark.slow
def test_02_reads_chinese_by_character_with_a_gru_in_a_folder(tmp_path, runs_folder):
    """One run for all that is not the default: prepared parts, Chinese, markup in the text, the other cell."""
    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice([*"今天我们去公园看花<b>&"], 12)) for _ in range(500)]
    source = folder(tmp_path, train=lines[:400], valid=lines[400:450], test=lines[450:])
    given = {"CORPUS": source, "UNIT": "character", "CELL": "gru", "PROMPT": "今天", "EPOCHS": 1, "UNITS": 8}
    command("run", "02", "--name", "small", **given)
    made = runs_folder / "02_language_modeling" / "small"
    wanted = {f"{n}test_perplexity" for n in ("", "gru_", "transformer_", "kneser_ney_", "mixture_")}
    assert wanted | {"train_seconds"} <= set(record(made)["metrics"])
    assert set(pd.read_csv(made / "history.csv")["model"]) == {"gru", "transformer"}
    assert json.loads((made / "model" / "language_model.json").read_text("utf-8"))["unit"] == "character"
    assert "Glyph" not in (made / "report.html").read_text("utf-8")
