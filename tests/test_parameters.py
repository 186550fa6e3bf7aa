"""The parameters cell: what is read, what is accepted, and the sentence for everything else."""

import ast
import math

import pytest
from conftest import PARAMETERS
from hypothesis import given, strategies

from helpers import InputError, parameters

DECLARED = parameters.parse(PARAMETERS)


VALUES = {
    "EPOCHS": [("5", 5), (5.0, 5)],
    "RATE": [("1e-3", 0.001), (1, 1.0)],
    "SHUFFLE": [("false", False), ("TRUE", True)],
    "UNIT": [("character", "character")],
    "NOTE": [(text, text) for text in ("新闻 \"a=b\" {x} # y\n'z'", "007", "nan")],
    "SIZES": [("[1, 2]", [1, 2]), ("8", [8]), ((4, 5), [4, 5])],
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_converted_to_the_declared_type(name):
    for text, value in VALUES[name]:
        found = DECLARED[name].accept(text)
        assert (found, type(found)) == (value, type(value))


RANGES = {  # a comment: numbers that it admits, and others
    "1 to 9": ((1, 9), (0, 10)),
    "-1 to 1": ((-1, 0, 1), (-2, 2)),
    "0.1 to 0.5 of them": ((0.1, 0.5), (0.09, 0.6)),
    "at least 1": ((1, 99), (0, -1)),
    "at most 3": ((3, -5), (4,)),
    "above 0, below 1": ((1e-9, 0.5), (0, 1)),
    "1 to 10,000, 12 a day": ((1, 500, 10_000), (0, 10_001)),
    "1 to 10_000": ((500,), (10_001,)),
    "at least 2, 1,000 is usual": ((2, 5000), (1,)),
    "between version2 to 3x": ((0, 99), ()),
}


@pytest.mark.parametrize("comment", RANGES)
def test_ranges_are_read_from_the_comment(comment):
    (good, bad), parameter = RANGES[comment], parameters.Parameter("RATE", "float", 0.0, comment)
    assert [parameter.accept(x) for x in good] == list(good)
    for value in bad:
        with pytest.raises(InputError, match=r"RATE=.* is out of range"):
            parameter.accept(value)


def test_yaml_does_not_guess_types(notebook, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("RATE: 1e-3\nNOTE: no\nSIZES: [017, 2]\nSHUFFLE: false\n", "utf-8")
    found = parameters.resolve(notebook(), parameters.load_file(path))
    assert (found["RATE"], found["NOTE"], found["SIZES"]) == (0.001, "no", [17, 2])
    assert found["SHUFFLE"] is False
    path = tmp_path / "p.json"
    path.write_text('\ufeff{"NOTE": "新闻", "SIZES": [3]}', "utf-8")
    assert parameters.load_file(path) == {"NOTE": "新闻", "SIZES": [3]}


def test_a_list_may_be_given_bit_by_bit(notebook):
    pairs = [("SIZES", "1"), ("NOTE", "x"), ("SIZES", "[2, 3]")]
    given = parameters.resolve(notebook(), parameters.from_pairs(DECLARED, pairs))
    assert (given["SIZES"], given["NOTE"]) == ([1, 2, 3], "x")


def test_the_table_has_a_line_for_each(notebook):
    lines = parameters.describe(notebook("x = EPOCHS")).splitlines()
    assert len(lines) == 1 + len(DECLARED)
    assert lines[1].split() == ["EPOCHS", "int", "3", "passes", "over", "the", "texts,", "1", "to", "500"]


LITERALS = {
    "int": strategies.integers(-(2**32) + 1, 2**32 - 1),
    "float": strategies.floats(allow_nan=False, allow_infinity=False),
    "bool": strategies.booleans(),
    "str": strategies.text(strategies.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    "list[int]": strategies.lists(strategies.integers(-99, 99)),
    "list[str]": strategies.lists(strategies.text("ab c新\"'\\\n")),
}


@given(strategies.sampled_from(list(LITERALS)).flatmap(lambda k: strategies.tuples(strategies.just(k), LITERALS[k])))
def test_every_literal_survives_the_cell_and_the_command_line(case):
    kind, value = case
    parameter = parameters.parse(f"A: {kind} = {value!r}  # anything = here")["A"]
    assert parameter.default == value
    assert parameter.accept(value) == value
    assert parameter.accept(value if isinstance(value, str) else repr(value)) == value


@given(strategies.sampled_from(list(DECLARED)), strategies.text() | strategies.floats() | strategies.integers())
def test_any_value_is_accepted_as_declared_or_refused_in_one_sentence(name, value):
    parameter = DECLARED[name]
    try:
        found = parameter.accept(value)
    except InputError as error:
        assert "\n" not in str(error)
        assert str(error).endswith(".")
        return
    assert parameter.accept(found) == found
    assert ast.literal_eval(repr(found)) == found
    assert not isinstance(found, float) or math.isfinite(found)
