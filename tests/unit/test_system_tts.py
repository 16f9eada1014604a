"""The system's synthesisers as streams of PCM."""

import array
import shutil

import pytest

from greenroom.agents.speech import MissingProvider
from greenroom.plugins.system_tts import EspeakNG, Flite

SYNTHESISERS = [
    pytest.param(Flite, marks=pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")),
    pytest.param(
        EspeakNG, marks=pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
    ),
]


async def speak(tts, text: str) -> array.array:
    pcm = b"".join([chunk async for chunk in tts.synthesize(text)])
    return array.array("h", pcm)


@pytest.mark.parametrize("provider", SYNTHESISERS)
async def test_a_sentence_becomes_audible_pcm(provider):
    tts = provider()
    samples = await speak(tts, "Good morning, everyone.")
    assert 0.5 < len(samples) / tts.sample_rate < 5
    assert max(samples) > 1000


@pytest.mark.parametrize("provider", SYNTHESISERS)
@pytest.mark.parametrize(
    "text", ["-o /dev/null", "/etc/passwd", "--help", "a\0b", "ünïcödé 😀 text", '$(id) `id` "quoted"']
)
async def test_no_text_is_taken_for_an_option_or_a_file(provider, text):
    samples = await speak(provider(), text)
    assert len(samples) < 10 * provider().sample_rate


@pytest.mark.parametrize("provider", SYNTHESISERS)
async def test_closing_early_stops_the_work(provider):
    stream = provider().synthesize("This is a long sentence. " * 100)
    async for _ in stream:
        break
    await stream.aclose()


async def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingProvider, match="apt-get install flite"):
        await speak(Flite(), "Hello.")


def test_only_voices_of_16_khz():
    with pytest.raises(ValueError, match="kal"):
        Flite("kal")


@pytest.mark.parametrize("provider", SYNTHESISERS)
async def test_speech_begins_at_once(provider):
    """Silence before the first sound would only make the answer late."""
    tts = provider()
    samples = await speak(tts, "Goodbye.")
    first = next(index for index, sample in enumerate(samples) if abs(sample) > 64)
    assert first / tts.sample_rate < 0.02
