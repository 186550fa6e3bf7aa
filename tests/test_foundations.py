"""The functions of notebook 00 on random input, beyond what its own cells hold against Keras."""

import socket
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import functions_of

from helpers import InputError

TOOLS = {"np": np, "socket": socket, "InputError": InputError, "SEED": 0, "BATCH_SIZE": 32, "EPOCHS": 1}
LESSON = functions_of("00", **TOOLS)


def test_the_slopes_with_dropout_are_those_of_the_loss():
    rng = np.random.default_rng(1)
    x, y, weights = rng.normal(size=(6, 4)), np.eye(3)[rng.integers(0, 3, 6)], LESSON.fresh(4, 5, 3)
    keep, way = 2.0 * rng.integers(0, 2, (6, 5)), [rng.normal(size=w.shape) for w in weights]

    def loss(step):
        moved = [w + step * d for w, d in zip(weights, way, strict=True)]
        return -(y * np.log(LESSON.classify(moved, x, keep)[1])).sum() / 6

    slopes = LESSON.slopes_of(weights, x, y, "CE", keep)
    along = sum((g * d).sum() for g, d in zip(slopes, way, strict=True))
    assert np.isclose(along, (loss(1e-5) - loss(-1e-5)) / 2e-5)


@pytest.mark.parametrize("how", [{}, {"l1": 1e-4}, {"l2": 1e-4}, {"dropout": 0.2}])
def test_training_learns_rows_that_can_be_learnt_and_leaves_its_start_alone(how):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 4))
    start, kinds = LESSON.fresh(4, 8, 2), (x[:, 0] > 0).astype(int)
    before = [w.copy() for w in start]
    slopes = LESSON.batches(x, np.eye(2)[kinds], 20, **how)
    net, seen = LESSON.train(start, slopes, "Adam", 0.05, 100, lambda w: LESSON.log_loss(w, x, kinds).mean())
    assert all(map(np.array_equal, start, before)) and len(seen) == 10
    assert seen[-1] < 0.2 < seen[0] * 2 and (LESSON.classify(net, x)[1].argmax(1) == kinds).mean() > 0.95


def test_mnist_out_of_reach_is_one_sentence_and_leaves_no_trace():
    def load_data():
        assert 0 < socket.getdefaulttimeout() <= 10
        raise OSError("no route to host")

    mnist = SimpleNamespace(mnist=SimpleNamespace(load_data=load_data))
    before = socket.getdefaulttimeout()
    with pytest.raises(InputError, match=r"MNIST.*DIGITS") as caught:
        functions_of("00", **TOOLS, keras=SimpleNamespace(datasets=mnist)).load_mnist()
    assert "\n" not in str(caught.value) and socket.getdefaulttimeout() == before
