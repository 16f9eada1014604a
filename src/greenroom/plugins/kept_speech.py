"""What a scripted caller has said once is not made again: its lines are kept as files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from greenroom import __version__
from greenroom.agents.speech.protocols import TTS

__all__ = ["KeptSpeech"]

logger = logging.getLogger("greenroom.kept_speech")
MAX_BYTES = 64 << 20
"""Of all files; what was used longest ago goes first. A line of three seconds has 150 kB."""


class KeptSpeech:
    """`TTS` provider: another one, whose complete utterances are kept in `folder`.

    `name` says whose they are: the voice and whatever else decides how it sounds. The provider is loaded when it has
    something new to say.
    """

    def __init__(self, tts: TTS, name: str, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._tts = tts
        self._name = name
        self._folder = folder
        self._max_bytes = max_bytes

    @property
    def sample_rate(self) -> int:
        return self._tts.sample_rate

    def load(self) -> None: ...

    async def synthesize(self, text: str) -> AsyncIterator[bytes]:
        path = self._path(text)
        if (kept := self._read(path)) is not None:
            yield kept
            return
        await asyncio.to_thread(self._tts.load)
        pieces = []
        async with aclosing(self._tts.synthesize(text)) as speech:  # type: ignore[type-var]
            async for pcm in speech:
                pieces.append(pcm)
                yield pcm
        self._keep(path, b"".join(pieces))

    def _path(self, text: str) -> Path:
        what = json.dumps([__version__, self._name, self.sample_rate, text])
        return self._folder / f"{hashlib.sha256(what.encode()).hexdigest()}.pcm"

    def _read(self, path: Path) -> bytes | None:
        try:
            kept = path.read_bytes()
            os.utime(path)
        except OSError:
            return None  # not there, or not ours to read: it is made again
        return kept or None

    def _keep(self, path: Path, pcm: bytes) -> None:
        """Complete or not at all: several callers may speak at once."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".new", delete=False) as file:
                file.write(pcm)
            os.replace(file.name, path)
            self._make_room()
        except OSError as error:
            logger.warning("what was said cannot be kept in %s, and will be made again: %s", self._folder, error)

    def _make_room(self) -> None:
        files = [(path, path.stat()) for path in self._folder.iterdir()]
        total = 0
        for path, stat in sorted(files, key=lambda file: file[1].st_mtime_ns, reverse=True):
            total += stat.st_size
            if total > self._max_bytes:
                path.unlink(missing_ok=True)
