"""A scripted caller's lines: made once, kept whole, within bounds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from greenroom.agents.speech.protocols import ProviderError
from greenroom.plugins.kept_speech import KeptSpeech


class Voice:
    """A fake that counts what it is asked for."""

    sample_rate = 16_000

    def __init__(self) -> None:
        self.loaded = 0
        self.said: list[str] = []

    def load(self) -> None:
        self.loaded += 1

    async def synthesize(self, text: str) -> AsyncIterator[bytes]:
        self.said.append(text)
        yield text.encode() * 2
        if text == "breaks":
            raise ProviderError("the process died")
        yield b"end."


async def spoken(tts: KeptSpeech, text: str) -> bytes:
    return b"".join([pcm async for pcm in tts.synthesize(text)])


def kept(folder: Path) -> dict[Path, int]:
    """Sizes in bytes."""
    return {path: path.stat().st_size for path in folder.iterdir()}


async def test_what_was_said_once_is_not_made_again(tmp_path: Path) -> None:
    voice = Voice()
    first = KeptSpeech(voice, "joe", tmp_path)
    first.load()
    assert voice.loaded == 0, "nothing new was to be said yet"
    said = await spoken(first, "hello")
    another = KeptSpeech(voice, "joe", tmp_path)
    assert said == b"hellohelloend." == await spoken(another, "hello")
    assert (voice.said, voice.loaded) == (["hello"], 1)
    await spoken(KeptSpeech(voice, "ann", tmp_path), "hello")
    assert voice.said == ["hello", "hello"], "another voice says it otherwise"


async def test_half_a_line_is_not_kept(tmp_path: Path) -> None:
    voice = Voice()
    tts = KeptSpeech(voice, "joe", tmp_path)
    with pytest.raises(ProviderError):
        await spoken(tts, "breaks")
    half = tts.synthesize("stopped")
    await anext(half)
    await half.aclose()
    assert not kept(tmp_path)


async def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    tts = KeptSpeech(Voice(), "joe", tmp_path, max_bytes=25)
    for at, text in enumerate(("one", "two", "one", "six")):
        before = kept(tmp_path)
        await spoken(tts, text)
        for path in kept(tmp_path).keys() - before:
            os.utime(path, (at, at))
    assert sum(kept(tmp_path).values()) == 20
    again = Voice()
    await spoken(KeptSpeech(again, "joe", tmp_path), "one")
    await spoken(KeptSpeech(again, "joe", tmp_path), "two")
    assert again.said == ["two"], "the other was used since"


async def test_a_folder_that_cannot_be_written_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert await spoken(KeptSpeech(Voice(), "joe", tmp_path / "file" / "folder"), "hello") == b"hellohelloend."
    [record] = caplog.records
    assert "cannot be kept" in record.message
