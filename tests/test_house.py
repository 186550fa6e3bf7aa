"""The house of CONTRIBUTING.md holds: few lines, arrows that point down, no circle.

The numbers are ratchets, which may only be lowered. The aim is 4,600 lines in helpers, 4,500 in tests.
"""

import ast
import graphlib
import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
HELPERS, TESTS, LONGEST = 5473, 4500, 296
FLOORS = (
    "files weights text parameters alternatives",
    "data tables corpus plots runs",
    "training embeddings language_models",
    "pretrained",
    "evaluation significance checks contenders networks predict cards onnx_engine",
    "commands",
    "__main__",
)


def rooms() -> dict[str, Path]:
    """The modules of helpers by their dotted name, without packages' own files."""
    files = sorted((ROOT / "helpers").rglob("*.py"))
    names = {".".join(f.relative_to(ROOT / "helpers").with_suffix("").parts): f for f in files}
    return {name: file for name, file in names.items() if not name.endswith("__init__")}


def imports(room: str) -> set[str]:
    """The rooms that a room imports, within functions too."""
    known, found = rooms(), set()
    for node in ast.walk(ast.parse(known[room].read_text("utf-8"))):
        assert not getattr(node, "level", 0), f"{room}: a relative import"
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "helpers":
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("helpers.") for name in found} & known.keys()


def floor(room: str) -> int:
    """The floor of a room; all commands share one."""
    return next(i for i, names in enumerate(FLOORS) if room.split(".")[0] in names.split())


def lines(file: Path) -> int:
    """All lines of a file."""
    return len(file.read_text("utf-8").splitlines())


def test_helpers_are_thin():
    sizes = {name: lines(file) for name, file in rooms().items()}
    assert sum(map(lines, (ROOT / "helpers").rglob("*.py"))) <= HELPERS  # packages' own files, too
    assert {name: size for name, size in sizes.items() if size > LONGEST} == {}


def test_tests_are_few():
    assert sum(lines(file) for file in (ROOT / "tests").rglob("*.py")) <= TESTS


def test_every_room_has_a_floor_and_arrows_point_down():
    assert {name for name in rooms() if name.split(".")[0] not in " ".join(FLOORS).split()} == set()
    arrows = {(room, other) for room in rooms() for other in imports(room)}
    assert {(a, b) for a, b in arrows if floor(a) < floor(b)} == set()


def test_no_circle():
    graphlib.TopologicalSorter({room: imports(room) for room in rooms()}).prepare()  # a CycleError names it


def test_the_lesson_is_in_the_notebooks():
    """Helpers, docstrings and all, have fewer lines than the notebooks' code cells."""
    books = [json.loads(file.read_text("utf-8")) for file in (ROOT / "notebooks").glob("*.ipynb")]
    cells = ["".join(cell["source"]) for book in books for cell in book["cells"] if cell["cell_type"] == "code"]
    code = [line for cell in cells for line in cell.splitlines() if line.strip()]
    assert sum(map(lines, rooms().values())) < len(code)
