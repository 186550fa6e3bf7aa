"""The methods of notebook 09, on BERT and LSTM: equal to captum's on the same weights, complete, summed to words."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import functions_of, tiny_bert, tiny_lstm

from helpers import pretrained, training, weights

REFERENCE = json.loads(Path(__file__).with_name("reference_captum.json").read_text("utf-8"))["texts"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "goal", "bank", "##s", "<", "b", ">", "!"]
TEXTS = [["goals", "bank!"], ["<b>", "zebra", "-", "rate"], ["bank"] * 20, ["..."], ["Goal,"]]


def lesson(model, length, pieces=None, vocabulary=("", "[UNK]", "goal", "bank", "rate", "b")):
    """The notebook's functions on a BERT and its tokenizer, or on an LSTM."""
    names = {"tf": training.import_tensorflow(), "model": model, "pieces": pieces}
    names["embedding"] = model.backbone.token_embedding if pieces else model.layers[0]
    names["prepare"] = pretrained.inputs if pieces else lambda ids: ids
    names["settings"] = {"length": length, "unit": "word"}
    names["numbers"] = at = {piece: i for i, piece in enumerate(pieces.pieces if pieces else vocabulary)}
    names["frame"] = [[at[name]] if pieces else [] for name in ("[CLS]", "[SEP]")]
    found = functions_of("09", True, unknown=1, blank=at.get("[MASK]", 1), **names)
    found.logits, found.slopes = found.opened(model, found.embedding, found.prepare)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["first", "mean", "lstm"])
def test_a_network_opened_at_its_word_vectors_answers_as_before_and_its_parts_add_up(kind):
    texts = [" ".join(words) for words in TEXTS]
    if kind == "lstm":
        from keras import layers

        both = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
        found = lesson(tiny_lstm(6, 3, layers.SpatialDropout1D(0.4), both, layers.GlobalAveragePooling1D()), 12)
        whole = training.encode(texts, list(found.numbers), "word", 12)
    else:
        found = lesson(tiny_bert(len(PIECES), kind == "mean"), 12, weights.Tokenizer(PIECES, True))
        whole = found.pieces(texts, 12)
    ids, owners = found.split(TEXTS)
    expected = found.model.predict(found.prepare(ids), verbose=0)
    assert ids.tolist() == whole.tolist() and found.ask([]).shape == (0, 3)
    assert np.abs(found.ask(TEXTS) - expected).max() < 1e-5
    classes, blank = expected.argmax(axis=1), np.where(owners >= 0, found.blank, ids)
    ends = [found.logits(found.embedding(i), i).numpy()[np.arange(len(ids)), classes] for i in (ids, blank)]
    scores = found.integrated(TEXTS, classes, 64)
    assert [len(a) for a in scores] == [len(words) for words in TEXTS] and (scores[2][12:] == 0).all()  # cut off
    assert np.allclose([a.sum() for a in scores], ends[0] - ends[1], atol=1e-3)
    if kind != "lstm":
        states, attention = map(np.asarray, found.trace(ids))
        last = found.model.output_dense(pretrained.read_state(found.model, states[-1], ids != 0))
        assert len(states) == 3 and np.allclose(last, expected, atol=1e-5)
        flow = found.flow(attention)
        assert np.allclose(flow.sum(axis=2), 1, atol=1e-5) and (flow[:, 0][ids == 0] < 1e-6).all()


@pytest.mark.slow
def test_equal_to_captum_on_ten_texts():
    model, words = pretrained.classifier("minilm", 3, dropout=0.0)
    model.output_dense.set_weights([np.random.default_rng(0).normal(size=(384, 3)), np.zeros(3)])
    found, texts = lesson(model, 48, words), [item["text"].split() for item in REFERENCE]
    found.by_word = lambda scores, *_: scores  # captum's are of pieces
    ids, classes = found.split(texts)[0], np.array([item["class"] for item in REFERENCE])
    assert len(REFERENCE) == 10 and [row[row != 0].tolist() for row in ids] == [item["ids"] for item in REFERENCE]
    ours = {"integrated": found.integrated(texts, classes, 32), "gradient_input": found.gradient(texts, classes)}
    for name, scores in ours.items():
        for item, row in zip(REFERENCE, scores, strict=True):
            theirs = np.array(item[name])
            assert np.abs(row[: len(theirs)] - theirs).max() <= 1e-3 * np.abs(theirs).max(), (name, item["text"])
