"""Attributions: equal to captum's on the same weights, complete, summed to words, for BERT and for an LSTM."""

import json
from pathlib import Path

import numpy as np
import pytest

from helpers import attributions, pretrained, training, weights

REFERENCE = json.loads(Path(__file__).with_name("reference_captum.json").read_text("utf-8"))["texts"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "goal", "bank", "##s", "<", "b", ">", "!"]
TEXTS = [["goals", "bank!"], ["<b>", "zebra", "goal"], ["bank"] * 20, [""]]
VOCABULARY = ["", "[UNK]", "goal", "bank", "rate", "b"]


@pytest.fixture(scope="module", params=["first", "mean"])
def bert(request):
    """A BERT with two layers, 8 wide, with large random weights."""
    training.import_tensorflow()
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(len(PIECES), 2, 2, 8, 16, max_sequence_length=16)
    kind = keras_hub.models.BertTextClassifier if request.param == "first" else pretrained.mean_classifier()
    model = kind(backbone, 3, preprocessor=None, activation="softmax")
    for v in model.weights:
        v.assign(np.random.default_rng(1).normal(size=v.shape, scale=0.5))
    return model, weights.Tokenizer(PIECES, True)


@pytest.fixture(scope="module", params=["last", "mean"])
def lstm(request):
    training.import_tensorflow()
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    last = [layers.LSTM(4)]
    mean = [layers.SpatialDropout1D(0.4), layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.GlobalAveragePooling1D(), layers.Dropout(0.5)]  # fmt: skip
    form = last if request.param == "last" else mean
    start = layers.Embedding(len(VOCABULARY), 4, mask_zero=True, embeddings_initializer="normal")
    return keras.Sequential([keras.Input((None,), dtype="int32"), start, *form, layers.Dense(3, activation="softmax")])


def test_equal_to_captum_on_ten_texts():
    model, words = pretrained.classifier("minilm", 3, dropout=0.0)
    kernel = np.random.default_rng(0).normal(size=(384, 3))
    model.output_dense.set_weights([kernel.astype("float32"), np.zeros(3, "float32")])
    reader = attributions.of_bert(model, words, 48)
    ids, owners = reader.split([item["text"].split() for item in REFERENCE])
    classes = np.array([item["class"] for item in REFERENCE])
    assert len(REFERENCE) == 10 and [row[row != 0].tolist() for row in ids] == [item["ids"] for item in REFERENCE]
    found = {
        "integrated": attributions.integrated(reader, ids, owners, classes, 32)[0],
        "gradient_input": attributions.gradients(reader, ids, classes)[0],
    }
    for name, ours in found.items():
        for item, row in zip(REFERENCE, ours, strict=True):
            theirs = np.array(item[name])
            assert np.abs(row[: len(theirs)] - theirs).max() <= 1e-3 * np.abs(theirs).max(), (name, item["text"])


def test_a_reader_of_bert_answers_as_the_model_and_is_complete(bert):
    reader = attributions.of_bert(*bert, 12)
    ids, owners = reader.split(TEXTS)
    whole = bert[1]([" ".join(words) for words in TEXTS], 12)
    assert ids.shape == whole.shape and (ids == whole).all()
    expected = training.predict_proba(bert[0], whole, 64, pretrained.inputs)
    assert np.abs(reader(TEXTS) - expected).max() < 1e-5
    assert reader([]).shape == (0, 3)
    classes = expected.argmax(axis=1)
    scores, whole = attributions.integrated(reader, ids, owners, classes, 64)
    assert np.allclose(scores.sum(axis=1), whole, atol=1e-3)
    assert (scores[owners < 0] == 0).all()  # nothing is said of [CLS], [SEP] and padding
    by_word = attributions.to_words(scores, owners, TEXTS)
    assert [len(a) for a in by_word] == [len(words) for words in TEXTS]
    assert np.allclose([a.sum() for a in by_word], scores.sum(axis=1), atol=1e-5)
    assert (by_word[2][10:] == 0).all()  # cut off


def test_the_trace_ends_where_the_answer_is_and_rollout_is_a_share(bert):
    reader = attributions.of_bert(*bert, 12)
    ids = reader.split(TEXTS)[0]
    states, heads, attention = map(np.asarray, reader.trace(ids))
    assert states.shape == (3, *ids.shape, 8) and attention.shape == (2, len(ids), 2, ids.shape[1], ids.shape[1])
    logits = np.asarray(reader.logits(reader.table[ids], ids))
    assert np.allclose(heads[-1] - heads[-1].mean(axis=1, keepdims=True), logits, atol=1e-5)
    flow = attributions.rollout(attention)
    assert np.allclose(flow.sum(axis=1), 1, atol=1e-5) and (flow[ids == 0] < 1e-6).all()


def test_a_reader_of_an_lstm_answers_as_the_network_and_is_complete(lstm):
    reader = attributions.of_lstm(lstm, VOCABULARY, "word", 12)
    texts = [["Goal,", "zebra", "-", "rate"], ["bank"] * 20, ["..."], ["b"]]
    ids, owners = reader.split(texts)
    assert owners[0].tolist()[:3] == [0, 1, 3] and reader.trace is None
    expected = training.predict_proba(lstm, training.encode([" ".join(t) for t in texts], VOCABULARY, "word", 12))
    assert np.abs(reader(texts) - expected).max() < 1e-5
    scores, whole = attributions.integrated(reader, ids, owners, np.array([0, 1, 2, 0]), 32)
    assert np.allclose(scores.sum(axis=1), whole, atol=1e-4)
