"""Imports of agents, plugins and the command line point downwards, none goes round in a circle, and privates stay private."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import greenroom

PACKAGE = Path(greenroom.__file__).parent
MAY_USE = {
    "agents": (
        "greenroom.agents",
        "greenroom.api",
        "greenroom.logs",
        "greenroom.processes",
        "greenroom.rtc",
        "greenroom.tasks",
    ),
    "plugins": (
        "greenroom.agents.speech",
        "greenroom.extras",
        "greenroom.models",
        "greenroom.plugins",
        "greenroom.tasks",
    ),
    "cli": ("greenroom",),
}
"""What the files of a package may import of ours, anywhere in them. A lone `greenroom` is there for the version."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
OURS = [name for name in MODULES if name.split(".")[1:2] in (["agents"], ["plugins"], ["cli"])]


@cache
def syntax(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def imports(name: str) -> set[str]:
    """The modules of ours that a file imports, in whatever block, with the file that a name comes from."""
    path, found = MODULES[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(syntax(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                base = f"{parent}.{base}".rstrip(".")
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return {module for module in found if module in MODULES}


@pytest.mark.parametrize("package", MAY_USE)
def test_imports_point_downwards(package: str) -> None:
    for name in OURS:
        if name.split(".")[1] == package:
            for used in imports(name) - {"greenroom"}:
                assert any(f"{used}.".startswith(f"{allowed}.") for allowed in MAY_USE[package]), f"{name}: {used}"


def test_no_files_import_each_other() -> None:
    # A package that publishes the names of its modules is not used by them, so its own imports are no circle.
    graph = {name: imports(name) & set(OURS) - {name} for name in OURS if MODULES[name].name != "__init__.py"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_privates_stay_in_their_file() -> None:
    own = {"self", "cls"}
    for name in OURS:
        for node in ast.walk(syntax(name)):
            if isinstance(node, ast.ImportFrom):
                private = [a.name for a in node.names if a.name.startswith("_") and a.name != "__version__"]
                assert not private, f"{name}:{node.lineno}: {private}"
            elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
                where = ast.unparse(node.value)
                assert where in own or (where, node.attr) == ("os", "_exit"), (
                    f"{name}:{node.lineno}: {where}.{node.attr}"
                )
