"""The transcriber on PCM: real voice activity, real recognition, and providers that fail."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator

import pytest

from greenroom.agents import transcription
from greenroom.agents.speech import EndpointingOptions, ProviderError, Transcript
from greenroom.agents.transcriber import EventType, Transcriber, TranscriptionEvent
from greenroom.plugins import pocketsphinx, shared_process
from greenroom.plugins.pocketsphinx import PocketSphinx
from greenroom.plugins.rules import RuleBrain
from greenroom.plugins.system_tts import Flite

needs_voice = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
CHUNK = 640


@pytest.fixture(scope="module")
def recognizer() -> PocketSphinx:
    stt = PocketSphinx(RuleBrain.phrases())
    stt.load()
    return stt


async def speech(text: str, voice: str = "rms") -> bytes:
    return b"".join([chunk async for chunk in Flite(voice).synthesize(text)])


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """Parts with a second of silence behind each, faster than real time."""
    for part in parts:
        pcm = bytes(16_000) + part + bytes(32_000)
        for start in range(0, len(pcm), CHUNK):
            yield pcm[start : start + CHUNK]
            await asyncio.sleep(0.002)


@needs_voice
@pytest.mark.parametrize("voice", ["rms", "slt"])
async def test_an_utterance_becomes_events_in_order(recognizer, voice):
    events = [
        event async for event in Transcriber(chunks(await speech("What is seven times eight?", voice)), stt=recognizer)
    ]
    kinds = [event.type for event in events]
    assert kinds[0] == transcription.EVENT_TYPE_TALKING_STARTED
    assert kinds[-2:] == [transcription.EVENT_TYPE_FINAL, transcription.EVENT_TYPE_TALKING_FINISHED]
    assert set(kinds[1:-2]) <= {transcription.EVENT_TYPE_PARTIAL}
    assert events[-1].text == events[-2].text == "what is seven times eight"
    assert len({event.segment_id for event in events}) == 1
    assert 0.4 < events[0].time_seconds < 1.0 < events[-1].time_seconds < 3.5
    assert events[-1].speech_ended_at <= events[-1].endpoint_at


@needs_voice
async def test_utterances_follow_each_other(recognizer):
    audio = chunks(await speech("Tell me a joke."), await speech("What is ten minus three?", "slt"))
    finals = [event async for event in Transcriber(audio, stt=recognizer) if event.type is EventType.FINAL]
    assert [event.text for event in finals] == ["tell me a joke", "what is ten minus three"]
    assert finals[0].segment_id != finals[1].segment_id
    assert finals[0].time_seconds < finals[1].time_seconds


@needs_voice
async def test_free_dictation_beside_the_expected_phrases(recognizer):
    audio = chunks(await speech("The president spoke to the nation last night.", "slt"))
    finals = [event.text async for event in Transcriber(audio, stt=recognizer) if event.type is EventType.FINAL]
    assert finals == ["the president spoke to the nation last night"]


@needs_voice
async def test_a_track_that_stops_sending_ends_the_utterance(recognizer):
    """A sender with DTX, or a muted one, sends no silence at all."""
    talked = asyncio.Event()

    async def audio():
        pcm = bytes(16_000) + await speech("What time is it?")
        for start in range(0, len(pcm), CHUNK):
            yield pcm[start : start + CHUNK]
            await asyncio.sleep(0.002)
        await talked.wait()

    texts = []
    async for event in Transcriber(audio(), stt=recognizer):
        if event.type is EventType.TALKING_FINISHED:
            texts.append(event.text)
            talked.set()
    assert texts == ["what time is it"]


@needs_voice
async def test_what_was_said_counts_when_the_track_ends_in_the_middle(recognizer):
    async def audio():
        pcm = bytes(16_000) + await speech("Who made you?")
        for start in range(0, len(pcm), CHUNK):
            yield pcm[start : start + CHUNK]
            await asyncio.sleep(0.002)

    finals = [event.text async for event in Transcriber(audio(), stt=recognizer) if event.type is EventType.FINAL]
    assert finals == ["who made you"]


async def test_silence_and_noise_are_no_speech(recognizer):
    noise = bytes((i * 7919 >> 3) % 251 if i % 2 == 0 else 0 for i in range(64_000))
    assert [event async for event in Transcriber(chunks(noise, bytes(64_000)), stt=recognizer)] == []


@needs_voice
async def test_a_callback_may_be_plain_or_async(recognizer):
    pcm = await speech("Goodbye.")
    plain, awaited = [], []

    async def callback(event):
        await asyncio.sleep(0)
        awaited.append(event.type)

    for each in (lambda event: plain.append(event.type), callback):
        transcriber = Transcriber(audio_track=chunks(pcm), callback=each, stt=recognizer)
        transcriber.start()
        await asyncio.wait_for(transcriber.wait(), 30)
    assert plain == awaited and plain[-1] is EventType.TALKING_FINISHED


def test_an_event_is_one_short_line_when_it_is_printed():
    final = TranscriptionEvent(EventType.FINAL, "what time is it", 1.344, "SG_1", 900.5, 901.0)
    assert str(final) == "final at 1.3 s: what time is it"
    assert str(TranscriptionEvent(EventType.TALKING_STARTED, "", 0.16, "SG_1")) == "talking started at 0.2 s"
    failed = TranscriptionEvent(EventType.TALKING_FINISHED, "", 2.0, "SG_1", error="no model")
    assert str(failed) == "talking finished at 2.0 s: no text (no model)"


class FakeVAD:
    """Speech where the audio is not silent."""

    def load(self) -> None: ...
    def stream(self) -> "FakeVAD":
        return self

    def reset(self) -> None: ...
    def probability(self, frame: bytes) -> float:
        return 1.0 if any(frame) else 0.0


class BrokenSTT:
    def load(self) -> None: ...
    def stream(self, on_partial=None) -> "BrokenSTT":
        return self

    def push(self, pcm: bytes) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def discard(self) -> None: ...
    async def aclose(self) -> None: ...
    async def finish(self) -> Transcript:
        raise ProviderError("the model went away")


async def test_a_failing_recogniser_is_reported_and_listening_goes_on():
    loud = b"\x10\x27" * 16_000
    events = [event async for event in Transcriber(chunks(loud, loud), stt=BrokenSTT(), vad=FakeVAD())]
    finished = [event for event in events if event.type is EventType.TALKING_FINISHED]
    assert [event.error for event in finished] == ["the model went away"] * 2
    assert not any(event.type is EventType.FINAL for event in events)


class RecordingSTT(BrokenSTT):
    def __init__(self) -> None:
        self.pcm = bytearray()

    def push(self, pcm: bytes) -> None:
        self.pcm += pcm

    async def finish(self) -> Transcript:
        return Transcript("x")


async def test_the_audio_before_the_detected_start_reaches_the_recogniser():
    stt = RecordingSTT()
    quiet = b"\x00\x00" * 16_000
    options = EndpointingOptions(pre_roll=0.32)
    async for _ in Transcriber(chunks(quiet + b"\x10\x27" * 16_000), stt=stt, vad=FakeVAD(), endpointing=options):
        pass
    first = next(i for i in range(0, len(stt.pcm), 2) if stt.pcm[i]) // 2
    assert 0.2 * 16_000 < first <= 0.33 * 16_000


async def test_a_broken_callback_is_logged_and_does_not_stop_it(caplog):
    def callback(event):
        raise RuntimeError("user code")

    transcriber = Transcriber(chunks(b"\x10\x27" * 16_000), callback, stt=RecordingSTT(), vad=FakeVAD()).start()
    await asyncio.wait_for(transcriber.wait(), 30)
    assert caplog.text.count("user code") >= 2


class EndlessSTT(BrokenSTT):
    """Is asked for a text and never has one."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def finish(self) -> Transcript:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("from_the_beginning", [True, False])
