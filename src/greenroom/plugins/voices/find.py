"""Where a model's folder is."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path

from greenroom.agents.speech.protocols import MissingProvider

__all__ = ["find_model", "require_model"]


def find_model(name: str, *files: str) -> Path | None:
    """The folder of a model that is on this machine, with these files in it."""
    if importlib.util.find_spec("greenroom.models") is not None:
        folder = importlib.import_module("greenroom.models").find(name)
    else:
        root = os.environ.get("GREENROOM_MODELS", "")
        folder = Path(root) / name if root and root != "none" else None
    if folder is None or not all((folder / file).is_file() for file in files):
        return None
    return Path(folder)


def require_model(name: str, *files: str) -> Path:
    """Raises MissingProvider where `find_model` gives None."""
    folder = find_model(name, *files)
    if folder is None:
        raise MissingProvider(f"the voice {name}", f"greenroom models get {name}")
    return folder
