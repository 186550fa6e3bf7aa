"""The hand maths of notebook 00: the functions of its cells on random input, against other ways to the result."""

import itertools
import socket
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import functions_of
from scipy.optimize import approx_fprime
from scipy.signal import correlate2d

from helpers import InputError


def load_functions(**names):
    """The functions that the notebook defines, by name, with ``names`` for what they use."""
    known = {"np": np, "socket": socket, "InputError": InputError, "SEED": 0, "BATCH_SIZE": 32, "EPOCHS": 1}
    return functions_of("00", **known | names)


@pytest.fixture(scope="module")
def lesson():
    return load_functions(sigmoid=lambda z: 1 / (1 + np.exp(-z)))


def nudged(loss, array):
    """Finite differences of ``loss()`` for each entry of ``array``, which is nudged in place."""

    def at(values):
        array.flat = values
        return loss()

    start = array.ravel().copy()
    slopes = approx_fprime(start, at)
    array.flat = start
    return slopes.reshape(array.shape)


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_of_a_line_is_the_slope_of_its_error(lesson, seed):
    rng = np.random.default_rng(seed)
    x, y, theta = rng.normal(size=7), rng.normal(size=7), rng.normal(size=2)
    assert np.allclose(lesson.gradient(theta, x, y), nudged(lambda: lesson.mse(theta, x, y), theta), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 12])
def test_descent_without_noise_finds_the_line(lesson, batch_size):
    x = np.linspace(-1, 1, 12)
    path = lesson.descend(x, 2 - 3 * x, 0.2, 400, batch_size)
    assert path.shape == (400 * -(-12 // batch_size) + 1, 2) and not path[0].any()
    assert np.allclose(path[-1], [2, -3], atol=1e-6)


def test_backward_is_the_slope_of_every_weight(lesson):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.integers(0, 2, (6, 1))
    weights = [rng.normal(size=shape) for shape in ((2, 10), (10,), (10, 1), (1,))]
    for g, w in zip(lesson.backward(weights, x, y), weights, strict=True):
        slopes = nudged(lambda: np.mean((lesson.forward(weights, x)[1] - y) ** 2), w)
        assert g.shape == w.shape and np.allclose(g, slopes, atol=1e-6)


@pytest.mark.parametrize(("kind", "dropped"), itertools.product(["CE", "MSE"], [False, True]))
def test_the_classifiers_slopes_are_those_of_its_loss(lesson, kind, dropped):
    rng = np.random.default_rng(1)
    x, y, weights = rng.normal(size=(6, 4)), np.eye(3)[rng.integers(0, 3, 6)], lesson.fresh(4, 5, 3)
    keep = 2.0 * rng.integers(0, 2, (6, 5)) if dropped else 1.0

    def loss():
        p = lesson.classify(weights, x, keep)[1]
        return -(y * np.log(p)).sum() / 6 if kind == "CE" else np.mean((p - y) ** 2)

    for g, w in zip(lesson.slopes_of(weights, x, y, kind, keep), weights, strict=True):
        assert g.shape == w.shape and np.allclose(g, nudged(loss, w), atol=1e-6)


@pytest.mark.parametrize("how", [{}, {"l1": 1e-4}, {"l2": 1e-4}, {"dropout": 0.2}])
def test_training_learns_rows_that_can_be_learnt_and_leaves_its_start_alone(lesson, how):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 4))
    start, kinds = lesson.fresh(4, 8, 2), (x[:, 0] > 0).astype(int)
    before = [w.copy() for w in start]
    slopes = lesson.batches(x, np.eye(2)[kinds], 20, **how)
    net, seen = lesson.train(start, slopes, "Adam", 0.05, 100, lambda w: lesson.log_loss(w, x, kinds).mean())
    assert all(map(np.array_equal, start, before)) and len(seen) == 10
    assert seen[-1] < 0.2 < seen[0] * 2 and (lesson.classify(net, x)[1].argmax(1) == kinds).mean() > 0.95


def test_the_first_step_of_adam_has_the_size_of_the_rate(lesson):
    g = np.array([1e-3, -50.0])
    assert np.allclose(lesson.step("Adam", g, 0.0, 0.0, 1)[0], np.sign(g), atol=1e-2)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_convolve_slides_over_every_place(lesson, size):
    rng = np.random.default_rng(size)
    picture, window = rng.normal(size=(8, 8)), rng.normal(size=(size, size))
    assert np.allclose(lesson.convolve(picture, window), correlate2d(picture, window, "valid"))


def test_a_paired_interval_is_that_of_the_differences(lesson):
    found = lesson.paired(np.array([1.0, 2, 3, 4]), np.ones(4))
    assert found["value"] == 1.5 and np.isclose(found["high"] - 1.5, 1.96 * np.std([0, 1, 2, 3], ddof=1) / 2)


def test_mnist_out_of_reach_is_one_sentence_and_leaves_no_trace():
    def load_data():
        assert 0 < socket.getdefaulttimeout() <= 10
        raise OSError("no route to host")

    mnist = SimpleNamespace(mnist=SimpleNamespace(load_data=load_data))
    before = socket.getdefaulttimeout()
    with pytest.raises(InputError, match=r"MNIST.*DIGITS") as caught:
        load_functions(keras=SimpleNamespace(datasets=mnist)).load_mnist()
    assert "\n" not in str(caught.value) and socket.getdefaulttimeout() == before