async def test_a_callback_that_raises_again_when_listening_is_stopped_is_reported_once(
    caplog, plain, from_the_beginning
):
    """The last event is told while a cancellation is being handled, which has no place in the report either."""

    def raises(event):
        if from_the_beginning or event.type is EventType.TALKING_FINISHED:
            raise ValueError("user code")

    async def raises_later(event):
        raises(event)

    stt = EndlessSTT()
    callback = raises if plain else raises_later
    transcriber = Transcriber(chunks(b"\x10\x27" * 16_000), callback, stt=stt, vad=FakeVAD()).start()
    await asyncio.wait_for(stt.asked.wait(), 30)
    await transcriber.aclose()
    assert caplog.text.count("ValueError: user code") == 1
    assert "CancelledError" not in caplog.text and "During handling" not in caplog.text
    files = {line.split('"')[1] for line in caplog.text.splitlines() if line.startswith("  File")}
    assert files == {__file__}


async def test_closing_early_and_twice():
    transcriber = Transcriber(chunks(bytes(640_000)), stt=RecordingSTT(), vad=FakeVAD()).start()
    await transcriber.aclose()
    await transcriber.aclose()


async def test_a_dead_recogniser_process_is_replaced(recognizer):
    stt = PocketSphinx(("hello world",))
    stt.load()
    process = shared_process.start(pocketsphinx.NAME, pocketsphinx.MODULE, ("hello world",))
    os.kill(process.pid, signal.SIGKILL)
    stream = stt.stream()
    try:
        stream.push(bytes(32_000))
        assert isinstance(await stream.finish(), Transcript)
    except ProviderError:
        # The first connection may still have reached the dying process; the next one must not.
        stream.push(bytes(32_000))
        assert isinstance(await stream.finish(), Transcript)
    finally:
        await stream.aclose()
