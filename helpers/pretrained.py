"""BERT in KerasHub: loaded so that it equals its reference, used to encode and to fine-tune.

Taught in ``04_bert_finetune``. A ``preset`` is ``minilm`` (all-MiniLM-L6-v2), a local Hugging Face folder, a KerasHub
preset such as ``bert_base_zh``, or ``hf://owner/name``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helpers import InputError, training, weights
from helpers.files import whole_folder, write_json
from helpers.training import keras, keras_hub, tf
from helpers.weights import Tokenizer, tokenizer

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
SIZES = {  # what a BertBackbone is made of, and where Hugging Face's config.json says it
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
}


def load_new(preset: str = "minilm") -> tuple[keras.Model, Tokenizer]:
    """Returns a KerasHub ``BertBackbone`` and its tokenizer, equal to their reference; an InputError says why not."""
    if (folder := weights.find(preset)).is_dir():
        words = tokenizer(preset)
        return _read_backbone(folder), words
    try:
        backbone = keras_hub.models.BertBackbone.from_preset(preset)
        hub = keras_hub.tokenizers.BertTokenizer.from_preset(preset)
        words = Tokenizer(hub.get_vocabulary(), hub.lowercase)
    except Exception as error:  # three hubs, each with errors of its own
        told = f"PRESET={preset} could not be loaded ({(str(error).strip() or repr(error)).splitlines()[0][:160]})"
        raise InputError(f"{told}: use minilm, or a local folder of a BERT model.") from None
    if not preset.startswith(("bert_", "kaggle://")):  # weights of Hugging Face
        use_exact_gelu(backbone)
    return backbone, words


load = functools.lru_cache(maxsize=1)(load_new)
"""As :func:`load_new`, once for each preset: for encoding, never for fine-tuning, which changes the weights."""


def _read_backbone(folder: Path) -> keras.Model:
    """Writes the arrays of a folder into a new backbone: KerasHub's own converter wants other names in each version."""
    config, tensors = weights.read_config(folder), weights.read_tensors(folder)
    try:
        backbone = keras_hub.models.BertBackbone(**{ours: config[theirs] for ours, theirs in SIZES.items()})
        for variable in backbone.weights:
            array = tensors[_name(variable.path)]
            variable.assign((array.T if variable.name == "kernel" else array).reshape(variable.shape))
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{folder.name} is no whole BERT: {error} is missing or has another size.") from None
    use_exact_gelu(backbone)
    return backbone


def _name(path: str) -> str:
    """What Hugging Face calls a variable of KerasHub's backbone."""
    layer, kind = path.rsplit("/", 1)
    for ours, theirs in NAMES.items():
        layer = re.sub(f"(?:^|(?<=[.])){ours}", theirs, layer)
    return f"{layer}.{'bias' if kind in ('bias', 'beta') else 'weight'}"


