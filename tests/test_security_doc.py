"""The table of attacks in docs/security.md names tests that exist, and has every test of an attack."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"^\| .+ \| .+ \| (tests/\S+\.py)::(\w+) \|$", TEXT, re.MULTILINE)


def names_in(path: Path) -> set[str]:
    """Return the names of a module's tests."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_test_in_the_table_is_there(path: str, name: str) -> None:
    assert name in names_in(ROOT / path)


def test_nothing_else_in_the_document_looks_like_a_test() -> None:
    assert TEXT.count(".py::") == len(NAMED)
    assert len(set(NAMED)) == len(NAMED)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/attacks").glob("test_*.py")), ids=lambda path: path.name
)
def test_every_attack_is_in_the_table(path: Path) -> None:
    named = {name for module, name in NAMED if ROOT / module == path}
    assert names_in(path) - named == set()
