"""A run's classifier applied to new texts.

Models are read from plain arrays and JSON: a run folder can be passed on, and runs no code of its maker.
"""

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers import InputError, contenders, data, files, onnx_engine, training
from helpers.onnx_engine import Classify
from helpers.runs import find_run

CHUNK = 4096


def load_classifier(
    run: str | Path, model: str = "", export: bool = False, int8: bool = False
) -> tuple[Classify, list[str]]:
    """Returns a function from texts to probabilities (n, classes), and the class names, of a run of 03, 04 or 06.

    ``model`` names one of the run's others, such as ``"tfidf"`` or ``"frozen"``. ``export`` writes the engine of
    :mod:`helpers.onnx_engine` beside a network that has none; where there is one it answers, without TensorFlow, and
    with ``int8`` rounds to eight bits: faster on most processors, and nearly the same. An InputError says that the
    folder holds no such classifier, or a damaged one.
    """
    folder = find_run(run) / "model"
    if not (folder / "classifier.json").is_file():
        raise InputError(f"{run} holds no classifier (no model/classifier.json): name a run of 03, 04 or 06.")
    try:
        settings = json.loads((folder / "classifier.json").read_text("utf-8"))
        labels = settings["labels"]
        if len(set(labels)) < 2 or not all(isinstance(label, str) for label in labels):
            raise ValueError("its labels are not two or more texts")
        classify = _model(folder, model or settings.get("recommended", ""), settings, (export, int8))
        if np.shape(classify(["a text"])) != (1, len(labels)):
            raise ValueError(f"the model has another number of outputs than the {len(labels)} labels")
    except InputError:
        raise
    except Exception as error:  # files that are cut, empty or of another model fail in a dozen ways
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"The classifier in {run} is damaged ({reason}): run the notebook again.") from None
    return classify, labels


def _model(folder: Path, name: str, settings: dict[str, Any], how: tuple[bool, bool]) -> Classify:
    """A run's own network, or by its name: counting, frozen, a network of 06 in a folder of its own, or a mixture."""
    if not name:
        return _network(folder, settings, how)
    powers = settings.get("mixture", {})
    if name == "mixture" and powers:
        parts = [_model(folder, part, {}, how) for part in powers]
        return lambda texts: contenders.mix([part(texts) for part in parts], list(powers.values()))
    known = sorted({p.stem for p in folder.glob("*.npz")} | {p.parent.name for p in folder.glob("*/classifier.json")})
    if name not in known:
        others = " or ".join([*known, *(["mixture"] if powers else [])])
        raise InputError(f"The run has no model {name!r}: leave --model out, or use {others or 'another run'}.")
    if (folder / name / "classifier.json").is_file():
        return _model(folder / name, "", json.loads((folder / name / "classifier.json").read_text("utf-8")), how)
    fitted, said = contenders.load(folder, name)
    if fitted.kind == "words":
        return fitted.predict_proba
    return _network(folder, said, how, fitted)


def _network(folder: Path, settings: dict[str, Any], how: tuple[bool, bool], fitted: Any = None) -> Classify:
    """A network's engine, which is written if that is asked for and possible; where there is none, Keras answers."""
    (export, int8), place = how, folder / ("onnx-frozen" if fitted else "onnx")
    if export and not place.is_dir():  # not where it cannot be written, another process writes it, or the form is new
        with contextlib.suppress(OSError, InputError), files.locked(folder / f".{place.name}.lock", place.name):
            place.is_dir() or onnx_engine.export(folder, settings, fitted)
    if not place.is_dir():
        return onnx_engine.load_network(folder, settings, fitted)[2]
    return onnx_engine.Engine(place, int8)


@functools.lru_cache(maxsize=1)
def _loaded(run: str, model: str, int8: bool, mark: str) -> tuple[Classify, list[str]]:
    """The classifier of a run, read once for each ``mark`` by each process that labels."""
    return load_classifier(run, model, export=True, int8=int8)


