"""Named models: where they come from, what their bytes must be, and where they are on this machine.

    folder = models.find("whisper-base")      # None when it is not there; cheap, never touches the network
    folder = models.require("whisper-base")   # or MissingModel, whose text says what to do
    folder = models.get("whisper-base")       # fetches it if need be; blocks

`registry.toml` beside this file declares them. `greenroom models` is the same from the command line.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CannotFetch, MissingModel, ModelError, RegistryError, UnknownModel, WrongBytes
from .registry import File, Model
from .store import Registry, root, wanted

if TYPE_CHECKING:
    from .sources import Progress

__all__ = [
    "DEFAULT",
    "CannotFetch",
    "File",
    "MissingModel",
    "Model",
    "ModelError",
    "Registry",
    "RegistryError",
    "UnknownModel",
    "WrongBytes",
    "find",
    "get",
    "models",
    "registry",
    "remove",
    "require",
    "root",
    "verify",
    "wanted",
]

DEFAULT = ("whisper-base", "piper-joe", "smart-turn", "kokoro")
"""What a call needs: a recogniser, a voice, an ear for the end of a turn; and another voice for a scripted caller."""


@cache
def registry(path: Path | None = None) -> Registry:
    """What a TOML file declares; without a path what comes with Greenroom."""
    return Registry(path, f"--registry {path}") if path else Registry(Path(__file__).with_name("registry.toml"))


def models() -> dict[str, Model]:
    """All models that Greenroom knows, by name."""
    return registry().models


def find(name: str) -> Path | None:
    """See `Registry.find`."""
    return registry().find(name)


def require(name: str) -> Path:
    """See `Registry.require`."""
    return registry().require(name)


def get(name: str, progress: Progress | None = None) -> Path:
    """See `Registry.get`."""
    return registry().get(name, progress)


def verify(name: str) -> list[str]:
    """See `Registry.verify`."""
    return registry().verify(name)


def remove(name: str) -> int:
    """See `Registry.remove`."""
    return registry().remove(name)
