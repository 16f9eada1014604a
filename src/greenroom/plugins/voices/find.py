"""Where a voice's model is."""

from __future__ import annotations

from pathlib import Path

from greenroom import models
from greenroom.agents.speech.protocols import MissingProvider

__all__ = ["require_model"]


def require_model(name: str, *files: str) -> Path:
    """The folder of a model that has these files. Raises MissingProvider, which says what brings it."""
    try:
        folder = models.require(name)
    except models.ModelError as error:
        raise MissingProvider(f"the voice {name}", str(error)) from error
    if lacking := [file for file in files if not (folder / file).is_file()]:
        raise MissingProvider(f"the voice {name}", f"its model comes without {', '.join(lacking)}")
    return folder
