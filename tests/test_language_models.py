"""Language models: against NLTK and hand results, sums to one, treatment of ends and unknown words, bad input."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import InputError
from helpers import language_models as lm

ROOT = Path(__file__).resolve().parent.parent
SIZE = 30


def stream(count=3000, seed=0):
    """Random ids in which the next token depends on the last one; id 0 ends sentences, id 1 is unknown."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(SIZE, 0.1), SIZE)
    ids = [0]
    for _ in range(count):
        ids.append(int(rng.choice(SIZE, p=table[ids[-1]])))
    return np.array(ids[1:], "int32")


def recurrent(kind="LSTM", units=16):
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int32")
    embedding = layers.ReversibleEmbedding(SIZE, units)
    states = [keras.Input((units,)) for _ in range(2 if kind == "LSTM" else 1)]
    cell = getattr(layers, kind)(units, return_sequences=True, return_state=True)
    found, *after = cell(embedding(ids), initial_state=states)
    return lm.Neural(keras.Model([ids, *states], [embedding(found, reverse=True), *after]), 10)


def attending(window=12, width=16):
    import keras
    from keras import layers, ops

    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int32")
    embedding = layers.ReversibleEmbedding(SIZE, width)
    x = embedding(ids) + layers.Embedding(window, width)(ops.cumsum(ops.ones_like(ids), axis=1) - 1)
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, width // 2)(y, y, use_causal_mask=True)
    return lm.Neural(keras.Model(ids, embedding(x, reverse=True)), window)


