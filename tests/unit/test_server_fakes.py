"""The fake of the native core can be called like the real one: else tests with it say nothing of the server."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import greenroom

from .server_fakes import FakeMediaServer

STUB = Path(greenroom.__file__).parent / "_native.pyi"


def stub_of(name: str) -> dict[str, ast.FunctionDef]:
    (found,) = (n for n in ast.parse(STUB.read_text()).body if isinstance(n, ast.ClassDef) and n.name == name)
    functions = [node for node in found.body if isinstance(node, ast.FunctionDef)]
    return {node.name: node for node in functions if not node.name.startswith("_")}


def is_property(function: ast.FunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "property" for mark in function.decorator_list)


def parameters(function: ast.FunctionDef) -> list[tuple[str, inspect._ParameterKind, object]]:
    """Name, kind and default of each, as `inspect` tells them of a function."""
    arguments = function.args
    assert not (arguments.posonlyargs or arguments.vararg or arguments.kwarg), "none of these is expected in the stub"
    none = inspect.Parameter.empty
    plain = [none] * (len(arguments.args) - len(arguments.defaults)) + [ast.literal_eval(d) for d in arguments.defaults]
    named = [none if default is None else ast.literal_eval(default) for default in arguments.kw_defaults]
    return [
        *((a.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, d) for a, d in zip(arguments.args, plain, strict=True)),
        *((a.arg, inspect.Parameter.KEYWORD_ONLY, d) for a, d in zip(arguments.kwonlyargs, named, strict=True)),
    ]


def differences(fake: type, stub: dict[str, ast.FunctionDef]) -> list[str]:
    found = []
    for name, function in stub.items():
        member = inspect.getattr_static(fake, name, None)
        if is_property(function):
            if member is None or callable(member):
                found.append(f"{name} is no property or attribute")
        elif not inspect.isfunction(member):
            found.append(f"{name} is missing")
        else:
            signature = inspect.signature(member)
            has = [(p.name, p.kind, p.default) for p in signature.parameters.values()]
            if has != parameters(function):
                found.append(f"{name}{signature} is {ast.unparse(function.args)} in truth")
    return found


def test_the_fake_media_server_has_the_methods_of_the_real_one() -> None:
    stub = stub_of("MediaServer")
    assert {"add_peer", "set_room", "event_fd"} <= set(stub), "the stub was read"
    assert not differences(FakeMediaServer, stub)


def test_a_fake_that_differs_is_noticed() -> None:
    class Worse(FakeMediaServer):
        event_fd = None  # type: ignore[assignment]

        def add_peer(self, peer: int, room: int, ufrag: str) -> None:  # type: ignore[override]
            """One parameter is missing."""

        def set_room(self, room: int, *, top_speakers: int = 0) -> None:  # type: ignore[override]
            """Another default."""

        port = 7882  # type: ignore[assignment]

    names = {line.split("(")[0].split()[0] for line in differences(Worse, stub_of("MediaServer"))}
    assert names == {"event_fd", "add_peer", "set_room", "port"}
