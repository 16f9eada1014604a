"""The faster-whisper provider around a stand-in for the library: partials, preparing at a pause, failures in words."""

import asyncio
import sys
import threading
import types

import pytest

from greenroom.agents.speech import MissingProvider, ProviderError
from greenroom.plugins import faster_whisper
from greenroom.plugins.faster_whisper import FasterWhisper


class Segment:
    def __init__(self, text: str) -> None:
        self.text = text


@pytest.fixture
def library(monkeypatch):
    """A library whose model "hears" the length of the audio in tenths of a second."""
    library = types.ModuleType("faster_whisper")
    library.calls = []
    library.fail = False

    class WhisperModel:
        def __init__(self, name, device, compute_type) -> None: ...

        def transcribe(self, samples, **options):
            library.calls.append((len(samples), threading.current_thread().name))
            if library.fail:
                raise RuntimeError("bad model")
            return iter([Segment(f" {len(samples) / 1600:.0f}"), Segment(" tenths ")]), None

    library.WhisperModel = WhisperModel
    library.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "faster_whisper", library)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    faster_whisper._model.cache_clear()
    yield library
    faster_whisper._model.cache_clear()


async def test_partials_and_a_final_prepared_at_the_pause(library):
    partials, arrived = [], asyncio.Event()
    stream = FasterWhisper("tiny").stream(lambda text: (partials.append(text), arrived.set()))
    stream.push(bytes(32_000))
    await asyncio.wait_for(arrived.wait(), 10)
    assert partials == ["10 tenths"]
    stream.pause()
    stream.push(bytes(3_200))
    assert (await stream.finish()).text == "10 tenths"
    stream.push(bytes(6_400))
    stream.pause()
    stream.resume()
    stream.push(bytes(6_400))
    assert (await stream.finish()).text == "4 tenths"
    assert all(name.startswith("whisper") for _, name in library.calls), "decoding stays off the event loop"
    await stream.aclose()


async def test_a_failing_model_is_a_provider_error(library):
    library.fail = True
    stream = FasterWhisper().stream()
    stream.push(bytes(3_200))
    with pytest.raises(ProviderError, match="bad model"):
        await stream.finish()
    await stream.aclose()


def test_without_the_library_it_says_what_adds_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingProvider, match=r"pip install .*faster-whisper"):
        FasterWhisper().load()
