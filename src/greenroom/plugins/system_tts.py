"""Speech by the system's synthesisers, one short-lived process per sentence: flite (about 30 ms for a sentence) and
espeak-ng. Both write WAV to their standard output as they go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import numpy as np

from greenroom.agents.speech.protocols import MissingProvider, ProviderError

__all__ = ["EspeakNG", "Flite"]

CHUNK_BYTES = 3_200
SENTENCE_TIMEOUT = 30.0
MAX_TEXT = 4_000
AUDIBLE = 64
KEEP_LEAD_MS = 15


async def _wav_from(command: Sequence[str], sample_rate: int, *, text: str | None = None) -> AsyncGenerator[bytes]:
    """PCM of the command's WAV output, `text` on its standard input. The process is gone when the iterator is closed."""
    # A pipe of our own: event loops use socket pairs for standard streams, and those cannot be opened as /dev/stdout.
    reading, writing = os.pipe()
    reader = asyncio.StreamReader(limit=4 * CHUNK_BYTES)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL if text is None else asyncio.subprocess.PIPE,
            stdout=writing,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except BaseException:
        transport.close()
        raise
    finally:
        os.close(writing)
    try:
        async with asyncio.timeout(SENTENCE_TIMEOUT):
            if process.stdin is not None and text is not None:
                process.stdin.write(text.encode())
                process.stdin.close()
            try:
                await _skip_header(reader, sample_rate)
            except asyncio.IncompleteReadError:
                raise ProviderError(f"{command[0]} gave no audio (exit code {await process.wait()})") from None
        odd = b""
        while True:
            async with asyncio.timeout(SENTENCE_TIMEOUT):
                data = await reader.read(CHUNK_BYTES)
                if not data:
                    await process.wait()
                    return
            data = odd + data
            odd = data[len(data) - len(data) % 2 :]
            if whole := data[: len(data) - len(odd)]:
                yield whole
    except TimeoutError:
        raise ProviderError(f"{command[0]} took longer than {SENTENCE_TIMEOUT:g} s") from None
    finally:
        transport.close()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.wait_for(process.wait(), SENTENCE_TIMEOUT)


async def _without_lead(chunks: AsyncIterator[bytes], sample_rate: int) -> AsyncGenerator[bytes]:
    """The same audio without the silence before its first sound (flite speaks after 150 to 220 ms of it), which the
    listener would only experience as a slow answer."""
    keep = sample_rate * KEEP_LEAD_MS // 1000 * 2
    silent: bytes | None = b""
    async with aclosing(chunks) as audio:  # type: ignore[type-var]
        async for chunk in audio:
            if silent is not None:
                silent += chunk
                loud = np.flatnonzero(np.abs(np.frombuffer(silent, np.int16).astype(np.int32)) > AUDIBLE)
                if not len(loud):
                    silent = silent[-keep:]
                    continue
                chunk, silent = silent[max(0, 2 * int(loud[0]) - keep) :], None
            yield chunk


async def _skip_header(reader: asyncio.StreamReader, sample_rate: int) -> None:
    """Read up to the samples of a mono 16-bit WAV. Streamed WAV has no true lengths, so the data runs to the end."""
    riff = await reader.readexactly(12)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        raise ProviderError("the synthesiser's output is not WAV")
    while True:
        name, length = struct.unpack("<4sI", await reader.readexactly(8))
        if name == b"data":
            return
        body = await reader.readexactly(min(length, 1 << 16))
        if name == b"fmt ":
            _, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
            if (channels, rate, bits) != (1, sample_rate, 16):
                raise ProviderError(
                    f"expected mono {sample_rate} Hz, the synthesiser speaks {channels} x {rate} Hz x {bits}"
                )


class Flite:
    """`TTS` provider. Voices that speak 16 kHz: slt and awb, rms, kal16."""

    VOICES = ("slt", "rms", "awb", "kal16")

    def __init__(self, voice: str = "slt", *, stretch: float = 1.0) -> None:
        """`stretch`: duration factor, 1.2 is slower."""
        if voice not in self.VOICES:
            raise ValueError(f"flite has no 16 kHz voice {voice!r}; it has {', '.join(self.VOICES)}")
        self._voice = voice
        self._stretch = stretch

    @property
    def sample_rate(self) -> int:
        return 16_000

    def load(self) -> None:
        if shutil.which("flite") is None:
            raise MissingProvider("the flite synthesiser", "apt-get install flite")

    async def synthesize(self, text: str) -> AsyncIterator[bytes]:
        self.load()
        # After -t the text is taken as it is, even when it looks like an option or the name of a file.
        said = text[:MAX_TEXT].replace("\0", " ")
        command = ["flite", "-voice", self._voice, "--setf", f"duration_stretch={self._stretch:g}", "-t", said]
        speech = _wav_from([*command, "-o", "/dev/stdout"], self.sample_rate)
        async with aclosing(_without_lead(speech, self.sample_rate)) as audio:
            async for chunk in audio:
                yield chunk


class EspeakNG:
    """`TTS` provider. `voice`: any that `espeak-ng --voices` lists."""

    def __init__(self, voice: str = "en-us", *, words_per_minute: int = 160) -> None:
        self._voice = voice
        self._speed = words_per_minute

    @property
    def sample_rate(self) -> int:
        return 22_050

    def load(self) -> None:
        if shutil.which("espeak-ng") is None:
            raise MissingProvider("the espeak-ng synthesiser", "apt-get install espeak-ng")

    async def synthesize(self, text: str) -> AsyncIterator[bytes]:
        self.load()
        command = ["espeak-ng", "-v", self._voice, "-s", str(self._speed), "--stdout", "--stdin"]
        speech = _wav_from(command, self.sample_rate, text=text[:MAX_TEXT] + os.linesep)
        async with aclosing(_without_lead(speech, self.sample_rate)) as audio:
            async for chunk in audio:
                yield chunk
