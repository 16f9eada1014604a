"""Which providers are used when a program names none: the environment decides, then what is installed.

`GREENROOM_STT`: `whisper`, `whisper-base`, `whisper-tiny`, `pocketsphinx` or `openai`. `GREENROOM_TTS`: `flite`, `espeak-ng` or `openai`.
`GREENROOM_LLM`: `rules` or `openai`. With `OPENAI_BASE_URL` or `OPENAI_API_KEY` set the language model is `openai`; speech
stays local unless asked for.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil

from greenroom import models
from greenroom.agents.speech.protocols import LLM, STT, TTS, VAD, MissingProvider

__all__ = ["default_llm", "default_stt", "default_tts", "default_vad", "say_once"]

logger = logging.getLogger("greenroom.defaults")


@functools.cache
def say_once(what: str) -> None:
    """Of a fall-back: a warning, unless it is what was asked for."""
    logger.log(logging.WARNING if models.wanted() else logging.INFO, "%s", what)


def _choice(variable: str, allowed: tuple[str, ...]) -> str:
    chosen = os.environ.get(variable, "").strip().lower()
    if chosen and chosen not in allowed:
        raise ValueError(f"{variable} is {chosen!r}; it may be {', '.join(allowed)}")
    return chosen


def default_vad() -> VAD:
    from greenroom.plugins.silero import SileroVAD

    return SileroVAD()


def default_stt() -> STT:
    """Whisper when it is installed together with its model (`GREENROOM_WHISPER_MODEL`, else `whisper-base`), else
    pocketsphinx, which the log says once."""
    chosen = _choice("GREENROOM_STT", ("whisper", "whisper-base", "whisper-tiny", "pocketsphinx", "openai"))
    if chosen == "openai":
        from greenroom.plugins.openai import OpenAISTT

        return OpenAISTT()
    if chosen != "pocketsphinx":
        from greenroom.plugins.whisper import Whisper

        # Without hot words: a set of names costs time with each decoding, and the rules' words are everyday ones.
        whisper = Whisper(chosen if chosen.startswith("whisper-") else None)
        missing = whisper.missing()
        if chosen or missing is None:
            return whisper
        say_once(f"recognition by pocketsphinx, which understands simple sentences of close voices only: {missing}")
    from greenroom.plugins.pocketsphinx import PocketSphinx
    from greenroom.plugins.rules import RuleBrain

    return PocketSphinx(phrases=RuleBrain.phrases())


def default_tts() -> TTS:
    """flite when there, else espeak-ng."""
    chosen = _choice("GREENROOM_TTS", ("flite", "espeak-ng", "openai"))
    if chosen == "openai":
        from greenroom.plugins.openai import OpenAITTS

        return OpenAITTS()
    from greenroom.plugins.system_tts import EspeakNG, Flite

    if chosen == "flite" or (not chosen and shutil.which("flite")):
        return Flite()
    if chosen == "espeak-ng" or shutil.which("espeak-ng"):
        return EspeakNG()
    raise MissingProvider("a speech synthesiser", "install one, for example: apt-get install flite")


def default_llm() -> LLM:
    chosen = _choice("GREENROOM_LLM", ("rules", "openai"))
    configured = os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")
    if chosen == "openai" or (not chosen and configured):
        from greenroom.plugins.openai import OpenAILLM

        return OpenAILLM()
    from greenroom.plugins.rules import RuleBrain

    return RuleBrain()
