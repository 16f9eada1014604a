"""The version, which only `Cargo.toml` says: a wheel has it in its metadata, a checkout has that file."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

__all__ = ["find_version"]


def find_version() -> str:
    """The version of this package, `0.1.0`."""
    # A checkout beside an installed wheel is what runs, so it is asked first.
    manifest = Path(__file__).parents[2] / "Cargo.toml"
    if manifest.is_file():
        return str(tomllib.loads(manifest.read_text())["workspace"]["package"]["version"])
    return metadata.version("greenroom")
