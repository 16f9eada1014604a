"""The provider with the real small model, through its process."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from bench.words import word_errors

from greenroom.agents.speech.protocols import STT, MissingProvider, ProviderError
from greenroom.plugins.whisper import Whisper
from greenroom.plugins.whisper.agreement import agreeing
from greenroom.plugins.whisper.client import Configuration, Line
from greenroom.plugins.whisper.stream import MAX_SECONDS, WhisperStream

from .whisper_model import folder, pcm, say

SENTENCES = [
    "what is the name of the street",
    "please tell me what time it is in london",
    "the train leaves at half past nine from platform four",
    "could you repeat the last sentence please",
    "i would like to book a table for two on friday evening",
    "the quick brown fox jumps over the lazy dog",
    "how far is it from here to the station",
    "my telephone number has changed since last year",
    "good morning, this is a message for the manager",
    "press one to speak with a customer advocate",
]
CHUNK = 16_000
"""Bytes: half a second."""


def whisper(**options: object) -> Whisper:
    return Whisper(folder(), threads=2, **options)


@asynccontextmanager
async def listening(on_partial: Callable[[str], None] | None = None, **options: object) -> AsyncIterator[WhisperStream]:
    stream = whisper(**options).stream(on_partial)
    try:
        yield stream
    finally:
        await stream.aclose()


async def idle(stream: WhisperStream) -> None:
    async with asyncio.timeout(30):
        while stream.busy:
            await asyncio.sleep(0.005)


async def feed(stream: WhisperStream, audio: bytes) -> None:
    """Half a second at a time, as fast as the process works."""
    for at in range(0, len(audio), CHUNK):
        stream.push(audio[at : at + CHUNK])
        await idle(stream)


def plain(text: str) -> list[str]:
    return re.sub(r"[^a-z0-9' ]", " ", text.lower()).split()


def process() -> int:
    return Configuration(str(folder()), 2, "int8").start().pid


def test_it_is_a_provider():
    assert isinstance(whisper(), STT)


@pytest.mark.quiet
async def test_partials_never_take_back_more_than_one_word():
    complete = 0
    for i, sentence in enumerate(SENTENCES):
        shown: list[str] = []
        async with listening(shown.append) as stream:
            await feed(stream, pcm(say(sentence, ("slt", "rms")[i % 2])))
            stream.pause()
            await idle(stream)
            final = (await stream.finish()).text
        assert shown, sentence
        assert word_errors(plain(sentence), plain(final)) <= 3, final
        for before, after in itertools.pairwise(shown):
            kept = agreeing(before.split(), after.split())
            assert kept >= len(before.split()) - 1, (before, after)
        complete += shown[-1] == final
    assert complete >= 8, "at the pause the whole was shown, where that took back no more than a word"


async def test_the_final_text_is_prepared_at_the_pause(monkeypatch):
    asked: list[bytes] = []
    ask = Line.ask

    async def counted(self, kind, options, audio):
        asked.append(kind)
        return await ask(self, kind, options, audio)

    monkeypatch.setattr(Line, "ask", counted)
    async with listening() as stream:
        stream.push(pcm(say("what is seven times eight")))
        stream.pause()
        await idle(stream)
        stream.push(bytes(10_240))
        transcript = await stream.finish()
        assert asked == [b"F"], "nothing is decoded after the end"
        assert plain(transcript.text) in (["what", "is", "7", "times", "8"], ["what", "is", "seven", "times", "eight"])
        assert 0.2 < (transcript.confidence or 0) < 1


async def test_who_goes_on_after_a_pause_is_understood_whole():
    async with listening() as stream:
        whole = pcm(say("please hold the line because all lines are busy"))
        half = len(whole) // 4 * 2
        stream.push(whole[:half])
        stream.pause()
        await idle(stream)
        stream.resume()
        stream.push(whole[half:])
        stream.pause()
        text = (await stream.finish()).text
        assert plain(text)[-4:] == "all lines are busy".split(), text
        stream.push(pcm(say("good morning")))
        stream.discard()
        assert (await stream.finish()).text == "", "what was discarded is not in the next utterance"


async def test_two_at_once_get_their_own_texts():
    async def one(sentence: str, voice: str) -> str:
        async with listening() as stream:
            stream.push(pcm(say(sentence, voice)))
            stream.pause()
            return (await stream.finish()).text

    first, second = await asyncio.gather(one("please hold the line", "slt"), one("what time is it", "rms"))
    assert plain(first) == "please hold the line".split()
    assert plain(second) == "what time is it".split()


async def test_an_utterance_pushed_while_the_last_is_finished_is_the_next():
    async with listening() as stream:
        stream.push(pcm(say("please hold the line")))
        finishing = asyncio.create_task(stream.finish())
        await asyncio.sleep(0)
        stream.push(pcm(say("what time is it")))
        assert plain((await finishing).text) == "please hold the line".split()
        assert plain((await stream.finish()).text) == "what time is it".split()


async def test_a_process_that_dies_in_the_middle_of_an_utterance_costs_nothing():
    pid = await asyncio.to_thread(process)
    async with listening(lambda text: None) as stream:
        audio = pcm(say("please hold the line"))
        await feed(stream, audio[: len(audio) // 4 * 2])
        os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.1)
        stream.push(audio[len(audio) // 4 * 2 :])
        stream.pause()
        assert plain((await stream.finish()).text) == "please hold the line".split()
    assert await asyncio.to_thread(process) != pid


async def test_a_final_whose_process_dies_is_a_provider_error_and_the_next_works():
    async with listening() as stream:
        stream.push(pcm(say("what time is it")))
        await stream.finish()  # connected
        pid = await asyncio.to_thread(process)
        os.kill(pid, signal.SIGSTOP)
        stream.push(pcm(say("please hold the line")))
        finishing = asyncio.create_task(stream.finish())
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ProviderError, match="the whisper process ended"):
            await finishing
        stream.push(pcm(say("please hold the line")))
        assert plain((await stream.finish()).text) == "please hold the line".split()


async def test_a_prepared_final_whose_process_dies_is_recognised_anew():
    async with listening() as stream:
        stream.push(pcm(say("what time is it")))
        await stream.finish()
        pid = await asyncio.to_thread(process)
        os.kill(pid, signal.SIGSTOP)
        stream.push(pcm(say("please hold the line")))
        stream.pause()
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        assert plain((await stream.finish()).text) == "please hold the line".split()


async def test_an_endless_utterance_is_refused_in_words():
    async with listening() as stream:
        for _ in range(int(MAX_SECONDS) + 1):
            stream.push(bytes(32_000))
        with pytest.raises(ProviderError, match=f"longer than {MAX_SECONDS:g} s"):
            await stream.finish()
        stream.push(pcm(say("please hold the line")))
        assert plain((await stream.finish()).text) == "please hold the line".split()


LONG = (
    "please listen to this long message. our office is open from nine to five. we are closed on sundays. "
    "to reach the sales department you may press one. for the service department please press two. "
    "if you would like to speak to an operator, stay on the line and somebody will answer your call soon. "
    "thank you very much for your patience. the train leaves from platform four."
)


@pytest.mark.quiet
async def test_the_last_decoding_of_a_long_utterance_is_a_short_one(monkeypatch):
    lengths: list[float] = []
    ask = Line.ask

    async def measured(self, kind, options, audio):
        lengths.append(len(audio) / 32_000)
        return await ask(self, kind, options, audio)

    monkeypatch.setattr(Line, "ask", measured)
    audio = pcm(say(LONG))
    assert len(audio) / 32_000 > 18
    async with listening(lambda text: None) as stream:
        await feed(stream, audio)
        stream.pause()
        text = (await stream.finish()).text
    assert max(lengths) < 18 and lengths[-1] < 14, lengths
    assert word_errors(plain(LONG), plain(text)) <= 0.15 * len(plain(LONG)), text


@pytest.mark.quiet
async def test_a_recording_longer_than_the_model_takes_is_cut_between_words():
    speech = np.concatenate([say(LONG), say(LONG)])
    assert len(speech) / 16_000 > 36
    async with listening() as stream:
        result = await stream.recognise(pcm(speech), words=True)
    said = plain(LONG) * 2
    assert word_errors(said, plain(result.text)) <= 0.15 * len(said), result.text
    starts = [word.start for word in result.words]
    assert starts == sorted(starts) and result.words[-1].end > 34
    assert " ".join(word.text for word in result.words) == result.text


async def test_word_times_are_within_the_speech():
    speech = np.pad(say("please hold the line"), (8_000, 8_000))
    async with listening() as stream:
        result = await stream.recognise(pcm(speech), words=True)
    assert [plain(word.text)[0] for word in result.words] == "please hold the line".split()
    assert 0.6 < result.words[0].start < 1.3
    assert all(word.start < word.end for word in result.words)
    assert result.words[-1].end <= len(speech) / 16_000 - 0.4


async def test_hot_words_are_understood_and_nothing_is_lost_by_them():
    names = ["Zephyrine", "Kittredge", "Xanthe"]
    heard = {}
    for hot_words in ([], names):
        async with listening(hot_words=hot_words) as stream:
            for sentence in ("welcome to zephyrine", "what time is it"):
                stream.push(pcm(say(sentence)))
                heard[sentence, bool(hot_words)] = (await stream.finish()).text
    assert "Zephyrine" in heard["welcome to zephyrine", True], heard
    assert "Zephyrine" not in heard["welcome to zephyrine", False], "else it shows nothing"
    assert plain(heard["what time is it", True]) == plain(heard["what time is it", False]) == "what time is it".split()


async def test_an_english_model_refuses_another_language_in_words():
    async with listening(language="de") as stream:
        stream.push(pcm(say("please hold the line")))
        with pytest.raises(ProviderError, match="English only"):
            await stream.finish()


def test_what_cannot_be_is_refused_at_once(monkeypatch):
    with pytest.raises(ValueError, match="60 hot words"):
        Whisper(hot_words=[f"word{i}" for i in range(60)])
    with pytest.raises(ValueError, match="no language code"):
        Whisper(language="<|en|>")
    with pytest.raises(ValueError, match="kokoro is a model of another kind"):
        Whisper("kokoro")


def test_without_its_model_or_its_library_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("GREENROOM_MODELS", str(tmp_path))
    monkeypatch.delenv("GREENROOM_WHISPER_MODEL", raising=False)
    with pytest.raises(MissingProvider, match="greenroom models get whisper-base"):
        Whisper().stream()
    assert "whisper-base" in (Whisper().missing() or "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingProvider, match=r"install .*ctranslate2"):
        Whisper(tmp_path).load()
