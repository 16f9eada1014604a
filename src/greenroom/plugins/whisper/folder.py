"""Where a model is."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FILES", "find_model"]

FILES = ("model.bin", "config.json", "tokenizer.json")


def find_model(name: str) -> Path | None:
    """The folder of the model of that name, or `name` itself when it is a folder with a model. None when it is not there."""
    candidates = [Path(name)] if os.sep in name else []
    if not candidates:
        candidates.append(_root() / name)
    return next((folder for folder in candidates if all((folder / file).is_file() for file in FILES)), None)


def _root() -> Path:
    configured = os.environ.get("GREENROOM_MODELS")
    if configured:
        return Path(configured)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "greenroom" / "models"
