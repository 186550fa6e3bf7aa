"""The networks of 06: what they learned from, and what they answered before."""

import numpy as np
import pytest

from helpers import InputError, networks, training

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


def test_the_lstm_learns_from_all_rows_in_the_end():
    network = networks.fit_lstm(*SOME, 600.0, 0)
    assert network.texts == len(TEXTS) and len(network.history) == 3
    after = network.classify(TEXTS[48:])
    assert network.held.shape == after.shape == (16, 2)
    assert not np.allclose(network.held, after, atol=1e-3)  # from before it learned from them


def test_without_time_for_three_epochs_it_is_left_out(monkeypatch):
    monkeypatch.setattr(networks, "LEAST_EPOCHS", 10**6)
    with pytest.raises(InputError, match=r"three epochs need about .*: give more MINUTES"):
        networks.fit_lstm(*SOME, 1.5, 0)
