"""Phonemes by the system's `espeak-ng`, run as a program of its own (about 10 ms a call)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from greenroom.agents.speech.protocols import MissingProvider, ProviderError

__all__ = ["phonemes", "require_espeak"]

PROGRAM = "espeak-ng"
TIMEOUT = 10.0
_SWITCH = re.compile(r"\([a-z]{2,3}(?:-[a-z0-9-]+)?\)")
"""How it marks words that it says by the rules of another language."""


def require_espeak() -> None:
    """Raises MissingProvider without the program."""
    if shutil.which(PROGRAM) is None:
        raise MissingProvider(f"the program {PROGRAM}, which makes phonemes of text,", f"apt-get install {PROGRAM}")


def phonemes(texts: Sequence[str], language: str) -> list[str]:
    """The phonemes of each text, in the IPA with marks of stress. One call for all. Blocking.

    `language`: a voice of espeak-ng, such as "en-us". Raises MissingProvider, ProviderError.
    """
    if not texts:
        return []
    # It says a paragraph a line; a paragraph without marks in it is one line.
    lines = _run("\n\n".join(texts), language).splitlines()
    if len(lines) == len(texts):
        return [_clean(line) for line in lines]
    # A text has been taken for more than one paragraph, or for none.
    return [_clean(_run(text, language)) for text in texts]


def _clean(spoken: str) -> str:
    return " ".join(_SWITCH.sub("", spoken).split())


def _run(text: str, language: str) -> str:
    require_espeak()
    # Single-threaded callers are not to be counted on: no preexec_fn, and text goes by standard input, never as an option.
    command = [PROGRAM, "-q", "--ipa", "-b", "1", "-v", language, "--stdin"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProviderError(f"{PROGRAM} failed: {error}") from error
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise ProviderError(f"{PROGRAM} failed: {why}")
    return done.stdout.decode(errors="replace").strip()
