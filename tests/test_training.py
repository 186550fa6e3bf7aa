"""Batches, fitting, saving and predicting."""

import numpy as np
import pytest

from helpers import InputError, runs, training


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
    assert history.columns.tolist() == ["model", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["seconds"].is_monotonic_increasing


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


def test_class_weights_count_each_class_the_same():
    targets = np.array([0] * 90 + [1] * 10)
    weights = training.balanced_class_weight(targets)
    assert weights[0] * 90 == pytest.approx(weights[1] * 10) == pytest.approx(50)


def test_probabilities_keep_order_and_ignore_padding(model):
    table = ids(70)
    expected = np.concatenate([np.asarray(model(row[None, : max((row != 0).sum(), 1)])) for row in table])
    assert np.allclose(training.predict_proba(model, table, 16), expected, atol=1e-6)


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


@pytest.mark.parametrize("monitor", ["val_accuracy", "val_loss"])
@pytest.mark.parametrize("killed_after", [1, 3, 6])
def test_an_interrupted_training_goes_on_from_its_last_epoch(
    keras, model, tmp_path, monkeypatch, killed_after, monitor
):
    monkeypatch.setenv(runs.FOLDER_VARIABLE, str(tmp_path))
    table = ids(60)
    targets = (table[:, 0] > 3).astype("int32")
    write = training._write_state

    def train(stop_after=None):
        def keep(built, folder, rows, best):
            write(built, folder, rows, best)
            if len(rows) == stop_after:
                raise KeyboardInterrupt

        monkeypatch.setattr(training, "_write_state", keep)
        monkeypatch.setattr(runs, "_fits", runs.collections.Counter())
        keras.utils.set_random_seed(0)
        built = keras.models.clone_model(model)
        built.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
        batches = training.bucketed(table, targets, 16, 1)
        return training.fit(built, batches, batches, 6, "toy", patience=6, monitor=monitor), built

    with pytest.raises(KeyboardInterrupt):
        train(killed_after)
    history, resumed = train()
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6] and history["seconds"].is_monotonic_increasing
    best = history.loc[history["val_loss"].idxmin() if monitor == "val_loss" else history["val_accuracy"].idxmax()]
    accuracy = (training.predict_proba(resumed, table).argmax(1) == targets).mean()
    assert accuracy == pytest.approx(best["val_accuracy"], abs=1e-6)
    again, same = train()  # a whole one is not trained again
    assert again.equals(history)
    assert all(np.array_equal(a, b) for a, b in zip(resumed.get_weights(), same.get_weights(), strict=True))


def test_a_resumed_training_starts_from_exactly_what_was_kept(model, tmp_path, keras):
    table, targets = ids(40), np.zeros(40, "int32")
    model.fit(table, targets, verbose=0)
    training._write_state(model, tmp_path, [{"val_loss": 1.0}], 0)
    fresh = keras.models.clone_model(model)
    fresh.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    training._restore(fresh, tmp_path, [{"val_loss": 1.0}], lambda: 0)
    for ours, theirs in ((model.weights, fresh.weights), (model.optimizer.variables, fresh.optimizer.variables)):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_text_without_any_token_is_read_like_any_other(keras):
    texts = [":)", "", "...", "one two"] * 8
    x, y = training.encode(texts, ["", "[UNK]", "one", "two"], "word", 6), np.array([0, 1] * 16, "int32")
    assert (x[:, 0] != 0).all()
    layers = [
        keras.layers.Embedding(4, 4, mask_zero=True),
        keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True)),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(2, "softmax"),
    ]
    net = keras.Sequential(layers)
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = training.fit(net, training.bucketed(x, y, 8, 0), training.bucketed(x, y, 8), 2, "bilstm")
    assert np.isfinite(history.drop(columns="model").to_numpy()).all()
    assert np.isfinite(training.predict_proba(net, x)).all()


def test_no_data_set_waits_for_the_tuner():
    assert training.bucketed(ids(), np.arange(50), 8, 3).options().autotune.enabled is False
