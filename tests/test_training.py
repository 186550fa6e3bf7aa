"""Batches, fitting, saving and predicting."""

import numpy as np
import pandas as pd
import pytest

from helpers import InputError, checkpoints, runs, training


@pytest.fixture(scope="module")
def keras():
    training.import_tensorflow()
    import keras

    return keras


@pytest.fixture
def model(keras):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((None,), dtype="int32"),
        keras.layers.Embedding(8, 4, mask_zero=True),
        keras.layers.LSTM(4),
        keras.layers.Dense(2, activation="softmax"),
    ]
    built = keras.Sequential(layers)
    built.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return built


def ids(n=50, length=30, seed=0):
    rng = np.random.default_rng(seed)
    table = rng.integers(1, 8, (n, length)).astype("int32")
    table[np.arange(length) >= rng.integers(0, length + 1, n)[:, None]] = 0
    return table


@pytest.mark.parametrize("seed", [None, 3])
def test_batches_hold_every_text_once_and_cut_only_padding(seed):
    table, marks = ids(), np.arange(50)
    seen = []
    for tokens, rows in training.bucketed(table, marks, 8, seed):
        tokens, rows = tokens.numpy(), rows.numpy()
        assert len(rows) <= 8
        for line, row in zip(tokens, rows, strict=True):
            assert (line == table[row, : len(line)]).all() and not table[row, len(line) :].any()
        seen += rows.tolist()
    assert sorted(seen) == list(range(50))


def test_order_changes_by_epoch_and_repeats_by_seed():
    first, again = (training.bucketed(ids(), np.arange(50), 8, 3) for _ in range(2))
    order = [[r for _, rows in dataset for r in rows.numpy()] for dataset in (first, first, again)]
    assert order[0] != order[1]
    assert order[0] == order[2]


def test_cardinality_is_the_number_of_batches():
    dataset = training.bucketed(ids(), np.arange(50), 8, 3)
    assert len(list(dataset)) == len(dataset)


def test_fit_learns_and_reports_each_epoch(model):
    table = ids(200)
    targets = (table[:, 0] > 3).astype("int32")
    batches = training.bucketed(table, targets, 16, 1)
    history = training.fit(model, batches, batches, 15, "toy")
    assert history.columns.tolist() == ["model", "epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history.attrs["seconds"] > 0


def test_early_stopping_goes_back_to_the_best_epoch(model, keras):
    table = ids(60)
    noise = np.random.default_rng(1).integers(0, 2, 60).astype("int32")
    batches = training.bucketed(table, noise, 16, 1)
    model.optimizer.learning_rate = 0.05
    history = training.fit(model, batches, training.bucketed(ids(40, seed=9), noise[:40], 16), 30, "noise", patience=2)
    assert len(history) == history["val_accuracy"].idxmax() + 3
    accuracy = (training.predict_proba(model, ids(40, seed=9)).argmax(1) == noise[:40]).mean()
    assert accuracy == pytest.approx(history["val_accuracy"].max(), abs=1e-6)


def test_a_diverging_run_stops_with_a_sentence(model):
    table, targets = ids(), np.zeros(50, "int32")
    model.optimizer.learning_rate = float("nan")
    batches = training.bucketed(table, targets, 16, 1)
    with pytest.raises(InputError, match="lower the learning rate"):
        training.fit(model, batches, batches, 3, "nan")


def test_a_run_that_diverged_says_so_again_when_resumed(model, tmp_path, monkeypatch):
    monkeypatch.setenv(runs.FOLDER_VARIABLE, str(tmp_path))
    model.optimizer.learning_rate = float("nan")
    batches = training.bucketed(ids(), np.zeros(50, "int32"), 16, 1)
    for _ in range(2):
        monkeypatch.setattr(runs, "_fits", runs.collections.Counter())
        with pytest.raises(InputError, match=r"diverged in epoch 1 .* lower the learning rate"):
            training.fit(model, batches, batches, 3, "nan")


def test_weights_reach_the_disk_before_the_state_that_names_them(model, tmp_path, monkeypatch):
    synced, sync = [], checkpoints.os.fsync
    monkeypatch.setattr(
        checkpoints.os, "fsync", lambda f: (synced.append(checkpoints.os.readlink(f"/proc/self/fd/{f}")), sync(f))
    )
    checkpoints.Checkpoint(tmp_path).keep(model, 1, True)
    assert synced[0].endswith("/1.weights.h5") and "state.json" in synced[1]


def test_a_fitted_model_that_cannot_be_saved_leaves_nothing(tmp_path):
    with pytest.raises(Exception, match="pickle"):
        training.save_fitted(tmp_path, "frozen", model=lambda: None)
    assert not list(tmp_path.iterdir())


def test_a_resumed_classifier_starts_from_exactly_what_was_kept(keras, model, tmp_path, monkeypatch):
    monkeypatch.setenv(runs.FOLDER_VARIABLE, str(tmp_path))
    table = ids(60)
    targets = (table[:, 0] > 3).astype("int32")

    def train(epochs):
        monkeypatch.setattr(runs, "_fits", runs.collections.Counter())
        keras.utils.set_random_seed(0)
        built = keras.models.clone_model(model)
        built.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        batches = training.bucketed(table, targets, 16, 1)
        return training.fit(built, batches, batches, epochs, "toy"), built

    _, one = train(1)
    first = train(1)[1]
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(one.variables, first.variables, strict=True))
    slots = zip(one.optimizer.variables, first.optimizer.variables, strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in slots)


