"""A run's classifier as one ONNX file, and the engine that reads it: no TensorFlow, its first answer within seconds.

The graph is written straight from the weights, with ONNX Runtime's fused operators: converters turn Keras' products
into chains of reshapes that are neither faster nor worth rounding to int8. Taught in ``08_compression_and_serving``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from helpers import InputError, files, pretrained, training, weights
from helpers.training import keras

onnx, onnxruntime, quantization = map(training.Lazy, ("onnx", "onnxruntime", "onnxruntime.quantization"))
Classify = Callable[[Sequence[str]], np.ndarray]  # texts to probabilities (n, classes)
TOLERANCE = 1e-4  # the most that a probability may differ from Keras'
OPSET, FUSED, BATCH = 17, "com.microsoft", 32
FLOAT32, INT8 = "model.onnx", "int8.onnx"
ODD = ["", "?!", "a", "Rates rise. " * 9, "naïve CAFÉ № 5", "银行 keeps rates", "<b>x</b>\n\t\u200b"]
ODD += ["qzxv " * 40, "🙂 ok"]


class Graph:
    """An ONNX graph that is written operator by operator; an array among the inputs becomes a weight of it."""

    def __init__(self) -> None:
        self.nodes, self.weights, self.exact = [], [], []

    def __call__(self, kind: str, *inputs: Any, outputs: int = 1, **settings: Any) -> str:
        """Adds an operator; returns the name of its output, the last one where it has several."""
        names = list(inputs)
        for i, value in enumerate(inputs):
            if not isinstance(value, str):
                names[i] = f"w{len(self.weights)}"
                self.weights.append(onnx.numpy_helper.from_array(np.asarray(value), names[i]))
        made = [f"{kind}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, names, made, made[0], **settings))
        return made[-1]

    def dense(self, x: str, kernel: Any, bias: np.ndarray | None = None, exact: bool = False) -> str:
        """Adds a product with a kernel (in, out) or several in a row, and its bias; an ``exact`` one stays float32."""
        for part in kernel if isinstance(kernel, (tuple, list)) else (kernel,):
            x = self("MatMul", x, part)
            self.exact += [x] * exact
        return x if bias is None else self("Add", x, bias)

    def model(self, output: str, width: int) -> onnx.ModelProto:
        """Returns the whole: ids (n, length) int32 in, (n, width) float32 out."""
        helper, kinds = onnx.helper, onnx.TensorProto
        read = helper.make_tensor_value_info("ids", kinds.INT32, ["n", "length"])
        told = helper.make_tensor_value_info(output, kinds.FLOAT, ["n", width])
        graph = helper.make_graph(self.nodes, " ".join(["classifier", *self.exact]), [read], [told], self.weights)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def bert(
    arrays: dict[str, Any], heads: int, head: tuple[np.ndarray, np.ndarray] | None = None, mean: bool = False,
    exact_gelu: bool = True, int8_table: bool = False,
) -> onnx.ModelProto:  # fmt: skip
    """Returns BERT as an ONNX model of ids, padded on the right with 0.

    ``arrays`` are those of ``pretrained.arrays_of``, of as many layers as they name; a kernel may be two factors (low
    rank). ``head`` is a kernel (width, classes) and its bias, for probabilities; None gives the mean vectors of the
    texts. With ``mean`` the head reads these, at length one, and not the pooled [CLS].
    """
    g, width = Graph(), arrays["segment_embedding/embeddings"].shape[1]
    mask = g("Cast", g("Not", g("Equal", "ids", np.int32(0))), to=6)
    reach = g("Slice", g("Shape", "ids"), np.array([1]), np.array([2]))
    positions = g("Slice", arrays["position_embedding/embeddings"], np.array([0]), reach)
    read = _table(g, arrays["token_embedding/embeddings"], int8_table)
    x = g("Add", g("Add", read, positions), arrays["segment_embedding/embeddings"][0])
    norm = "embeddings_layer_norm"
    x = g("LayerNormalization", x, arrays[f"{norm}/gamma"], arrays[f"{norm}/beta"], epsilon=1e-12)
    for layer in range(len({name.split("/")[0] for name in arrays if name.startswith("transformer_layer_")})):
        part = {n.split("/", 1)[1]: a for n, a in arrays.items() if n.startswith(f"transformer_layer_{layer}/")}
        names = [f"self_attention_layer/{name}" for name in ("query", "key", "value")]
        packed = [np.concatenate([part[f"{name}/{kind}"] for name in names], axis=-1) for kind in ("kernel", "bias")]
        seen = g("Attention", x, *packed, mask, num_heads=heads, domain=FUSED)
        x = _add_norm(g, part, x, seen, "self_attention_layer/attention_output", "self_attention_layer_norm")
        wide = g.dense(x, part["feedforward_intermediate_dense/kernel"])
        gelu = "BiasGelu" if exact_gelu else "FastGelu"
        wide = g(gelu, wide, part["feedforward_intermediate_dense/bias"], domain=FUSED)
        # What the first layer's product reads has the largest outliers: rounding it costs more than all other products.
        x = _add_norm(g, part, x, wide, "feedforward_output_dense", "feedforward_layer_norm", exact=layer == 0)
    if head is not None and not mean:
        first = g("Gather", x, np.int64(0), axis=1)
        pooled = g("Tanh", g.dense(first, arrays["pooled_dense/kernel"], arrays["pooled_dense/bias"]))
    else:
        real = g("Unsqueeze", g("Cast", mask, to=1), np.array([2]))
        total = g("ReduceSum", g("Mul", x, real), np.array([1]), keepdims=0)
        pooled = g("Div", total, g("Max", g("ReduceSum", real, np.array([1]), keepdims=0), np.float32(1)))
        pooled = g("LpNormalization", pooled, axis=-1) if mean else pooled
    if head is None:
        return g.model(pooled, width)
    return g.model(g("Softmax", g.dense(pooled, *head)), len(head[1]))


def _add_norm(g: Graph, part: dict[str, Any], x: str, new: str, dense: str, norm: str, exact: bool = False) -> str:
    """A product and its bias, added to what went in, and layer normalisation of the sum."""
    new = g.dense(new, part[f"{dense}/kernel"], exact=exact)
    more = [part[f"{norm}/gamma"], part[f"{norm}/beta"], part[f"{dense}/bias"]]
    return g("SkipLayerNormalization", new, x, *more, epsilon=1e-12, domain=FUSED)


def lstm(network: keras.Sequential, int8_table: bool = False) -> onnx.ModelProto:
    """Returns an LSTM of 03 or 06, in one or both directions, its last or mean state, as an ONNX model of ids."""
    g, x, sequence, layers = Graph(), "ids", False, keras.layers
    mask = g("Not", g("Equal", "ids", np.int32(0)))
    lengths = g("ReduceSum", g("Cast", mask, to=6), np.array([1]), keepdims=0)
    for layer in network.layers:
        arrays = [np.array(w, "float32") for w in layer.get_weights()]
        if isinstance(layer, layers.Embedding) and layer.mask_zero:
            x = g("Transpose", _table(g, arrays[0], int8_table), perm=[1, 0, 2])
        elif isinstance(layer, (layers.LSTM, layers.Bidirectional)):
            sequence, units = layer.return_sequences, arrays[1].shape[0]
            order = np.r_[:units, 3 * units : 4 * units, units : 3 * units]  # ONNX has the gates i o f c, Keras i f c o
            kernel, recurrent = (np.stack([a[:, order].T for a in arrays[i::3]]) for i in (0, 1))
            bias = np.stack([np.r_[a[order], np.zeros_like(a)] for a in arrays[2::3]])
            way = "bidirectional" if len(arrays) == 6 else "forward"
            x = g("LSTM", x, kernel, recurrent, bias, lengths, outputs=1 if sequence else 2, direction=way,
                  hidden_size=units)  # fmt: skip
            perm = [2, 0, 1, 3] if sequence else [1, 0, 2]  # text first: (n, length, ways, units) or (n, ways, units)
            x = g("Reshape", g("Transpose", x, perm=perm), np.array([0, 0, -1] if sequence else [0, -1]))
        elif isinstance(layer, layers.GlobalAveragePooling1D) and sequence:
            total = g("ReduceSum", x, np.array([1]), keepdims=0)
            x = g("Div", total, g("Unsqueeze", g("Cast", lengths, to=1), np.array([1])))
        elif isinstance(layer, layers.Dense) and layer.activation.__name__ == "softmax":
            return g.model(g("Softmax", g.dense(x, *arrays)), len(arrays[1]))
        elif not isinstance(layer, (layers.Dropout, layers.SpatialDropout1D)):
            break
    raise InputError("This network is no LSTM as 03 and 06 make it: export a run of 03, 04 or 06.")


def _table(g: Graph, table: np.ndarray, int8: bool) -> str:
    """The vectors of the ids; as int8 with a scale for each row of the table, a quarter of its size."""
    if not int8:
        return g("Gather", table, "ids")
    scale = np.maximum(np.abs(table).max(1, keepdims=True), 1e-12) / 127
    rounded = g("Cast", g("Gather", np.round(table / scale).astype("int8"), "ids"), to=1)
    return g("Mul", rounded, g("Gather", scale.astype("float32"), "ids"))


def quantize(model: onnx.ModelProto, path: Path) -> None:
    """Writes a model with int8 products: a scale for each output of a kernel, those of the inputs found as it runs."""
    how = {"op_types_to_quantize": ["MatMul", "Attention", "LSTM"], "per_channel": True}
    how["weight_type"] = quantization.QuantType.QInt8
    how["reduce_range"] = any(node.op_type == "LSTM" for node in model.graph.node)  # 8 bits overflow without VNNI
    how |= {"nodes_to_exclude": model.graph.name.split()[1:], "extra_options": {"DefaultTensorType": 1}}
    quantization.quant_utils.add_pre_process_metadata(model)  # or it advises to optimise the graph, which needs none
    quantization.quantize_dynamic(model, path, **how)


class Engine:
    """A classifier in a folder that :func:`write` made: ``Engine(folder)(texts)`` gives probabilities (n, classes)."""

    def __init__(self, folder: str | Path, int8: bool = False, threads: int = 0) -> None:
        said = weights.read_json(Path(folder) / "engine.json")
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, threads
        path = Path(folder) / (INT8 if int8 else FLOAT32)
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        if "unit" in said:
            self._ids = lambda texts: training.encode(texts, said["vocabulary"], said["unit"], said["length"])
        else:
            words = weights.Tokenizer(weights.read_pieces(Path(folder) / "vocab.txt"), said["lowercase"])
            self._ids = lambda texts: words(texts, said["length"])

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the probabilities (n, classes) of n texts, or their vectors where the model has no head."""
        return training.by_length(lambda ids: self._session.run(None, {"ids": ids})[0], self._ids(texts), BATCH)


