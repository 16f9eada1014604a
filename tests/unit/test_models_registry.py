"""What declares models: the file that comes with Greenroom, the one of the tests, and files that contradict themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from greenroom import models
from greenroom.models.registry import read
from tests.speech_clips import NAME, REGISTRY

GOOD = """
[toy]
kind = "voice"
title = "Toy"
purpose = "tests"
licence = "MIT"
language = "en"
[[toy.file]]
path = "model.bin"
size = 10
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
[[toy.source]]
kind = "python"
packages = [{ name = "toy-part", version = "1.0", size = 5, sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }]
members = { "model.bin" = ["data/model.bin"] }
"""


def test_every_model_has_its_publisher_first_and_packages_behind() -> None:
    for model in models.models().values():
        assert model.sources[0].kind == "url" and model.sources[0].address.startswith("https://")
        carried = {path for source in model.sources if source.kind != "url" for path in source.pieces}
        assert carried == {file.path for file in model.files}, "packages carry all of it"
        assert model.licence and model.language and model.size > 1_000_000
    assert set(models.DEFAULT) <= set(models.models())
    assert {models.models()[name].kind for name in models.DEFAULT} == {"recognition", "voice", "turn"}


def test_no_registry_of_packages_is_named() -> None:
    """Their clients know where they are, mirrors included."""
    for path in (REGISTRY, Path(models.__file__).with_name("registry.toml")):
        hosts = set(re.findall(r"https?://([^/\"]+)", path.read_text()))
        assert hosts <= {"huggingface.co", "github.com"}


def test_the_recordings_are_two_hundred() -> None:
    model = read(REGISTRY)[NAME]
    assert sum(file.path.endswith(".wav") for file in model.files) == 200


def test_looking_is_quick_to_import() -> None:
    """A worker that asks for a model has no use for HTTP, TLS or a terminal."""
    program = (
        "import sys; from greenroom import models; models.find('whisper-base')\n"
        "print([name for name in ('rich', 'ssl', 'urllib.request', 'http', 'tarfile', 'zipfile', 'subprocess') if name in sys.modules])\n"
        "print([name for name in sys.modules if name.startswith('greenroom.') and not name.startswith('greenroom.models')])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n[]\n"


def test_a_good_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(GOOD)
    model = read(tmp_path / "r.toml")["toy"]
    assert model.size == 10
    assert model.sources[0].pieces["model.bin"][0].package == model.sources[0].packages[0]


WRONG = {
    "no name": (r"\[toy\]", '["../toy"]'),
    "above": ("model.bin", "../model.bin"),
    "absolute": ("model.bin", "/model.bin"),
    "backslash": ('path = "model.bin"', r'path = "a\\\\b"'),
    "own name": ("model.bin", ".complete"),
    "not plain": ("model.bin", "a//b"),
    "no size": ("size = 10", ""),
    "wrong size": ("size = 10", "size = -1"),
    "size as text": ("size = 10", 'size = "10"'),
    "short hash": ('cdef"\n', 'cde"\n'),
    "an option as package": ("toy-part", "--index-url=http://a"),
    "an address as package": ("toy-part", "a @ http://b/c"),
    "a range as version": ('"1.0"', '"1.0,<2"'),
    "a member above": ("data/model.bin", "../model.bin"),
    "unknown kind": ('"python"', '"telnet"'),
    "unknown file": ('"model.bin" = ', '"other.bin" = '),
    "unknown package": ("data/model.bin", "toy-two:data/model.bin"),
    "a file nobody has": (
        r"\[\[toy.source\]\]",
        '[[toy.file]]\npath = "b"\nsize = 1\nsha256 = "' + "0" * 64 + '"\n[[toy.source]]',
    ),
    "twice": (
        r"\[\[toy.source\]\]",
        '[[toy.file]]\npath = "model.bin"\nsize = 1\nsha256 = "' + "0" * 64 + '"\n[[toy.source]]',
    ),
    "no TOML": ("kind", "= ="),
    "no licence": ('licence = "MIT"', ""),
    "an address of a package": ('kind = "python"', 'kind = "python"\naddress = "https://a/"'),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_file_that_contradicts_itself_is_refused(change: tuple[str, str], tmp_path: Path) -> None:
    text, count = re.subn(change[0], change[1], GOOD)
    assert count and text != GOOD
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(models.RegistryError, match=r"r\.toml"):
        read(tmp_path / "r.toml")


LEAVES = st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.none())


@given(
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    )
)
def test_any_table_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, table: object) -> None:
    """Whatever the shapes: never anything but `RegistryError`."""
    path = tmp_path_factory.mktemp("r") / "r.toml"
    path.write_text(f"toy = {_toml(table)}\n", encoding="utf-8", errors="replace")
    with pytest.raises(models.RegistryError):
        read(path)


def _toml(value: object) -> str:
    import json

    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return '""' if value is None else json.dumps(value)