def _label(which: tuple, texts: list[str]) -> np.ndarray:
    return _loaded(*which)[0](texts)


def predict_file(
    run: str, source: str, out: Path, text_column: str = "text", model: str = "", int8: bool = False,
    spread: Callable = map,
) -> int:  # fmt: skip
    """Labels the texts of a file with a run's classifier and writes them as CSV; returns the number of rows.

    The rows keep their order and their columns, and gain ``label`` and ``p_<label>``, under other names where the file
    has these already. ``out`` is written whole or not at all; what is labelled lies in a hidden folder beside it until
    then, from where the same call goes on after a stop. ``source`` has any form of ``DATA``; ``spread`` may be the
    ``map`` of a pool, or of a cluster that sees the run under the same path; all else is as of :func:`load_classifier`.
    """
    table, _ = data.read_table(source)
    texts = data.column(table, text_column, source, "name it with --text-column").fillna("").astype(str)
    try:
        target = out.resolve()
        if target.suffix.lower() in (".xlsx", ".xls", ".jsonl", ".json", ".parquet", ".tsv", ".gz", ".zip"):
            raise InputError(f"{out} would hold CSV: name it .csv.")
        if target.exists() and not target.is_file():
            raise InputError(f"{out} is no regular file: give --out a file's name.")
        if target.exists():
            target.open("r+").close()  # one that is read-only stays
        mark, place = _mark(run, (model, int8, text_column), table), target.with_name(f".{target.name}.parts")
        which = str(find_run(run)), model, int8, mark
        labels = _loaded(*which)[1]
        place.mkdir(exist_ok=True)
        names = _free_names(labels, table.columns)
        parts = {place / f"{mark}-{start}": start for start in range(0, len(table), CHUNK)}
        missing = {part: table.iloc[start : start + CHUNK] for part, start in parts.items() if not part.exists()}
        with training.bar(len(table), "labelled", "texts") as shown:
            shown.update(len(table) - sum(map(len, missing.values())))
            some = [texts[rows.index].tolist() for rows in missing.values()]
            answers = spread(functools.partial(_label, which), some)
            for (part, old), p in zip(missing.items(), answers, strict=True):
                new = pd.DataFrame(p.round(6), old.index, names[1:])
                new.insert(0, names[0], np.array(labels)[p.argmax(axis=1)])
                files.write_atomic(part, pd.concat([old, new], axis=1).to_csv(index=False, header=not parts[part]))
                shown.update(len(old))
        with files.whole(target) as file:
            file.writelines(part.read_bytes() for part in parts)
        shutil.rmtree(place)
        if empty := (texts.str.strip() == "").sum():
            print(f"{empty} of the texts are empty: their labels mean nothing.")
    except OSError as error:
        told = f"{str(out)[:200]!r} cannot be written ({error.strerror or error})"
        raise InputError(f"{told}: give --out another place.") from None
    return len(table)


def _mark(run: str, choices: tuple, table: pd.DataFrame) -> str:
    """Stands for the rows of a table and what labels them: the files of a run's models, and the choices made."""
    inside = (p for p in sorted((find_run(run) / "model").rglob("*")) if "onnx" not in p.parent.name + p.name)
    known = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in inside if p.is_file()]
    rows = pd.util.hash_pandas_object(table.astype(str), index=False).to_numpy().tobytes()
    return hashlib.sha256(repr((known, choices, CHUNK, list(table.columns))).encode() + rows).hexdigest()[:12]


def _free_names(labels: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names for the new columns that the file does not have; said where they are not the usual ones."""
    for end in ["", *(f"_{number}" for number in range(2, len(taken) + 3))]:
        names = [f"label{end}", *(f"p_{label}{end}" for label in labels)]
        if not set(names) & set(taken):
            break
    if end:
        print(f"The file has such columns already: the new ones end in {end}, such as {names[0]}.")
    return names
