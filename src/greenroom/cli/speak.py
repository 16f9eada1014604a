"""`greenroom speak`: a text as a WAV file, by the voices of a call."""

from __future__ import annotations

import asyncio
import io
import sys
import time
import wave
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from greenroom.agents.speech.protocols import TTS, ProviderError
from greenroom.agents.speech.sentences import SentenceSplitter, speakable
from greenroom.logs import configure_logging

__all__ = ["speak"]

MISSING, FAILED = 6, 1
"""Exit codes; 2 is wrong usage."""


def speak(
    text: Annotated[
        list[str] | None, typer.Argument(help="What to say; without it, or with -, standard input.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="WAV file; - is standard output.")
    ] = Path("speech.wav"),
    voice: Annotated[
        str, typer.Option(help="piper-joe, kokoro, af_heart, slt ...; see docs/voices.md. Default: the agent's.")
    ] = "",
) -> None:
    """Speak a text into a WAV file, as an agent would say it.

    Exit codes: 0 done; 1 the voice failed; 2 wrong usage; 6 no such voice on this machine.
    """
    errors = Console(stderr=True, highlight=False)
    configure_logging("warning")
    said = " ".join(text or [])
    if said in ("", "-"):
        if sys.stdin.isatty():
            _end(errors, "no text; give it as an argument or on standard input", 2)
        said = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    if not any(character.isalnum() for character in said):
        _end(errors, "there is nothing to say in it", 2)
    try:
        tts = _voice(voice)
        pcm, first, took = asyncio.run(_speech(tts, said))
    except ValueError as error:
        _end(errors, str(error), 2)
    except ProviderError as error:
        _end(errors, str(error), MISSING if hasattr(error, "remedy") else FAILED)
    try:
        _write(output, _wav(pcm, tts.sample_rate))
    except OSError as error:
        _end(errors, f"{output}: {error.strerror or error}", 2)
    seconds = len(pcm) / 2 / tts.sample_rate
    errors.print(
        f"{output}: {seconds:.1f} s by {type(tts).__name__}, {tts.sample_rate} Hz; first sound after {first * 1000:.0f} ms, "
        f"all after {took:.1f} s",
        markup=False,
        soft_wrap=True,
    )


def _end(errors: Console, why: str, code: int) -> Any:
    errors.print(f"greenroom speak: {why}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def _voice(name: str) -> TTS:
    from greenroom.plugins.defaults import default_tts, tts_named

    tts = tts_named(name) if name else default_tts()
    tts.load()
    return tts


async def _speech(tts: TTS, text: str) -> tuple[bytes, float, float]:
    """The sound, and the seconds to its beginning and to its end."""
    splitter = SentenceSplitter()
    started, first, pcm = time.perf_counter(), 0.0, bytearray()
    for sentence in (*splitter.push(text), *splitter.flush()):
        spoken = speakable(sentence)
        if not any(character.isalnum() for character in spoken):
            continue
        async with aclosing(tts.synthesize(spoken)) as audio:  # type: ignore[type-var]
            async for chunk in audio:
                first = first or time.perf_counter() - started
                pcm += chunk
    if not pcm:
        raise ProviderError("the voice gave no sound")
    return bytes(pcm), first, time.perf_counter() - started


def _wav(pcm: bytes, rate: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)
    return out.getvalue()


def _write(output: Path, data: bytes) -> None:
    if str(output) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    else:
        output.write_bytes(data)
