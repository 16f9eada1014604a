"""Names that load on first use are the same for Python and for type checkers, and the version is said in one place."""

from __future__ import annotations

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

import greenroom

ROOT = Path(__file__).parents[2]


def declared(module) -> set[str]:
    """What the `TYPE_CHECKING` block of a package imports from it by name."""
    [block] = [
        node
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom) and node.level]
    return {alias.asname or alias.name for node in imports for alias in node.names}


@pytest.mark.parametrize("name", ["greenroom.rtc", "greenroom.agents", "greenroom.api"])
def test_lazy_names_are_declared_for_type_checkers(name):
    module = importlib.import_module(name)
    eager = {
        alias.asname or alias.name
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = set(module.__all__) - eager - {"preload"}
    assert declared(module) == lazy
    for exported in module.__all__:
        assert getattr(module, exported) is not None


def test_the_version_is_said_once():
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert greenroom.__version__ == manifest["workspace"]["package"]["version"]
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
