"""Batches, fitting, saving and predicting."""

import collections
import contextlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_lstm

from helpers import InputError, files, runs, training
from helpers.training import keras


@pytest.fixture
def model():
    """A network of 8 tokens and 2 classes; 42 numbers, quickly traced."""
    built = tiny_lstm(8, 2, keras.layers.GlobalAveragePooling1D())
    built.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return built


def ids(n=50, length=30, seed=0):
    rng = np.random.default_rng(seed)
    table = rng.integers(1, 8, (n, length)).astype("int32")
    table[np.arange(length) >= rng.integers(1, length + 1, n)[:, None]] = 0
    return table


TABLE = ids()
TARGETS = (TABLE[:, 0] > 3).astype("int32")


@pytest.mark.parametrize("seed", [None, 3])
def test_batches_hold_every_text_once_and_cut_only_padding(seed):
    batches, again = (training.bucketed(TABLE, np.arange(50), 8, seed) for _ in range(2))
    orders = []
    for epochs in (batches, batches, again):
        orders.append([])
        for tokens, rows in epochs.as_numpy_iterator():
            assert len(rows) <= 8 and (tokens == TABLE[rows, : tokens.shape[1]]).all()
            assert not TABLE[rows, tokens.shape[1] :].any()
            orders[-1] += rows.tolist()
        assert sorted(orders[-1]) == list(range(50))
    assert (orders[0] == orders[1]) == (seed is None) and orders[2] == orders[0]
    assert len(batches) == 7 and batches.options().autotune.enabled is False


def test_early_stopping_goes_back_to_the_best_epoch(model):
    noise, steps, step = np.random.default_rng(1).integers(0, 2, 50).astype("int32"), [], model.train_step
    held, marks, batches = ids(40, seed=9), noise[:40], training.bucketed(TABLE, noise, 16, 1)
    model.train_step = lambda batch: steps.append(1) or step(batch)
    history = training.fit(model, batches, training.bucketed(held, marks, 16), 30, "noise", patience=2)
    assert len(steps) == 1, "TensorFlow has translated the step into a graph once"
    assert history.columns.tolist() == ["model", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    assert history["seconds"].is_monotonic_increasing and history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert len(history) == history["val_accuracy"].idxmax() + 3
    accuracy = (training.predict_proba(model, held).argmax(1) == marks).mean()
    assert accuracy == pytest.approx(history["val_accuracy"].max(), abs=1e-6)


def test_a_diverging_run_stops_with_a_sentence(model):
    model.optimizer.learning_rate = float("nan")
    batches = training.bucketed(TABLE, TARGETS, 16, 1)
    with pytest.raises(InputError, match=r"nan diverged in epoch 1 .*lower the learning rate"):
        training.fit(model, batches, batches, 3, "nan")


@pytest.mark.parametrize(("killed_after", "monitor"), [(1, "val_loss"), (3, "val_accuracy"), (6, "val_loss")])
def test_a_stopped_training_goes_on_from_its_last_epoch(model, tmp_path, monkeypatch, killed_after, monitor):
    monkeypatch.setenv(runs.FOLDER_VARIABLE, str(tmp_path))
    batches, states, epochs = training.bucketed(TABLE, TARGETS, 16, 1), [], itertools.count(1)

    @contextlib.contextmanager
    def whole(path):
        with files.whole(path) as file:
            yield file
        if next(epochs) == killed_after:
            raise KeyboardInterrupt

    def note(built):
        states.append([np.array(v) for v in training.variables(built)])

    def train(built):
        built.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
        fit = built.fit
        built.fit = lambda *given, **named: (note(built), fit(*given, **named))
        monkeypatch.setattr(runs, "_fits", collections.Counter())
        return training.fit(built, batches, batches, 6, "toy", patience=6, monitor=monitor)

    monkeypatch.setattr(training, "whole", whole)
    resumed = keras.models.clone_model(model)
    with pytest.raises(KeyboardInterrupt):
        train(model)
    note(model)
    history = train(resumed)
    assert len(states) == (2 if killed_after == 6 else 3)  # a whole one is not trained again
    assert killed_after == 6 or all(map(np.array_equal, states[1], states[2]))
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6] and history["seconds"].is_monotonic_increasing
    best = history.loc[history["val_loss"].idxmin() if monitor == "val_loss" else history["val_accuracy"].idxmax()]
    accuracy = (training.predict_proba(resumed, TABLE).argmax(1) == TARGETS).mean()
    assert accuracy == pytest.approx(best["val_accuracy"], abs=1e-6)


def test_a_save_that_fails_leaves_the_old_model_whole(model, tmp_path, monkeypatch):
    def stopped(file, *given, rename=Path.rename):
        if file.name in ("classifier.json", ".model.part"):
            raise KeyboardInterrupt
        rename(file, *given)

    def save(length):
        training.save_classifier(tmp_path / "model", model, [], ["a", "b"], unit="word", length=length)
        return {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}

    assert sorted(before := save(5)) == ["classifier.json", "classifier.keras"]
    for place, name in ((Path, "rename"), (training, "write_json")):
        monkeypatch.setattr(place, name, stopped)
        with pytest.raises(KeyboardInterrupt):
            save(6)
        assert {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()} == before
        assert [folder.name for folder in tmp_path.iterdir()] == ["model"]


def test_a_text_without_any_token_is_read_like_any_other():
    x = training.encode([":)", "", "...", "one two"] * 2, ["", "[UNK]", "one", "two"], "word", 6)
    assert x[:4].tolist() == [[1, 1, 0, 0, 0, 0], [1] + [0] * 5, [1, 1, 1, 0, 0, 0], [2, 3, 0, 0, 0, 0]]
    forms = keras.layers.Embedding(4, 4, mask_zero=True), keras.layers.LSTM(3, return_sequences=True)
    network = keras.Sequential([*forms, keras.layers.GlobalAveragePooling1D()])
    assert np.isfinite(training.predict_proba(network, x)).all()


def test_a_bar_is_off_where_its_variable_is_set_in_a_notebook_too(monkeypatch):
    import tqdm.auto
    import tqdm.notebook

    monkeypatch.setattr(tqdm.auto, "tqdm", tqdm.notebook.tqdm)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert training.bar(3, "lstm").disable
