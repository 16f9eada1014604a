"""The check that no two files of a Rust crate import each other (scripts/import_circles.py)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def circles() -> ModuleType:
    spec = importlib.util.spec_from_file_location("import_circles", ROOT / "scripts" / "import_circles.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def problems(circles: ModuleType, tmp_path: Path, files: dict[str, str]) -> list[str]:
    src = tmp_path / "native" / "some" / "src"
    for name, text in files.items():
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        (src / name).write_text(text)
    return circles.check(src, set())


CIRCLES = {
    "two files": {"a.rs": "use crate::b::B;", "b.rs": "use crate::a::A;"},
    "grouped": {"a.rs": "use crate::{c, b::{self, B}};", "b.rs": "use super::{a::{A as Other}};", "c.rs": ""},
    "three files": {"a.rs": "use crate::b::B;", "b.rs": "use crate::c::C;", "c.rs": "fn f() { crate::a::g(); }"},
    "parent and child": {"m/mod.rs": "mod x; use x::X; const N: u8 = 1;", "m/x.rs": "use super::N; struct X;"},
    "parent and child without use": {"m.rs": "mod x; fn f() { x::g() }", "m/x.rs": "fn g() { super::f() }"},
    "published and used": {"m.rs": "mod x; pub use x::X; fn f(x: X) {}", "m/x.rs": "use super::f; struct X;"},
    "through a re-export": {
        "lib.rs": "mod a; mod b; pub use a::A; pub use b::*; mod c;",
        "a.rs": "use crate::c::C;",
        "c.rs": "use crate::A;",
        "b.rs": "",
    },
    "through an import of the parent": {
        "m.rs": "mod x; mod y; use self::x::X;",
        "m/x.rs": "use super::y::Y;",
        "m/y.rs": "use super::X;",
    },
    "inside a test module": {"a.rs": "mod tests { use super::super::b::B; }", "b.rs": "use crate::a::A;"},
    "behind strings and lifetimes": {
        "a.rs": 'const S: &str = "\\"{"; const R: &str = r#"use "x"#; fn f<\'a>(c: char) { c == \'{\'; } use crate::b::B;',
        "b.rs": "/* { */ pub(crate) fn f() -> impl Sized + use<'_> {} use crate::a::A; // {",
    },
}

CLEAN = {
    "a line": {"a.rs": "use crate::b::B;", "b.rs": "use crate::c::C;", "c.rs": "use std::fmt;"},
    "comments and strings": {
        "a.rs": "use crate::b::B;",
        "b.rs": '//! crate::a::A\n/* use crate::a::A; */ const S: &str = "crate::a::A";',
    },
    "a parent that publishes": {"m.rs": "mod x; pub use x::X; const N: u8 = 1;", "m/x.rs": "use super::N; struct X;"},
    "a crate's names": {
        "lib.rs": "mod a; mod b; pub use a::A; pub use b::B; pub struct C;",
        "a.rs": "use crate::{B, C};",
        "b.rs": "use crate::C;",
    },
    "a module from elsewhere": {
        "m/mod.rs": '#[path = "../../tests/w.rs"]\npub mod w; mod x; use x::X;',
        "m/x.rs": "use super::w::World;",
    },
    "tests of a file": {"a.rs": "struct A; mod tests { use super::*; use super::A; }"},
    "tests in a file": {"m/mod.rs": "mod tests; struct A;", "m/tests.rs": "use super::*; use super::A;"},
    "another crate's module of that name": {"a.rs": "use crate::b::B;", "b.rs": "use std::a::A; use other::{a, a::A};"},
}


@pytest.mark.parametrize("files", CIRCLES.values(), ids=CIRCLES)
def test_circles_are_found(circles: ModuleType, tmp_path: Path, files: dict[str, str]) -> None:
    (problem,) = problems(circles, tmp_path, files)
    assert problem.startswith("some: these files import each other")


@pytest.mark.parametrize("files", CLEAN.values(), ids=CLEAN)
def test_what_is_no_circle_passes(circles: ModuleType, tmp_path: Path, files: dict[str, str]) -> None:
    assert problems(circles, tmp_path, files) == []


def test_the_message_names_every_import(circles: ModuleType, tmp_path: Path) -> None:
    (problem,) = problems(circles, tmp_path, {"a.rs": "\nuse crate::b::B;", "b.rs": "use crate::a::A;"})
    assert "a.rs:2 imports b.rs" in problem and "b.rs:1 imports a.rs" in problem


def test_a_circle_may_be_allowed_and_the_list_gets_shorter(
    circles: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(circles, "ALLOWED", {"some: a.rs <-> b.rs"})
    monkeypatch.setattr(sys, "argv", ["import_circles.py", str(tmp_path)])
    problems(circles, tmp_path, {"a.rs": "use crate::b::B;", "b.rs": "use crate::a::A;"})
    assert circles.main() == 0
    (tmp_path / "native/some/src/b.rs").write_text("")
    assert circles.main() == 1
    assert "take it out of ALLOWED" in capsys.readouterr().err


def test_this_workspace_has_no_circles(circles: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["import_circles.py", str(ROOT)])
    assert circles.main() == 0
