"""The counting classifier, the frozen encoder's head, the mixture, and their files without pickle."""

import numpy as np
import pytest

from helpers import contenders, data


@pytest.fixture(scope="module")
def fitted():
    splits = data.load("news_en")
    some = splits.train.iloc[:400]
    y, held = (np.searchsorted(splits.labels, part["label"]) for part in (some, splits.validation))
    model = contenders.fit_words(list(some["text"]), y, list(splits.validation["text"]), held, "word")
    return model, list(splits.test["text"][:50])


def test_words_are_tuned_on_validation_rows(fitted):
    model, texts = fitted
    assert len(model.tried) >= 5 and model.C in set(model.tried["C"])
    best = model.tried["accuracy"].max()
    assert model.tried.set_index("C").loc[model.C, "accuracy"] == best > 0.35
    p = model.predict_proba(texts)
    assert p.shape == (50, 10) and np.allclose(p.sum(1), 1)
    assert model.predict_proba([]).shape == (0, 10)


def test_saved_without_pickle_and_loaded_the_same(fitted, tmp_path):
    model, texts = fitted
    contenders.save(tmp_path, "tfidf", model, labels=["a"], length=3)
    again, settings = contenders.load(tmp_path, "tfidf")
    assert settings == {"labels": ["a"], "length": 3}
    assert np.allclose(again.predict_proba(texts), model.predict_proba(texts), atol=5e-3)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".npz"}
    np.savez(tmp_path / "tfidf.npz", coef=np.zeros((2, 3)), intercept=np.zeros(2))
    with pytest.raises(KeyError):
        contenders.load(tmp_path, "tfidf")


@pytest.mark.parametrize(
    ("unit", "texts"), [("word", [":)", ":(", ":) :)", "..."]), ("character", ["好", "坏", "好好", "坏坏"])]
)
def test_texts_without_words_and_two_classes(unit, texts):
    y = np.array([0, 1, 0, 1])
    model = contenders.fit_words(texts, y, texts, y, unit)
    assert model.predict_proba(texts).argmax(1).tolist() == [0, 1, 0, 1]
    assert np.isfinite(model.predict_proba(["\u200b", "unseen"])).all()


def test_fitted_again_on_more_rows_with_the_same_strength(fitted):
    model, _ = fitted
    splits = data.load("news_en")
    y = np.searchsorted(splits.labels, splits.train["label"])
    again = contenders.refit(model, list(splits.train["text"]), y)
    truth = np.searchsorted(splits.labels, splits.test["label"])
    right = [(m.predict_proba(list(splits.test["text"])).argmax(1) == truth).mean() for m in (model, again)]
    assert again.C == model.C and again.texts == 1280 and right[1] > right[0]


def test_in_a_short_time_fewer_strengths_and_rows_are_tried(monkeypatch):
    rng = np.random.default_rng(0)
    y = np.r_[np.repeat(np.arange(3), 300), 3]
    texts = [f"word{label} other{rng.integers(50)}" for label in y]
    monkeypatch.setattr(contenders, "CHOICE", 100)
    model = contenders.fit_words(texts, y, texts[:50], y[:50], "word", seconds=0.0)
    assert len(model.tried) == 1 and model.texts < len(y) and model.coef.shape[0] == 4
    assert (model.predict_proba(texts).argmax(1) == y)[:-1].mean() > 0.95
    for most, is_all in ((3000, True), (1000, False)):  # memory, too, has an end
        monkeypatch.setattr(contenders, "MOST_COUNTS", most)
        model = contenders.fit_words(texts, y, texts[:50], y[:50], "word")
        assert len(model.counts) == 1 and (model.texts == len(y)) == is_all


def test_weights_by_class_find_the_rare_one():
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.08).astype(int)
    texts = [("rare " if label and rng.random() < 0.7 else "") + f"w{rng.integers(20)}" for label in y]
    fitted = [contenders.fit_words(texts, y, texts, y, "word", balanced) for balanced in (False, True)]
    found = [model.predict_proba(texts).argmax(1)[y == 1].mean() for model in fitted]
    assert found[1] > found[0] > 0


def test_threads_share_a_matrix_that_none_of_them_changes(monkeypatch):
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    seen, fit = [], LogisticRegression.fit
    x = sparse.csr_matrix((np.ones(6), [2, 0, 2, 1, 1, 0], [0, 2, 4, 6]), (3, 3))  # as counted: places not in order
    monkeypatch.setattr(LogisticRegression, "fit", lambda *a: seen.append(a[1].has_canonical_format) or fit(*a))
    assert contenders._fit("words", x, np.arange(3), 10.0, False)[0].shape == (3, 3) and seen == [True] * 3