def write(
    out: Path, build: Callable[[bool], onnx.ModelProto], settings: dict[str, Any], pieces: Sequence[str] = (),
    reference: Classify | None = None,
) -> Path:  # fmt: skip
    """Writes an engine's folder, whole or not at all: float32 and int8, vocabulary, labels; returns it.

    ``build`` gives the graph, its table as int8 or not; ``settings`` are ``labels``, ``length``, and ``lowercase`` with
    BERT's ``pieces``, or ``unit`` and ``vocabulary``. A RuntimeError where float32 answers not as the ``reference``.
    """
    with files.whole_folder(out) as part:
        onnx.save(build(False), part / FLOAT32)
        quantize(build(True), part / INT8)
        files.write_json(part / "engine.json", settings)
        if pieces:
            files.write_atomic(part / "vocab.txt", "\n".join(pieces) + "\n")
        gap = np.abs(Engine(part)(ODD) - reference(ODD)).max() if reference else 0.0
        if not gap <= TOLERANCE:
            raise RuntimeError(f"The ONNX file differs from the network by {gap:.2g}.")
    return out


def export(folder: str | Path, saved: dict[str, Any] | None = None, fitted: Any = None) -> Path:
    """Writes the network of a run of 03, 04 or 08, or in its ``model/``, as an engine beside it; returns its folder.

    ``saved`` and ``fitted`` are those of :func:`load_network`.
    """
    folder = Path(folder) / "model" if (Path(folder) / "model").is_dir() else Path(folder)
    saved = saved or weights.read_json(folder / "classifier.json")
    network, words, answer = load_network(folder, saved, fitted)
    said = {"labels": saved["labels"], "length": saved["length"]}
    if not words:
        said |= {"unit": saved["unit"], "vocabulary": saved["vocabulary"]}
        return write(folder / "onnx", partial(lstm, network), said, reference=answer)
    if fitted:
        place, backbone, head, mean = "onnx-frozen", network, (fitted.coef.T, fitted.intercept), True
    else:
        place, backbone, head = "onnx", network.backbone, network.output_dense.get_weights()
        mean = pretrained.reads_mean(network)
    exact = backbone.transformer_layers[0].activation.__name__ == "gelu"
    build = partial(bert, pretrained.arrays_of(backbone), backbone.num_heads, head, mean, exact)
    return write(folder / place, build, said | {"lowercase": words.lowercase}, words.pieces, answer)


def load_network(
    folder: Path, saved: dict[str, Any], fitted: Any = None
) -> tuple[keras.Model, weights.Tokenizer | None, Classify]:
    """Returns the network that ``saved`` describes, BERT's tokenizer, and what gives texts their probabilities.

    With ``fitted``, a regression on frozen vectors, the network is the encoder that ``saved`` names.
    """
    if not fitted and "length" not in saved:
        raise InputError(f"{folder.parent.name} holds no network: name a run of 03, 04 or 06 that trained one.")
    length = saved["length"]
    if fitted:
        encoder, words = pretrained.load(saved["preset"])
        return encoder, words, lambda texts: fitted.predict_proba(pretrained.encode_ids(encoder, words(texts, length)))
    if saved["kind"] == "bert":
        bert, words = pretrained.load_classifier(folder, saved)
        return bert, words, lambda texts: training.predict_proba(bert, words(texts, length), 64, pretrained.inputs)
    network = keras.models.load_model(folder / "classifier.keras", compile=False)
    read = saved["vocabulary"], saved["unit"], length
    return network, None, lambda texts: training.predict_proba(network, training.encode(texts, *read))