MODELS = {
    "kneser_ney": lambda: lm.KneserNey(stream(), 4, SIZE),
    "padded": lambda: lm.KneserNey(stream(), 3, SIZE, pad=True),
    "unigrams": lambda: lm.KneserNey(stream(), 1, SIZE),
    "lstm": recurrent,
    "gru": lambda: recurrent("GRU"),
    "transformer": attending,
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


# ---------------------------------------------------------------- every model


def test_probabilities_sum_to_one_for_1000_random_contexts(model):
    contexts = np.random.default_rng(1).integers(0, SIZE, (1000, 6))
    p = model.probabilities(contexts)
    assert p.shape == (1000, SIZE) and p.min() >= 0
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-9


def test_the_score_of_a_text_is_that_of_its_next_tokens(model):
    """Both questions to a model have one answer: token by token, after an EOS."""
    ids = stream(9, seed=5)
    one_by_one = [model.probabilities(np.array([[0, *ids[:i]]]))[0, token] for i, token in enumerate(ids)]
    assert np.allclose(model.log_probabilities(ids)[: len(ids) if not carried(model) else 1],
                       np.log(one_by_one)[: len(ids) if not carried(model) else 1], atol=1e-4)  # fmt: skip


def carried(model):
    """Whether a short text is cut into parallel streams, each with a start of its own."""
    return isinstance(model, lm.Neural) and len(model.model.inputs) > 1


def test_a_long_text_is_scored_token_by_token_with_its_state_carried_on():
    model, ids = recurrent(), stream(320, seed=6)
    scores = model.log_probabilities(ids)
    part = ids[20:40]  # the second of 16 streams of 20 tokens, two batches of 10
    p = [model.probabilities(np.array([[ids[19], *part[:i]]]))[0, token] for i, token in enumerate(part)]
    assert np.allclose(scores[20:40], np.log(p), atol=1e-4)


def test_windows_overlap_so_that_every_token_has_half_a_window_before_it():
    model, ids = attending(), stream(400, seed=7)
    scores = model.log_probabilities(ids)
    whole = np.concatenate([[0], ids])
    for place in (0, 3, 11, 12, 17, 18, 200, 399):
        begin = 0 if place < 12 else (place // 6 - 1) * 6
        p = model.probabilities(whole[None, begin : place + 1])[0, ids[place]]
        assert np.isclose(scores[place], np.log(p), atol=1e-4)


def test_the_same_seed_writes_the_same_text(model):
    prompt = np.array([0, 4, 7], "int32")
    first, second, other = (lm.generate(model, prompt, 40, seed, top_p=0.9) for seed in (3, 3, 4))
    assert first == second != other
    assert len(first) == 40 and 1 not in first


def test_a_generated_text_is_drawn_given_all_of_it():
    """Step by step with carried state as from the whole text at once."""
    model, prompt = recurrent(), np.array([0, 4, 7], "int32")
    ids = lm.generate(model, prompt, 12, 0, temperature=0)
    told = list(prompt)
    for token in ids:
        p = model.probabilities(np.array([told]))[0]
        p[1] = 0
        assert token == p.argmax()
        told.append(token)


# ---------------------------------------------------------------- Kneser-Ney


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_one_discount_agrees_with_nltk(order):
    from nltk.lm import KneserNeyInterpolated, Vocabulary

    ids = stream(600)
    rows = np.lib.stride_tricks.sliding_window_view(np.concatenate([np.zeros(order - 1, int), ids]), order)
    rows = [tuple(str(i) for i in row) for row in rows]
    theirs = KneserNeyInterpolated(order, discount=0.4, vocabulary=Vocabulary({str(i) for i in ids}, unk_cutoff=1))
    theirs.fit([[row[-k:] for row in rows] for k in range(1, order + 1)])
    ours = lm.KneserNey(ids, order, SIZE, discount=0.4)
    if order == 1:  # NLTK's lowest order needs bigrams; alone it is the share of each token
        expected = np.bincount(ids, minlength=SIZE)[None].repeat(20, 0) / len(ids)
        assert np.abs(ours.probabilities(np.zeros((20, 1), int)) - expected).max() < 1e-9
        return
    contexts = np.random.default_rng(2).integers(0, SIZE, (40, order - 1))
    contexts = np.vstack([contexts, np.lib.stride_tricks.sliding_window_view(ids, order - 1)[:40]])
    p = ours.probabilities(contexts)
    seen = sorted({int(i) for i in ids})
    for row, context in zip(p, contexts, strict=True):
        expected = [theirs.score(str(w), [str(c) for c in context]) for w in seen]
        assert np.abs(row[seen] - expected).max() < 1e-9
        assert row.sum() == pytest.approx(1, abs=1e-9)


def test_bigrams_by_hand():
    """a b a c a b with a discount of 0.5: 'b' ends 1 of 5 kinds of pairs, and 'a b' is 2 of 3 pairs with 'a'."""
    ids = np.array([2, 3, 2, 4, 2, 3])
    model = lm.KneserNey(ids, 2, 5, discount=0.5)
    pairs = [(0, 2), (2, 3), (3, 2), (2, 4), (4, 2)]
    after = sum(b == 3 for _, b in pairs) / len(pairs)
    expected = (2 - 0.5) / 3 + 0.5 * 2 / 3 * after
    assert model.probabilities(np.array([[2]]))[0, 3] == pytest.approx(expected, abs=1e-12)


def test_three_discounts_are_those_of_chen_and_goodman():
    ids = stream(5000)
    model = lm.KneserNey(ids, 2, SIZE)
    pairs = pd.Series(zip(np.concatenate([[0], ids[:-1]]), ids, strict=True)).value_counts()
    n = [int((pairs == k).sum()) for k in (1, 2, 3, 4)]
    y = n[0] / (n[0] + 2 * n[1])
    expected = [1 - 2 * y * n[1] / n[0], 2 - 3 * y * n[2] / n[1], 3 - 4 * y * n[3] / n[2]]
    assert np.allclose(model.discounts[1], expected)


def test_with_pad_nothing_before_a_sentence_end_counts():
    model = lm.KneserNey(stream(), 4, SIZE, pad=True)
    p = model.probabilities(np.array([[5, 9, 0, 7], [3, 2, 0, 7]]))
    assert (p[0] == p[1]).all()
    free = lm.KneserNey(stream(), 4, SIZE).probabilities(np.array([[5, 9, 0], [3, 2, 0]]))
    assert (free[0] != free[1]).any()


def test_counting_beats_chance_and_more_context_helps():
    train, test = stream(20_000, seed=0)[:15_000], stream(20_000, seed=0)[15_000:]
    one, two = (lm.perplexity(lm.KneserNey(train, n, SIZE).log_probabilities(test)) for n in (1, 2))
    assert two < one < SIZE


# ---------------------------------------------------------------- figures, batches, sampling


def test_perplexity_and_bits_by_hand():
    p = np.log([0.5, 0.25, 0.125])
    assert lm.perplexity(p) == pytest.approx(4)
    assert lm.bits_per_character(p, 12) == pytest.approx(0.5)
    with pytest.raises(InputError, match="not finite"):
        lm.perplexity(np.array([-1.0, np.nan]))
    with pytest.raises(InputError, match="not finite"):
        lm.perplexity(np.array([-1.0, -np.inf]))


def test_the_mixture_weight_is_the_best_of_a_grid():
    rng = np.random.default_rng(0)
    a, b = np.log(rng.random(500)), np.log(rng.random(500) * 0.8)
    weight = lm.mixture_weight(a, b)
    grid = np.linspace(0.01, 0.99, 99)
    best = max(grid, key=lambda w: lm.mix(a, b, w).mean())
    assert abs(weight - best) < 0.02
    assert lm.mix(a, b, weight).mean() > max(a.mean(), b.mean())


def test_contiguous_batches_go_on_where_the_last_one_ended():
    ids = np.arange(2, 27)
    x, y = lm.contiguous(ids, 2, 4)
    assert x.shape == y.shape == (3, 2, 4)
    assert y.swapaxes(0, 1).reshape(2, -1).tolist() == [list(range(2, 14)), list(range(14, 26))]
    assert (x[0, :, 1:] == y[0, :, :-1]).all() and (x[1, :, 0] == y[0, :, -1]).all() and x[0, 0, 0] == 0


def test_windows_are_pieces_of_the_text():
    x, y = lm.windows(np.arange(50), 3, 8, 5, seed=0)
    assert x.shape == y.shape == (5, 3, 8) and (y == x + 1).all() and y.max() < 50
    assert (lm.windows(np.arange(50), 3, 8, 5, 0)[0] == x).all()


def test_reshape_sharpens_and_cuts():
    p = np.array([0.5, 0.25, 0.15, 0.1])
    assert np.allclose(lm.reshape(p), p)
    assert np.allclose(lm.reshape(p, temperature=0.5), p**2 / (p**2).sum())
    assert lm.reshape(p, temperature=0).tolist() == [1, 0, 0, 0]
    assert np.allclose(lm.reshape(p, top_k=2), [2 / 3, 1 / 3, 0, 0])
    assert np.allclose(lm.reshape(p, top_p=0.7), [2 / 3, 1 / 3, 0, 0])
    assert np.allclose(lm.reshape(p, top_p=0.01), [1, 0, 0, 0])
    for wrong in ({"temperature": -1}, {"top_k": -1}, {"top_p": 0}):
        with pytest.raises(InputError, match="Sampling needs"):
            lm.reshape(p, **wrong)


# ---------------------------------------------------------------- training, saving


def fitted(model, epochs=3, rate=0.01):
    draw = lambda epoch: lm.contiguous(stream(), 4, 10) if carried(model) else lm.windows(stream(), 8, 12, 60, epoch)  # noqa: E731
    return model.fit(draw, stream(500, seed=9), epochs, "toy", rate)


@pytest.mark.parametrize("make", [recurrent, attending])
def test_training_learns_and_keeps_its_best_epoch(make):
    model = make()
    before = lm.perplexity(model.log_probabilities(stream(500, seed=9)))
    history = fitted(model)
    assert history.columns.tolist() == ["model", "epoch", "loss", "val_loss"] and history["epoch"].tolist() == [1, 2, 3]
    after = lm.perplexity(model.log_probabilities(stream(500, seed=9)))
    assert after == pytest.approx(np.exp(history["val_loss"].min()), rel=1e-4)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] < np.log(before) + 0.1
    assert history.attrs["seconds"] > 0


def test_a_diverging_training_stops_with_a_sentence():
    with pytest.raises(InputError, match=r"toy diverged in epoch 1 .* lower the learning rate"):
        fitted(recurrent(), rate=float("inf"))


def test_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    from helpers import runs

    monkeypatch.setenv(runs.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(runs, "_fits", runs.collections.Counter())
    fitted(recurrent(), epochs=2)
    monkeypatch.setattr(runs, "_fits", runs.collections.Counter())
    again = recurrent()
    history = fitted(again, epochs=4)
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    kept = tmp_path / "checkpoint" / "toy-1"
    assert [row["epoch"] for row in json.loads((kept / "rows.json").read_text("utf-8"))] == [1, 2, 3, 4]
    assert {f.name for f in kept.glob("*.h5")} == {f"{i}.weights.h5" for i in (history["val_loss"].idxmin(), 3)}


@pytest.mark.parametrize("make", [recurrent, attending])
def test_a_resumed_training_ends_bit_for_bit_as_one_in_one_go(make, tmp_path, monkeypatch):
    from helpers import files, runs

    whole = make()
    expected = fitted(whole)
    monkeypatch.setenv(runs.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(runs, "_fits", runs.collections.Counter())
    write = files.write_json

    def stop(path, rows):
        write(path, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "write_json", stop)
        fitted(make())
    monkeypatch.setattr(runs, "_fits", runs.collections.Counter())
    resumed = make()
    assert fitted(resumed).equals(expected)
    assert all(
        np.array_equal(a, b) for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True)
    )


@pytest.mark.parametrize("length", [1, 7])
def test_windows_of_odd_length_are_refused(length):
    model = attending()
    model.length = length
    with pytest.raises(InputError, match="even length"):
        model.log_probabilities(stream(50))


def test_02_compares_discounts_where_no_training_word_is_unknown():
    """News by character with the default vocabulary: one discount would give unknown characters probability 0."""
    notebook = json.loads((ROOT / "notebooks" / "02_language_modeling.ipynb").read_text("utf-8"))
    cell = next("".join(c["source"]) for c in notebook["cells"] if c["id"] == "treatments")
    corpus = lm.build_corpus(lm.read_parts("news_zh", unit="character"), "character", 20_000)
    assert not (corpus.train == 1).any() and (corpus.validation == 1).any()
    size = len(corpus.vocabulary)
    names = {"lm": lm, "train": corpus.train, "order": 3, "size": size}
    exec(cell, names | {"grams": {3: lm.KneserNey(corpus.train, 3, size)}}, names)
    assert len(names["variants"]) == 2
    assert all(lm.perplexity(model.log_probabilities(corpus.validation)) > 1 for model in names["variants"].values())


def test_the_end_of_a_document_counts_as_a_character_where_it_is_predicted():
    parts = {name: ["abcd" * 10] * 5 for name in lm.PARTS} | {"notes": []}
    corpus = lm.build_corpus(parts, "character", 10)
    assert corpus.characters["test"] == len(corpus.test) == 5 * 41
    whole = lm.build_corpus({name: ["abcd" * 50] for name in lm.PARTS} | {"notes": []}, "character", 10)
    assert whole.characters["test"] == len(whole.test) == 200


@pytest.mark.parametrize("make", [recurrent, attending])
def test_a_saved_model_writes_the_same_text_in_another_process(make, tmp_path):
    model = make()
    words = [lm.EOS, lm.UNKNOWN, *(f"w{i}" for i in range(2, SIZE))]
    model.save(tmp_path, words, "word")
    text = lm.generate(model, lm.encode("w4 w5", words, "word"), 20, 7)
    code = (
        "from pathlib import Path; from helpers import language_models as lm; import sys\n"
        "m, v, u = lm.load(Path(sys.argv[1])); print(lm.generate(m, lm.encode('w4 w5', v, u), 20, 7))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert json.loads(done.stdout) == text, done.stderr[-2000:]
    with pytest.raises(InputError, match="no language model"):
        lm.load(tmp_path / "elsewhere")


def test_a_context_longer_than_the_window_is_refused():
    with pytest.raises(InputError, match="context has 13 tokens and the model reads 1 to 12"):
        attending().probabilities(np.zeros((2, 13), int))
    with pytest.raises(InputError, match="context has 0 tokens"):
        recurrent().probabilities(np.zeros((2, 0), int))


def test_a_text_too_short_for_a_batch_is_refused():
    with pytest.raises(InputError, match="has 30 tokens and one batch needs 40"):
        lm.contiguous(np.zeros(30, int), 4, 10)
    with pytest.raises(InputError, match="a window needs 11"):
        lm.windows(np.zeros(10, int), 4, 10, 1, 0)


# ---------------------------------------------------------------- corpora


def folder(path, **files):
    for name, lines in files.items():
        (path / f"my.{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def test_a_folder_of_prepared_text_is_cut_at_spaces(tmp_path):
    lines = [" the <unk> sat on n 's mat "] * 30
    source = folder(tmp_path, train=lines, valid=lines, test=[*lines, "the zebra sat"])
    assert lm.choose_unit(source) == "space"
    corpus = lm.build_corpus(lm.read_parts(source, unit="space"), "space", 100)
    assert corpus.vocabulary[:2] == [lm.EOS, lm.UNKNOWN] and "'s" in corpus.vocabulary
    assert len(corpus.train) == 30 * 8 and (corpus.train == 0).sum() == 30 and (corpus.train == 1).sum() == 30
    assert lm.decode(corpus.test[-4:], corpus.vocabulary, "space").split() == ["the", "<unk>", "sat"]
    assert corpus.characters["train"] == 30 * len("the <unk> sat on n 's mat ")


def test_a_text_by_character_keeps_everything_and_ends_with_the_test(tmp_path):
    whole = "".join(f"Line {i},\n\tsaid he.\n\n" for i in range(200))
    path = tmp_path / "play.txt"
    path.write_text(whole, "utf-8")
    parts = lm.read_parts(str(path), unit="character")
    assert parts["train"][0] + parts["validation"][0] + parts["test"][0] == whole
    corpus = lm.build_corpus(parts, "character", 500)
    assert len(corpus.test) == pytest.approx(len(whole) / 10, abs=1)
    assert lm.decode(corpus.test, corpus.vocabulary, "character").strip() == parts["test"][0].strip()
    assert not (np.concatenate([corpus.train, corpus.test]) == 0).any()


def test_a_table_is_split_by_document_whatever_its_order(tmp_path):
    texts = [f"document number {i} tells of the {i % 7} seas and so on" for i in range(400)]
    for name, rows in {"a": texts, "b": texts[::-1]}.items():
        pd.DataFrame({"body": rows}).to_csv(tmp_path / f"{name}.csv", index=False)
    a, b = (lm.read_parts(str(tmp_path / f"{n}.csv"), "body") for n in "ab")
    for name in lm.PARTS:
        assert set(a[name]) == set(b[name]) and a[name]
    assert not set(a["train"]) & set(a["test"]) and sum(len(a[n]) for n in lm.PARTS) == 400
    part = lm.read_parts(str(tmp_path / "a.csv"), "body", share=0.5)
    assert 150 < sum(len(part[n]) for n in lm.PARTS) < 250


def test_documents_that_begin_alike_stay_together():
    start = "one two three four five six seven eight "
    assert lm._place(start + "nine") == lm._place(start.upper() + "ten")


def test_the_vocabulary_is_that_of_the_training_part_and_no_larger_than_asked():
    train, other = ["b b b a a c d"] * 30, ["a b zzz"] * 60
    corpus = lm.build_corpus({"train": train, "validation": other, "test": other, "notes": []}, "word", 4)
    assert corpus.vocabulary == [lm.EOS, lm.UNKNOWN, "b", "a"]
    assert set(corpus.validation) == {0, 1, 2, 3}


def test_chinese_is_read_by_character():
    text = "今天的天气很好，我们去公园。"
    assert lm.choose_unit("news_zh") == "character"
    assert lm.join_tokens(lm.split_tokens(text, "character"), "character") == text


def test_word_pieces_are_put_together_again():
    assert lm.join_tokens(["un", "##believ", "##able", "story"], "wordpiece") == "unbelievable story"


@pytest.mark.parametrize(
    ("train", "valid", "size", "told"),
    [
        (["a b c"] * 50, ["x y z"] * 50, 100, "validation part has no known word"),
        (["a b c"] * 50, ["a b c"] * 50, 1, "vocabulary of 1 cannot tell words apart"),
        (["a a a"] * 50, ["a a a"] * 50, 100, "has 1 different word"),
        (["a b"], ["a b c"] * 50, 100, "train part has 2 tokens"),
        (["a b c"] * 50, ["..."] * 50, 100, "validation part has no known word"),
    ],
)
def test_bad_corpora_get_one_sentence(train, valid, size, told):
    parts = {"train": train, "validation": valid, "test": ["a b c"] * 50, "notes": []}
    with pytest.raises(InputError, match=told) as error:
        lm.build_corpus(parts, "word", size)
    assert "\n" not in str(error.value)


def test_a_folder_without_its_parts_is_told(tmp_path):
    with pytest.raises(InputError, match="0 text files named valid"):
        lm.read_parts(folder(tmp_path, train=["a b"], test=["a b"]))


# ---------------------------------------------------------------- the notebook


def run(*arguments, ok=True):
    words = [sys.executable, "-m", "helpers", "run", "02", *map(str, arguments)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert (done.returncode == 0) == ok, done.stderr[-3000:]
    return done


SMALL = ["-p", "EPOCHS", 1, "-p", "STEPS", 10, "-p", "UNITS", 8, "--name", "small"]


@pytest.mark.slow
def test_02_reads_a_folder_of_text(tmp_path, runs_folder):
    rng = np.random.default_rng(0)
    names = ["the cat", "a dog", "my <b>&x"]
    lines = [f"{names[rng.integers(3)]} saw {names[rng.integers(3)]} and ran away ." for _ in range(400)]
    (tmp_path / "text").mkdir()
    source = folder(tmp_path / "text", train=lines, valid=lines[:60], test=lines[60:120])
    run("-p", "CORPUS", source, "-p", "PROMPT", "the cat", *SMALL)
    made = runs_folder / "02_language_modeling" / "small"
    record = json.loads((made / "metrics.json").read_text("utf-8"))
    assert record["status"] == "completed"
    wanted = {"test_perplexity", "kneser_ney_test_perplexity", "lstm_test_perplexity", "transformer_test_perplexity",
              "mixture_test_perplexity", "train_seconds"}  # fmt: skip
    assert wanted <= set(record["metrics"]) and all(np.isfinite(v) for v in record["metrics"].values())
    history = pd.read_csv(made / "history.csv")
    assert set(history["model"]) == {"lstm", "transformer"} and history.notna().all(axis=None)
    assert "<b>&x" not in (made / "report.html").read_text("utf-8")
    assert (made / "model" / "language_model.keras").exists()


@pytest.mark.slow
def test_02_reads_chinese_by_character_with_a_gru(runs_folder):
    run("-p", "CORPUS", "news_zh", "-p", "CELL", "gru", "-p", "PROMPT", "中国", "-p", "VOCABULARY", 800, *SMALL)
    made = runs_folder / "02_language_modeling" / "small"
    metrics = json.loads((made / "metrics.json").read_text("utf-8"))["metrics"]
    assert 1 < metrics["gru_test_perplexity"] < 800
    settings = json.loads((made / "model" / "language_model.json").read_text("utf-8"))
    assert settings["unit"] == "character" and len(settings["vocabulary"]) == 800
    assert "Glyph" not in (made / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_02_says_what_is_wrong_with_a_corpus(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n", "utf-8")
    done = run("-p", "CORPUS", tmp_path / "empty.txt", *SMALL, ok=False)
    assert done.returncode == 2 and "holds no text" in done.stderr and "Traceback" not in done.stderr
    done = run("-p", "VOCABULARY", 1, *SMALL, ok=False)
    assert done.returncode == 2 and "out of range" in done.stderr
    done = run("-p", "LEARNING_RATE", 1e30, "-p", "VOCABULARY", 50, *SMALL, ok=False)
    assert done.returncode == 2 and "diverged" in done.stderr
