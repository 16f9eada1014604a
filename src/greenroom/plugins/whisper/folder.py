"""Where a model is."""

from __future__ import annotations

import os
from pathlib import Path

from greenroom import models

__all__ = ["FILES", "find_model"]

FILES = ("model.bin", "config.json", "tokenizer.json")


def find_model(name: str) -> Path | None:
    """The folder of the model of that name, or `name` itself when it is a path to a folder with a model. None when it is not
    there, or when there is no such name."""
    if os.sep in name:
        return Path(name) if all((Path(name) / file).is_file() for file in FILES) else None
    return models.find(name) if name in models.models() else None
