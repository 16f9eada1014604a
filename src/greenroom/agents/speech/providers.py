"""Which providers are used when a program names none.

The plugins know this package and not the other way round, so what chooses among them (`greenroom.plugins.defaults`, by the
environment and by what is installed) is looked up by name when a default is wanted.
"""

from __future__ import annotations

import importlib
from typing import Any

from greenroom.agents.speech.protocols import LLM, STT, TTS, VAD

__all__ = ["default_llm", "default_stt", "default_tts", "default_vad"]

DEFAULTS = "greenroom.plugins.defaults"


def default_vad() -> VAD:
    vad: VAD = _chosen("vad")
    return vad


def default_stt() -> STT:
    """Raises ValueError for an environment variable that names no provider."""
    stt: STT = _chosen("stt")
    return stt


def default_tts() -> TTS:
    """Raises MissingProvider without a synthesiser, ValueError for an environment variable that names no provider."""
    tts: TTS = _chosen("tts")
    return tts


def default_llm() -> LLM:
    """Raises ValueError for an environment variable that names no provider."""
    llm: LLM = _chosen("llm")
    return llm


def _chosen(kind: str) -> Any:
    return getattr(importlib.import_module(DEFAULTS), f"default_{kind}")()
