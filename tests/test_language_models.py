"""Language models: against NLTK and hand results, sums to one, treatment of ends and unknown words, bad input."""

import json

import numpy as np
import pandas as pd
import pytest

from helpers import InputError
from helpers import language_models as lm

SIZE, WINDOW = 30, 12


def stream(count=3000, seed=0):
    """Random ids in which the next token depends on the last one; id 0 ends sentences, id 1 is unknown."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(SIZE, 0.1), SIZE)
    ids = [0]
    for _ in range(count):
        ids.append(int(rng.choice(SIZE, p=table[ids[-1]])))
    return np.array(ids[1:], "int32")


def network(attends=False, width=16):
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int32")
    vectors = layers.ReversibleEmbedding(SIZE, width)
    x = vectors(ids)
    if attends:
        x = x + layers.MultiHeadAttention(2, width // 2)(x, x, use_causal_mask=True)
    else:
        x = layers.LSTM(width, return_sequences=True)(x)
    return lm.Neural(keras.Model(ids, vectors(x, reverse=True)), WINDOW)


MODELS = {
    "kneser_ney": lambda: lm.KneserNey(stream(), 4, SIZE),
    "unigrams": lambda: lm.KneserNey(stream(), 1, SIZE),
    "lstm": network,
    "attention": lambda: network(attends=True),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


def test_probabilities_sum_to_one_for_1000_random_contexts(model):
    contexts = np.random.default_rng(1).integers(0, SIZE, (1000, 6))
    p = model.probabilities(contexts)
    assert p.shape == (1000, SIZE) and p.min() >= 0
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-9


def test_the_score_of_a_text_is_that_of_its_next_tokens(model):
    """Both questions to a model have one answer: token by token, after an EOS."""
    ids = stream(9, seed=5)
    one_by_one = [model.probabilities(np.array([[0, *ids[:i]]]))[0, token] for i, token in enumerate(ids)]
    assert np.allclose(model.log_probabilities(ids), np.log(one_by_one), atol=1e-4)


def test_windows_overlap_so_that_every_token_has_half_a_window_before_it():
    model, ids = network(), stream(400, seed=7)
    scores, whole = model.log_probabilities(ids), np.concatenate([[0], ids])
    for place in (0, 3, 11, 12, 17, 18, 200, 399):
        begin = 0 if place < 12 else (place // 6 - 1) * 6
        p = model.probabilities(whole[None, begin : place + 1])[0, ids[place]]
        assert np.isclose(scores[place], np.log(p), atol=1e-4)


class OneDiscount(lm.KneserNey):
    """NLTK's form: one D for the orders above 1, the unigrams as they are."""

    def _discounts(self, count):
        return np.array([0, 1, 1, 1]) * (0.4 if self._levels else 0)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_one_discount_agrees_with_nltk(order):
    from nltk.lm import KneserNeyInterpolated, Vocabulary

    ids = stream(600)
    rows = np.lib.stride_tricks.sliding_window_view(np.concatenate([np.zeros(order - 1, int), ids]), order)
    rows = [tuple(str(i) for i in row) for row in rows]
    theirs = KneserNeyInterpolated(order, discount=0.4, vocabulary=Vocabulary({str(i) for i in ids}, unk_cutoff=1))
    theirs.fit([[row[-k:] for row in rows] for k in range(1, order + 1)])
    ours = OneDiscount(ids, order, SIZE)
    if order == 1:  # NLTK's lowest order needs bigrams; alone it is the share of each token
        expected = np.bincount(ids, minlength=SIZE)[None].repeat(20, 0) / len(ids)
        assert np.abs(ours.probabilities(np.zeros((20, 1), int)) - expected).max() < 1e-9
        return
    contexts = np.random.default_rng(2).integers(0, SIZE, (40, order - 1))
    contexts = np.vstack([contexts, np.lib.stride_tricks.sliding_window_view(ids, order - 1)[:40]])
    seen = sorted({int(i) for i in ids})
    for row, context in zip(ours.probabilities(contexts), contexts, strict=True):
        expected = [theirs.score(str(w), [str(c) for c in context]) for w in seen]
        assert np.abs(row[seen] - expected).max() < 1e-9


def test_three_discounts_are_those_of_chen_and_goodman():
    ids = stream(5000)
    model = lm.KneserNey(ids, 2, SIZE)
    pairs = pd.Series(zip(np.concatenate([[0], ids[:-1]]), ids, strict=True)).value_counts()
    n = [int((pairs == k).sum()) for k in (1, 2, 3, 4)]
    y = n[0] / (n[0] + 2 * n[1])
    expected = [1 - 2 * y * n[1] / n[0], 2 - 3 * y * n[2] / n[1], 3 - 4 * y * n[3] / n[2]]
    assert np.allclose(model.discounts[1], [0, *expected])


def test_a_perplexity_that_is_not_finite_is_told():
    for wrong in (np.nan, -np.inf):
        with pytest.raises(InputError, match="not finite"):
            lm.perplexity(np.array([-1.0, wrong]))


def test_batches_hold_windows_and_their_next_tokens():
    ids = np.arange(50)
    x, y = (np.concatenate([b.numpy() for b in part]) for part in zip(*lm.windows(ids, 3, 8), strict=True))
    assert x.tolist() == np.arange(48).reshape(6, 8).tolist() and (y == x + 1).all()
    drawn = lm.windows(ids, 3, 8, seed=0)
    first, second = (np.stack([x.numpy() for x, _ in drawn]) for _ in range(2))
    assert first.shape == (2, 3, 8) and (first != second).any() and first.max() < 49
    with pytest.raises(InputError, match="one batch needs 61"):
        lm.windows(ids, 6, 10)


