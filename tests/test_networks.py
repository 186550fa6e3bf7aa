"""The networks of 06: what they learned from, and what they answered before."""

from functools import partial

import numpy as np
import pytest
from conftest import tiny_bert

from helpers import InputError, networks, pretrained, training, weights

Y = np.arange(64) % 2
TEXTS = [" ".join(["goal team match", "bank rate loan"][label].split()[i % 3 :]) for i, label in enumerate(Y)]
pytestmark = pytest.mark.filterwarnings("ignore:Even though")  # batches are made by compiled functions, as always
SOME = TEXTS[:48], Y[:48], TEXTS[48:], Y[48:], "word", ["sport", "money"]


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Three epochs, step by step: compiling the steps would take longer than they do."""
    monkeypatch.setattr(networks, "LSTM_EPOCHS", 3)
    tf = training.import_tensorflow()
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.slow
def test_the_lstm_learns_from_all_rows_in_the_end():
    network = networks.fit_lstm(*SOME, 600.0, 0)
    assert network.texts == len(TEXTS) and len(network.history) == 3
    after = network.classify(TEXTS[48:])
    assert network.held.shape == after.shape == (16, 2)
    assert not np.allclose(network.held, after, atol=1e-3)  # from before it learned from them


def test_without_time_for_three_epochs_it_is_left_out(monkeypatch):
    monkeypatch.setattr(networks, "LEAST_EPOCHS", 10**6)
    with pytest.raises(InputError, match=r"three epochs need .*: give more MINUTES"):
        networks.fit_lstm(*SOME, 1.5, 0)


@pytest.mark.slow
def test_bert_begins_at_the_regression_and_the_time_decides_how_long_it_learns(monkeypatch):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "goal", "bank", "rain"]
    words, y, model = weights.Tokenizer(pieces, True), np.arange(60) % 3, tiny_bert(len(pieces), True)
    texts = [" ".join(pieces[5 + label :] * (1 + i // 30)) for i, label in enumerate(y)]
    ids, head = words(texts, 8), [np.random.default_rng(1).normal(size=(8, 3)), np.zeros(3)]
    monkeypatch.setattr(pretrained, "classifier", lambda *_, **__: (model, words))
    model.output_dense.set_weights(head)
    expected = training.predict_proba(model, ids[48:], 64, pretrained.inputs)
    monkeypatch.setattr(networks, "BERT_RATE", 0.0)
    fit = partial(networks.fit_bert, "", ids[:48], y[:48], ids[48:], y[48:], 0, words, list("abc"), head)
    network = fit(600.0, 0)
    assert network.texts == 60 and len(network.history) == networks.BERT_EPOCHS
    assert np.allclose(network.held, expected, atol=1e-5)
    with pytest.raises(InputError, match=r"one pass over all texts needs about .*, 0 s are left for it: give more"):
        fit(-60.0, 0)
