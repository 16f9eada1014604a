"""No module uses what another one keeps private.

`x._name` is said of `self`, or in the module whose classes define `_name`: the module is what keeps a secret. The check
goes by names, not by types, so a module that has a `_name` of its own might still say somebody else's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "greenroom"
FOLDERS = ("agents", "api", "cli", "plugins", "rtc", "server")

ALLOWED_MODULES = {
    "greenroom._native": "the native half is private to the package, not to a module of it",
}
"""Private modules that others import, with the reason."""

ALLOWED_NAMES = {
    "os._exit": "the standard library documents it",
}
"""Names that look private and are not, with the reason."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def is_own(value: ast.expr) -> bool:
    """The object itself, whichever class of its family defines the name."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "super"
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def members(tree: ast.Module) -> set[str]:
    """What the classes of a module define: methods, class attributes, slots, and attributes set on `self` or `cls`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(statement.name)
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
                if "__slots__" in {target.id for target in targets if isinstance(target, ast.Name)}:
                    names |= {n.value for n in ast.walk(statement) if isinstance(n, ast.Constant)}
        names |= {
            inner.attr
            for inner in ast.walk(node)
            if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store) and is_own(inner.value)
        }
    return names


def uses(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line, private name and words of each use of something else's private name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node.value):
            yield node.lineno, node.attr, ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            name = node.args[1]
            by_name = node.func.id in ("getattr", "setattr", "hasattr", "delattr") and isinstance(name, ast.Constant)
            if by_name and is_private(str(name.value)) and not is_own(node.args[0]):  # type: ignore[attr-defined]
                yield node.lineno, name.value, ast.unparse(node)  # type: ignore[attr-defined]


def imports(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported, modules and what is taken from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def strangers(source: str, package: tuple[str, ...]) -> list[str]:
    """What a module of `package` uses that is another's secret, each with its line."""
    tree = ast.parse(source)
    own = members(tree)
    found = [(line, words) for line, name, words in uses(tree) if name not in own and words not in ALLOWED_NAMES]
    found += [
        (line, f"import of {name}")
        for line, name in imports(tree, package)
        if is_private(name.rpartition(".")[2]) and name not in ALLOWED_MODULES
    ]
    return [f"{line}: {words}" for line, words in sorted(found)]


def sources() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((PACKAGE / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_uses_no_secret_of_another(path: Path) -> None:
    name = path.relative_to(PACKAGE.parent)
    found = strangers(path.read_text(), name.parent.parts)
    assert not found, "\n".join(["private names of others:", *(f"{name}:{each}" for each in found)])


REACHING = {
    "an attribute": "def f(room): return room._session",
    "a method": "def f(room): room._leave()",
    "deeper": "class A:\n    def f(self): return self._room._session",
    "setting it": "def f(room): room._session = None",
    "in a class without it": "class A:\n    def __init__(self): self._other = 1\n    def f(self, b): return b._secret",
    "by its name": "def f(room): return getattr(room, '_session')",
    "of a module": "from greenroom import engine\n_all = engine._all",
    "a module's": "from .engine import _all",
    "a module": "from . import _engine",
    "in a private module": "from greenroom._engine import Engine",
    "of another package": "import concurrent.futures._base",
    "mangled": "def f(room): return room.__session",
}

KEEPING = {
    "one's own": "class A:\n    def f(self): return self._x",
    "the parent's": "class A(B):\n    def f(self): return super()._x",
    "of the same class": "class A:\n    def __init__(self): self._x = 1\n    def __eq__(self, other): return other._x == 1",
    "for the module's function": "class A:\n    def __init__(self): self._x = 1\ndef x_of(a: A): return a._x",
    "a method of the same module": "class A:\n    def _f(self): ...\nclass B:\n    def g(self, a: A): a._f()",
    "a slot": "class A:\n    __slots__ = ('_x',)\n    def copy(self, other): return other._x",
    "a class attribute": "class A:\n    _all: list\ndef f(): return A._all",
    "Python's own names": "def f(a): return a.__class__.__name__",
    "the native half": "from greenroom import _native\nfrom greenroom._native import Peer\nfrom .. import _native",
    "a public name that looks private": "import os\nos._exit(1)",
    "the version": "from greenroom import __version__",
}


@pytest.mark.parametrize("source", REACHING.values(), ids=REACHING)
def test_reaching_is_found(source: str) -> None:
    (found,) = strangers(source, ("greenroom", "rtc"))
    assert found.startswith(f"{len(source.splitlines())}: ")


@pytest.mark.parametrize("source", KEEPING.values(), ids=KEEPING)
def test_keeping_passes(source: str) -> None:
    assert strangers(source, ("greenroom", "rtc")) == []