# ---------------------------------------------------------------- text in


def folder(path, **files):
    for name, lines in files.items():
        (path / f"my.{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def test_a_folder_of_prepared_text_is_cut_at_spaces(tmp_path):
    lines = [" the <unk> sat on n 's mat "] * 30
    source = folder(tmp_path, train=lines, valid=lines, test=[*lines, "the zebra sat"])
    assert lm.choose_unit(source) == "space"
    streams, vocabulary = lm.to_streams(lm.read_parts(source, unit="space"), "space", 100)
    assert vocabulary[:2] == [lm.EOS, lm.UNKNOWN] and "'s" in vocabulary
    train = streams["train"]
    assert len(train) == 30 * 8 and (train == 0).sum() == 30 and (train == 1).sum() == 30
    assert [vocabulary[i] for i in streams["test"][-4:]] == ["the", lm.UNKNOWN, "sat", lm.EOS]
    (tmp_path / "my.valid.txt").unlink()
    with pytest.raises(InputError, match="0 text files named valid"):
        lm.read_parts(source)


def test_a_text_by_character_keeps_everything_and_ends_with_the_test(tmp_path):
    whole = "".join(f"Line {i},\n\tsaid he.\n\n" for i in range(200))
    path = tmp_path / "play.txt"
    path.write_text(whole, "utf-8")
    parts = lm.read_parts(str(path), unit="character")
    assert parts["train"][0] + parts["validation"][0] + parts["test"][0] == whole
    streams, vocabulary = lm.to_streams(parts, "character", 500)
    assert len(streams["test"]) == pytest.approx(len(whole) / 10, abs=1)
    assert "".join(vocabulary[i] for i in streams["test"]) == parts["test"][0]
    assert not (np.concatenate([streams["train"], streams["test"]]) == 0).any()


def test_a_table_is_split_by_document_whatever_its_order(tmp_path):
    texts = [f"document number {i} tells of the {i % 7} seas and so on" for i in range(400)]
    for name, rows in {"a": texts, "b": texts[::-1]}.items():
        pd.DataFrame({"body": rows}).to_csv(tmp_path / f"{name}.csv", index=False)
    a, b = (lm.read_parts(str(tmp_path / f"{n}.csv"), "body") for n in "ab")
    for name in lm.PARTS:
        assert set(a[name]) == set(b[name]) and a[name]
    assert not set(a["train"]) & set(a["test"]) and sum(len(a[n]) for n in lm.PARTS) == 400
    part = lm.read_parts(str(tmp_path / "a.csv"), "body", share=0.5, clean=lambda documents: documents[::2])
    assert 75 < sum(len(part[n]) for n in lm.PARTS) < 125
    start = "one two three four five six seven eight "
    assert lm._place(start + "nine") == lm._place(start.upper() + "ten")


def test_the_vocabulary_is_that_of_the_training_part_and_no_larger_than_asked():
    train, other = ["b b b a a c d"] * 30, ["a b zzz"] * 60
    streams, vocabulary = lm.to_streams({"train": train, "validation": other, "test": other}, "word", 4)
    assert vocabulary == [lm.EOS, lm.UNKNOWN, "b", "a"]
    assert set(streams["validation"]) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("train", "valid", "size", "told"),
    [
        (["a b c"] * 50, ["x y z"] * 50, 100, "validation part has no known word"),
        (["a b c"] * 50, ["a b c"] * 50, 1, "vocabulary of 1 cannot tell words apart"),
        (["a a a"] * 50, ["a a a"] * 50, 100, "has 1 different word"),
        (["a b"], ["a b c"] * 50, 100, "train part has 2 tokens"),
    ],
)
def test_bad_corpora_get_one_sentence(train, valid, size, told):
    with pytest.raises(InputError, match=told) as error:
        lm.to_streams({"train": train, "validation": valid, "test": ["a b c"] * 50}, "word", size)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- the notebook


@pytest.mark.slow
def test_02_reads_chinese_by_character_with_a_gru_in_a_folder(tmp_path, runs_folder, command):
    """One run for all that is not the default: prepared parts, Chinese, markup in the text, the other cell."""
    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice([*"今天我们去公园看花<b>&"], 12)) for _ in range(500)]
    source = folder(tmp_path, train=lines[:400], valid=lines[400:450], test=lines[450:])
    values = {"CORPUS": source, "UNIT": "character", "CELL": "gru", "PROMPT": "今天", "EPOCHS": 1, "UNITS": 8}
    given = [word for item in values.items() for word in ("-p", *item)]
    done = command("run", "02", *given, "--name", "small", timeout=900)
    assert done.status == 0, done.err[-3000:]
    made = runs_folder / "02_language_modeling" / "small"
    metrics = json.loads((made / "metrics.json").read_text("utf-8"))["metrics"]
    wanted = {f"{n}_test_perplexity" for n in ("gru", "transformer", "kneser_ney", "mixture")}
    assert wanted | {"test_perplexity", "train_seconds"} <= set(metrics)
    assert all(np.isfinite(v) for v in metrics.values())
    assert set(pd.read_csv(made / "history.csv")["model"]) == {"gru", "transformer"}
    assert json.loads((made / "model" / "language_model.json").read_text("utf-8"))["unit"] == "character"
    assert "Glyph" not in (made / "report.html").read_text("utf-8")
