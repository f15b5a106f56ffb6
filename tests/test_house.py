"""The rules of the house: who may import whom, and what a room is called."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hyperagg"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room may import the rooms above it; rooms on one line know nothing of each other.
ORDER = [
    {"positions", "masks", "atomic", "prefetch", "lines", "threads"},
    {"ops"},
    {"layers"},
    {"text"},
    {"data"},
    {"models", "transformers"},
    {"training"},
    {"analysis"},
    {"studies"},
    {"benchmarks"},
    {"keras", "sklearn"},
    {"cli"},
]
FORBIDDEN = {
    "ops": {"positions", "atomic"},
    "layers": {"models"},
    "models": {"data", "training", "text"},
    "transformers": {"data", "text"},
    "keras": {"ops", "layers", "models", "data", "training", "studies"},
}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "hyperagg":
                names = [f"hyperagg.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("hyperagg.")}
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path):
    own = room(path)
    if own == "__init__":
        return
    level = next(i for i, rooms in enumerate(ORDER) if own in rooms)
    allowed = set().union(*ORDER[:level]) | {own}
    assert imported_rooms(path) <= allowed - FORBIDDEN.get(own, set())


def test_every_room_has_a_place():
    rooms = {room(path) for path in MODULES} - {"__init__"}
    assert rooms <= set().union(*ORDER)


def test_no_module_is_named_utils():
    assert not [path for path in MODULES if path.stem in {"utils", "util", "helpers", "misc"}]


def test_no_pickle():
    for path in MODULES:
        text = path.read_text("utf-8")
        assert "import pickle" not in text and "torch.save" not in text and "torch.load" not in text