def arrays_of(backbone: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a KerasHub BERT by their paths, kernels as (in, out)."""
    found = {v.path.split("backbone/")[-1]: np.array(v, "float32") for v in backbone.weights}
    width = backbone.hidden_dim
    return {k: a.reshape(width, width) if a.ndim == 3 else a.ravel() if "bias" in k else a for k, a in found.items()}


def save_backbone(
    folder: Path, backbone: keras.Model, words: Tokenizer, others: Mapping[str, np.ndarray] | None = None
) -> None:
    """Saves a ``BertBackbone`` with the exact GELU as a Hugging Face folder in float16, a preset for :func:`load_new`.

    A folder that is there is replaced. ``others`` are more arrays to keep, such as a head's, by Hugging Face's names.
    """
    from safetensors.numpy import save_file

    arrays = dict(others or {})
    for path, array in arrays_of(backbone).items():
        arrays[_name(path)] = array.T if path.endswith("kernel") else array
    config = {"model_type": "bert", "hidden_act": "gelu", "type_vocab_size": 2}
    config |= {theirs: getattr(backbone, ours) for ours, theirs in SIZES.items()}
    read = {"do_lower_case": words.lowercase, "tokenizer_class": "BertTokenizer"}
    with whole_folder(folder) as part:
        save_file({k: np.ascontiguousarray(a, "float16") for k, a in arrays.items()}, part / "model.safetensors")
        write_json(part / "config.json", config)
        write_json(part / "tokenizer_config.json", read)
        (part / "vocab.txt").write_text("\n".join(words.pieces) + "\n", "utf-8")


def use_exact_gelu(backbone: keras.Model) -> None:
    """Replaces KerasHub's tanh approximation of GELU in place: Hugging Face's BERT was trained with the exact one."""
    for layer in backbone.transformer_layers:
        layer.activation = keras.activations.gelu  # for whoever asks; the layer inside was built with the other one
        layer._feedforward_intermediate_dense.activation = layer.activation  # private: 0.26 to 0.32 have no argument


def inputs(token_ids: Any) -> dict[str, Any]:
    """Returns what a KerasHub BERT reads of ids (n, length): ids, segments (all 0) and padding mask."""
    token_ids = keras.ops.convert_to_tensor(token_ids, "int32")
    return {"token_ids": token_ids, "segment_ids": keras.ops.zeros_like(token_ids), "padding_mask": token_ids != 0}


def encode(texts: Sequence[str], preset: str = "minilm", length: int = 256) -> np.ndarray:
    """Returns sentence vectors (n, width) float32 of n texts, of which ``length`` word pieces are read."""
    backbone, words = load(preset)
    return encode_ids(backbone, words(texts, length))


def encode_ids(backbone: keras.Model, token_ids: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Returns means (n, width) of the last states over the tokens of padded ids (Reimers and Gurevych 2019)."""
    return training.by_length(pooling(backbone), token_ids, batch_size)


@functools.lru_cache(maxsize=2)
def pooling(backbone: keras.Model) -> Any:
    """Returns a compiled function from ids (n, length) to mean-pooled vectors (n, width)."""

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def pooled(ids: Any) -> Any:
        return mean_state(backbone(inputs(ids), training=False)["sequence_output"], ids != 0)

    return pooled


def mean_state(states: Any, real: Any, unit: bool = False) -> Any:
    """Returns the mean (n, width) of states (n, length, width) where ``real`` (n, length), ``unit``: at length one."""
    real = keras.ops.cast(real, states.dtype)[:, :, None]
    mean = keras.ops.sum(states * real, axis=1) / keras.ops.maximum(keras.ops.sum(real, axis=1), 1)
    return keras.ops.normalize(mean, axis=-1) if unit else mean


def classifier(
    preset: str, num_classes: int, dropout: float = 0.1, lora_rank: int = 0, pooling: str = "first"
) -> tuple[keras.Model, Tokenizer]:
    """Returns a KerasHub ``BertTextClassifier``, which reads :func:`inputs`, on new weights, and its tokenizer.

    Its head, a softmax on one state after ``dropout``, is random. It reads the pooled ``"first"`` state, that of [CLS],
    or the ``"mean"`` of all at length one. A ``lora_rank`` of 0 trains all weights; above 0 the encoder is
    frozen but for low-rank updates (Hu et al. 2021).
    """
    backbone, words = load_new(preset)
    if lora_rank:
        backbone.enable_lora(lora_rank)
    kind = keras_hub.models.BertTextClassifier if pooling == "first" else mean_classifier()
    return kind(backbone, num_classes, preprocessor=None, activation="softmax", dropout=dropout), words


@functools.cache
def mean_classifier() -> type:
    """Returns KerasHub's ``BertTextClassifier`` with a head on the mean state at length one, as sentence encoders have.

    It can start as a regression on the frozen vectors (linear probing, then fine-tuning: Kumar et al. 2022).
    """

    @keras.saving.register_keras_serializable("helpers")
    class MeanBertTextClassifier(keras_hub.models.BertTextClassifier):
        def __init__(
            self, backbone: Any, num_classes: int, preprocessor: Any = None, activation: Any = None,
            dropout: float = 0.1, **more: Any,
        ) -> None:  # fmt: skip
            self.backbone, self.preprocessor = backbone, preprocessor
            backbone.pooled_dense.trainable = False  # nothing reads it
            self.output_dropout = keras.layers.Dropout(dropout, name="classifier_dropout")
            self.output_dense = keras.layers.Dense(num_classes, activation, name="logits")
            states = backbone(backbone.input)["sequence_output"]
            mean = self.output_dropout(mean_state(states, backbone.input["padding_mask"], True))
            super(keras_hub.models.BertTextClassifier, self).__init__(backbone.input, self.output_dense(mean), **more)
            self.num_classes, self.activation = num_classes, keras.activations.get(activation)
            self.dropout = dropout

    return MeanBertTextClassifier


def reads_mean(model: keras.Model) -> bool:
    """Whether the head of a :func:`classifier` reads the mean state."""
    return isinstance(model, mean_classifier())


def read_state(model: keras.Model, states: Any, real: Any) -> Any:
    """Returns what the head of a :func:`classifier` reads of states (n, length, width) where ``real``: (n, width)."""
    return mean_state(states, real, True) if reads_mean(model) else model.backbone.pooled_dense(states[:, 0])


def compile_adamw(model: keras.Model, learning_rate: float, steps: Any) -> None:
    """Compiles with AdamW, 10 % warm-up and linear decay to 0 over ``steps``, a number or a variable (Devlin 2019)."""

    def rate() -> Any:
        return warmup_linear(keras.ops.cast(optimizer.iterations, "float32"), learning_rate, steps)

    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])