def test_class_weights_count_each_class_the_same():
    targets = np.array([0] * 90 + [1] * 10)
    weights = training.balanced_class_weight(targets)
    assert weights[0] * 90 == pytest.approx(weights[1] * 10) == pytest.approx(50)


def test_probabilities_keep_order_and_ignore_padding(model):
    table = ids(70)
    expected = np.concatenate([np.asarray(model(row[None, : max((row != 0).sum(), 1)])) for row in table])
    assert np.allclose(training.predict_proba(model, table, 16), expected, atol=1e-6)


def test_saved_classifier_labels_a_file(model, tmp_path):
    run = tmp_path / "run"
    vocabulary = ["", "[UNK]", "one", "two", "three", "four", "five", "six"]
    training.save_classifier(run / "model", model, vocabulary, ["a", "b"], unit="word", length=10)
    source, out = tmp_path / "new.csv", tmp_path / "labelled.csv"
    texts = ["six five", "one", "", "no such words", "two, three"]
    pd.DataFrame({"id": range(5), "text": texts}).to_csv(source, index=False)
    assert training.predict_file(str(run), str(source), out) == 5
    table = pd.read_csv(out, keep_default_na=False)
    assert table.columns.tolist() == ["id", "text", "label", "p_a", "p_b"]
    assert table["text"].tolist() == texts and table["id"].astype(int).tolist() == list(range(5))
    expected = np.asarray(model(training.encode(texts, vocabulary, "word", 10)))
    assert np.allclose(table[["p_a", "p_b"]].astype(float), expected, atol=1e-5)
    assert (table["label"] == np.where(expected[:, 0] >= expected[:, 1], "a", "b")).all()
    table.to_csv(source, index=False)
    training.predict_file(str(run), str(source), out)
    assert "prediction" in pd.read_csv(out).columns


def test_predict_says_what_is_missing(tmp_path):
    (tmp_path / "run").mkdir()
    source = tmp_path / "new.csv"
    source.write_text("text\nx\n")
    with pytest.raises(InputError, match="no classifier"):
        training.predict_file(str(tmp_path / "run"), str(source), tmp_path / "out.csv")
    with pytest.raises(InputError, match="no column 'words'"):
        training.predict_file(str(tmp_path / "run"), str(source), tmp_path / "out.csv", "words")
    with pytest.raises(InputError, match="does not exist"):
        training.predict_file(str(tmp_path / "run"), str(source), tmp_path / "none" / "out.csv")


def test_an_interrupted_save_leaves_the_old_model_whole(model, tmp_path, monkeypatch, keras):
    path = tmp_path / "classifier.keras"
    training.save_keras(model, path)
    before = path.read_bytes()

    def torn(self, target, *args, **kwargs):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model), "save", torn)
    with pytest.raises(KeyboardInterrupt):
        training.save_keras(model, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["classifier.keras"]


@pytest.mark.parametrize("killed_after", [1, 3, 6])
def test_an_interrupted_training_goes_on_from_its_last_epoch(keras, tmp_path, monkeypatch, killed_after):
    monkeypatch.setenv("HELPERS_RUN_FOLDER", str(tmp_path))
    table = ids(60)
    targets = (table[:, 0] > 3).astype("int32")

    def train(stop_after=None):
        runs._fits.clear()
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Embedding(8, 4, mask_zero=True), keras.layers.LSTM(4), keras.layers.Dense(2, "softmax")]
        built = keras.Sequential(layers)
        built.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
        batches = training.bucketed(table, targets, 16, 1)
        if stop_after is not None:
            step = checkpoints.Checkpoint.keep

            def keep(self, model, epoch, best, **state):
                step(self, model, epoch, best, **state)
                if epoch == stop_after:
                    raise KeyboardInterrupt

            monkeypatch.setattr(checkpoints.Checkpoint, "keep", keep)
        try:
            return training.fit(built, batches, batches, 6, "toy", patience=6), built
        finally:
            monkeypatch.undo()
            monkeypatch.setenv("HELPERS_RUN_FOLDER", str(tmp_path))

    with pytest.raises(KeyboardInterrupt):
        train(killed_after)
    history, resumed = train()
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    best = history["val_accuracy"].max()
    assert (training.predict_proba(resumed, table).argmax(1) == targets).mean() == pytest.approx(best, abs=1e-6)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
