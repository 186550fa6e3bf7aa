"""A network as an ONNX file: equal to Keras, on odd texts, without TensorFlow."""

import shutil

import numpy as np
import pytest
from conftest import tiny_bert, tiny_lstm

from helpers import contenders, onnx_engine, predict, pretrained, training, weights

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2028", "goal", "bank", "cafe", "rate", "a", "b", "##s", "<"]
TEXTS = ["goal bank", "", "café CAFÉ rates", "银行 b", "goal " * 40, "\u2028 a\x00b", "<b>\n", "🙂", "rate goals"]


@pytest.fixture(scope="module")
def lstm_runs(tmp_path_factory):
    """A run for each form of LSTM that 03 and 06 make."""
    layers = training.keras.layers
    mean = [layers.SpatialDropout1D(0.4), layers.Bidirectional(layers.LSTM(3, return_sequences=True))]
    mean += [layers.GlobalAveragePooling1D(), layers.Dropout(0.5)]
    forms = {"last": [layers.LSTM(4)], "both": [layers.Bidirectional(layers.LSTM(3))], "mean": mean}
    runs, words = {}, ["", "[UNK]", "goal", "bank", "rate", "a"]
    for name, form in forms.items():
        runs[name], network = tmp_path_factory.mktemp(name), tiny_lstm(6, 3, *form)
        training.save_classifier(runs[name] / "model", network, words, ["x", "y", "z"], unit="word", length=12)
    return runs


@pytest.fixture(scope="module", params=["first", "mean"])
def bert_run(request, tmp_path_factory):
    """A run of 04 or 06: BERT with two layers, 8 wide, and the frozen encoder beside it."""
    model, folder = tiny_bert(len(PIECES), request.param == "mean"), tmp_path_factory.mktemp("bert")
    pretrained.save_classifier(folder / "model", model, weights.Tokenizer(PIECES, True), ["x", "y", "z"], 32)
    return folder


@pytest.mark.parametrize("form", ["last", "both", "mean"])
def test_an_lstm_answers_as_keras_does(lstm_runs, form):
    expected = predict.load_classifier(lstm_runs[form])[0](TEXTS)
    assert np.ptp(expected, axis=0).max() > 0.01
    place = onnx_engine.export(lstm_runs[form])
    assert np.abs(onnx_engine.Engine(place)(TEXTS) - expected).max() < 1e-5
    assert np.abs(onnx_engine.Engine(place, int8=True)(TEXTS) - expected).max() < 0.05


def test_bert_answers_as_keras_does(bert_run):
    expected = predict.load_classifier(bert_run)[0](TEXTS)
    assert np.ptp(expected, axis=0).max() > 0.1
    place = onnx_engine.export(bert_run)
    engine, rounded = onnx_engine.Engine(place), onnx_engine.Engine(place, int8=True)
    assert np.abs(engine(TEXTS) - expected).max() < 1e-4
    assert 0 < np.abs(rounded(TEXTS) - expected).max() < 0.2
    assert np.abs(engine(TEXTS[::-1] * 9)[:9] - expected[::-1]).max() < 1e-4
    by_engine, _ = predict.load_classifier(bert_run)
    assert isinstance(by_engine, onnx_engine.Engine)


def test_a_frozen_encoder_answers_as_its_contender(bert_run, monkeypatch):
    model, words = tiny_bert(len(PIECES), True), weights.Tokenizer(PIECES, True)
    monkeypatch.setattr(pretrained, "load", lambda preset: (model.backbone, words))
    y = np.arange(9) % 3
    vectors = pretrained.encode_ids(model.backbone, words(TEXTS, 32))
    fitted = contenders.fit_frozen(vectors, y, vectors, y)
    contenders.save(bert_run / "model", "frozen", fitted, labels=["x", "y", "z"], preset="toy", length=32)
    loaded, saved = contenders.load(bert_run / "model", "frozen")
    place = onnx_engine.export(bert_run, saved, loaded)
    expected = loaded.predict_proba(vectors)
    assert np.abs(onnx_engine.Engine(place)(TEXTS) - expected).max() < 1e-4
    model.output_dense.set_weights([fitted.coef.T, fitted.intercept])  # where 06 begins to fine-tune
    said = training.predict_proba(model, words(TEXTS, 32), 64, pretrained.inputs)
    assert np.abs(said - fitted.predict_proba(vectors)).max() < 1e-5
    by_name, _ = predict.load_classifier(bert_run, "frozen", export=True)
    assert isinstance(by_name, onnx_engine.Engine)


def test_low_rank_is_equal_where_nothing_is_cut():
    import onnxruntime

    backbone, ids = tiny_bert(len(PIECES), True).backbone, weights.Tokenizer(PIECES, True)(TEXTS, 32)
    arrays = pretrained.arrays_of(backbone)
    name = "transformer_layer_1/feedforward_output_dense/kernel"
    left, middle, right = np.linalg.svd(arrays[name], full_matrices=False)
    answers = []
    for kernel in (arrays[name], (left * middle, right)):
        raw = onnx_engine.bert(arrays | {name: kernel}, 2).SerializeToString()
        session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {"ids": ids})[0])
    assert np.abs(answers[0] - pretrained.encode_ids(backbone, ids)).max() < 1e-4
    assert np.abs(answers[1] - answers[0]).max() < 1e-4


def test_an_engine_that_differs_from_its_network_is_not_written(lstm_runs, tmp_path, monkeypatch):
    run = shutil.copytree(lstm_runs["last"], tmp_path / "run", ignore=shutil.ignore_patterns("onnx"))
    monkeypatch.setattr(training, "predict_proba", lambda *a: np.zeros((len(onnx_engine.ODD), 3)))
    with pytest.raises(RuntimeError, match="differs from the network"):
        onnx_engine.export(run)
    assert not (run / "model" / "onnx").exists()