def warmup_linear(step: Any, peak: Any, steps: Any) -> Any:
    """Returns the learning rate at ``step``: up to ``peak`` in the first tenth of the steps, then down to 0."""
    up = keras.ops.maximum(steps * 0.1, 1.0)
    down = keras.ops.maximum((steps - step) / keras.ops.maximum(steps - up, 1.0), 0.0)
    return peak * keras.ops.minimum((step + 1) / up, down)


def batches(token_ids: np.ndarray, targets: np.ndarray, batch_size: int, seed: int | None = None) -> Any:
    """Returns batches by length, as :func:`helpers.training.bucketed`, in the form that BERT reads."""
    return training.bucketed(token_ids, targets, batch_size, seed).map(lambda ids, y: (inputs(ids), y))


def save_classifier(folder: Path, model: keras.Model, words: Tokenizer, labels: list[str], length: int) -> None:
    """Saves a fine-tuned :func:`classifier` as a KerasHub preset without optimizer, whole or not at all.

    ``labels`` are the class names in the order of the outputs; ``length`` word pieces of a text are read.
    """
    lower = words.lowercase
    hub = keras_hub.tokenizers.BertTokenizer(words.pieces, lowercase=lower, strip_accents=lower)
    model.preprocessor = keras_hub.models.BertTextClassifierPreprocessor(hub, sequence_length=length)
    model.compile("sgd", "sparse_categorical_crossentropy")
    exact = model.backbone.transformer_layers[0].activation is keras.activations.gelu
    settings = {"kind": "bert", "labels": labels, "length": length, "lowercase": lower, "exact_gelu": exact}
    with whole_folder(folder) as part:
        model.save_to_preset(str(part))
        write_json(part / "classifier.json", settings)
    model.preprocessor = None


def load_classifier(folder: Path, settings: dict[str, Any]) -> tuple[keras.Model, Tokenizer]:
    """Returns model and tokenizer that :func:`save_classifier` wrote; ``settings`` are its ``classifier.json``."""
    if settings.get("kind") != "bert":
        raise InputError(f"{folder.parent.name} holds no fine-tuned BERT: name a run of 04, or one of 06 that has one.")
    mean_classifier()  # so that KerasHub knows it
    model = keras_hub.models.BertTextClassifier.from_preset(str(folder), preprocessor=None)
    if settings["exact_gelu"]:
        use_exact_gelu(model.backbone)
    pieces = weights.read_pieces(folder / "assets" / "tokenizer" / "vocabulary.txt")
    return model, Tokenizer(pieces, settings["lowercase"])
