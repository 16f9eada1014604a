"""Which providers are used when a program names none: the environment decides, then what is installed.

`GREENROOM_STT`: `whisper`, `whisper-base`, `whisper-tiny`, `pocketsphinx` or `openai`. `GREENROOM_TTS`: `piper`, `kokoro`, `flite`,
`espeak-ng` or `openai`.
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

__all__ = ["caller_tts", "default_llm", "default_stt", "default_tts", "default_vad", "say_once", "tts_named"]

logger = logging.getLogger("greenroom.defaults")
CALLERS_VOICE = "af_heart"


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
    """Piper with its default voice when its model, onnxruntime and espeak-ng are there, else flite, else espeak-ng; the log
    says once why a lesser one is used."""
    chosen = _choice("GREENROOM_TTS", ("piper", "kokoro", "flite", "espeak-ng", "openai"))
    if chosen:
        return tts_named(chosen)
    from greenroom.plugins.piper import Piper
    from greenroom.plugins.system_tts import EspeakNG, Flite

    piper = Piper()
    try:
        piper.require()
    except MissingProvider as missing:
        if shutil.which("flite"):
            say_once(f"the voice is flite, a small fall-back: {missing}")
            return Flite()
        if shutil.which("espeak-ng"):
            say_once(f"the voice is espeak-ng, a small fall-back: {missing}")
            return EspeakNG()
        raise MissingProvider("a speech synthesiser", f"{missing}; or a small one: apt-get install flite") from None
    return piper


def caller_tts(voice: str = "") -> TTS:
    """The voice of a scripted caller, which is another than the agent's so that the two can be told apart.

    Without a name Kokoro when its model is there (a caller speaks its lines before the call, so it need not keep up; they are
    kept for the next call), else a voice of flite, else the default. Raises MissingProvider, and ValueError for an unknown name.
    """
    if voice:
        return tts_named(voice)
    from greenroom.plugins.kept_speech import KeptSpeech
    from greenroom.plugins.kokoro import Kokoro
    from greenroom.plugins.system_tts import Flite

    kokoro = Kokoro(CALLERS_VOICE)
    try:
        kokoro.require()
    except MissingProvider:
        return Flite("rms") if shutil.which("flite") else default_tts()
    return KeptSpeech(kokoro, f"kokoro {CALLERS_VOICE}", models.root() / ".spoken")


def tts_named(name: str) -> TTS:
    """A synthesiser by its name (`piper`, `kokoro`, `flite`, `espeak-ng`, `openai`) or that of a voice (`piper-joe`,
    `af_heart` and others of Kokoro, `slt` and others of flite, the path of a Piper voice). ValueError for any other."""
    from greenroom.plugins.system_tts import EspeakNG, Flite

    if name == "openai":
        from greenroom.plugins.openai import OpenAITTS

        return OpenAITTS()
    if name in ("piper", "piper-joe") or name.endswith(".onnx"):
        from greenroom.plugins.piper import Piper

        return Piper("piper-joe" if name == "piper" else name)
    if name == "kokoro" or name[1:3] in ("f_", "m_"):
        from greenroom.plugins.kokoro import Kokoro

        return Kokoro() if name == "kokoro" else Kokoro(name)
    if name == "flite":
        return Flite()
    if name == "espeak-ng":
        return EspeakNG()
    if name in Flite.VOICES:
        return Flite(name)
    raise ValueError(
        f"no voice has the name {name!r}; there are piper-joe, kokoro (af_heart, bm_george ...), {', '.join(Flite.VOICES)} of "
        "flite, espeak-ng, openai, and any Piper voice by the path of its .onnx file"
    )


def default_llm() -> LLM:
    chosen = _choice("GREENROOM_LLM", ("rules", "openai"))
    configured = os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")
    if chosen == "openai" or (not chosen and configured):
        from greenroom.plugins.openai import OpenAILLM

        return OpenAILLM()
    from greenroom.plugins.rules import RuleBrain

    return RuleBrain()
