"""Where a model is."""

from __future__ import annotations

import os
from pathlib import Path

from greenroom import models

__all__ = ["FILES", "check_name", "find_model"]

FILES = ("model.bin", "config.json", "tokenizer.json")
RECOGNITION = "recognition"


def check_name(name: str) -> None:
    """Raises ValueError for what is neither a path nor the name of a model that recognises speech."""
    if os.sep in name:
        return
    known = models.models()
    if name in known and known[name].kind == RECOGNITION:
        return
    what = f"{name} is a model of another kind ({known[name].kind})" if name in known else f"there is no model {name!r}"
    recognisers = ", ".join(model.name for model in known.values() if model.kind == RECOGNITION)
    raise ValueError(
        f"{what}: choose one of {recognisers} to recognise speech, or a folder by a path with a {os.sep} in it"
    )


def find_model(name: str) -> Path | None:
    """The folder of the model of that name, or `name` itself when it is a path to a folder with a model. None when it is not
    there, or when there is no such name."""
    if os.sep in name:
        return Path(name) if all((Path(name) / file).is_file() for file in FILES) else None
    return models.find(name) if name in models.models() else None
