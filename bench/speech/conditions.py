"""Synthetic calls: sentences whose words are known, in the voices of this machine, and what a bad call makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from greenroom.agents.speech.protocols import TTS, MissingProvider, ProviderError
from greenroom.plugins.defaults import tts_named

from ..figures import say
from ..hearing import Spoken
from ..sound import RATE, babble, mix, pink_noise, resampled, telephone
from ..target import TargetError
from .lossy import over_a_lossy_link

__all__ = ["LOSS", "SENTENCES", "SNR_DB", "VOICES", "clean", "conditions", "voices"]

VOICES = ("piper-joe", "af_heart", "slt")
"""Of Piper, Kokoro and flite; each says a third of the sentences."""
SNR_DB = 10.0
LOSS = 0.05
SEED = 20
BABBLERS = 6
SENTENCES = (
    "I would like to book a table for two people on Friday evening.",
    "Could you tell me when the next train to Boston leaves?",
    "My order has not arrived yet, and it was due last week.",
    "Please cancel the appointment that I made with the dentist.",
    "What is the weather going to be like tomorrow morning?",
    "I forgot the password for my account and cannot sign in.",
    "The kitchen light has been broken since Monday.",
    "Can you send the invoice to my office instead of my home address?",
    "We are looking for a quiet room with a view of the lake.",
    "How long does it take to get from the airport to the city center?",
    "There is a mistake on the bill that you sent me in March.",
    "I need a new battery for my telephone, if you still have one.",
    "Please remind me to call my sister after lunch.",
    "The meeting was moved from Tuesday afternoon to Thursday morning.",
    "Is it possible to change the delivery date without an extra charge?",
    "My flight was delayed, so I will be there about an hour later.",
    "Do you have this jacket in a smaller size and another color?",
    "Turn off the heating in the bedroom and close the garage door.",
    "She said that the doctor would see us before the weekend.",
    "Thank you very much for your help, that was all I wanted to know.",
)


def voices() -> dict[str, TTS]:
    """Those of `VOICES` that are here. TargetError for none."""
    found = {}
    for name in VOICES:
        voice = tts_named(name)
        try:
            voice.load()
        except MissingProvider as error:
            say(str(error))
        else:
            found[name] = voice
    if not found:
        raise TargetError("no voice is on this machine")
    return found


async def clean(sentences: Sequence[str]) -> list[Spoken]:
    """The sentences, voice by voice in turn. A voice that fails, as Kokoro does on a very busy machine, says no more."""
    speakers = voices()
    spoken = []
    for number, text in enumerate(sentences):
        while True:
            name = list(speakers)[number % len(speakers)]
            try:
                spoken.append(Spoken(await _spoken(speakers[name], text), text))
                break
            except ProviderError as error:
                say(f"speech: without {name}: {error}")
                del speakers[name]
                if not speakers:
                    raise TargetError("no voice of this machine speaks") from error
    return spoken


async def _spoken(voice: TTS, text: str) -> bytes:
    pcm = b"".join([chunk async for chunk in voice.synthesize(text)])
    return resampled(pcm, voice.sample_rate, RATE)


async def conditions(spoken: list[Spoken]) -> dict[str, list[Spoken]]:
    """The same utterances as they are, and as each condition makes them. Noise and losses are the same each time."""
    made = {"clean": spoken}
    made[f"pink noise, {SNR_DB:g} dB SNR"] = _each(
        spoken, lambda n, pcm: mix(pcm, pink_noise(len(pcm) // 2, SEED + n), SNR_DB)
    )
    made[f"babble of {BABBLERS}, {SNR_DB:g} dB SNR"] = _each(
        spoken, lambda n, pcm: mix(pcm, babble(_others(spoken, n), len(pcm) // 2, SEED + n), SNR_DB)
    )
    made["telephone: 8 kHz, G.711 mu-law"] = _each(spoken, lambda n, pcm: telephone(pcm))
    heard, lost = await over_a_lossy_link([one.pcm for one in spoken], loss=LOSS, seed=SEED)
    say(f"speech: {100 * lost:.1f} % of the callers' packets were lost")
    made[f"WebRTC call that loses {100 * LOSS:g} %"] = _each(spoken, lambda n, pcm: heard[n])
    return made


def _each(spoken: list[Spoken], what: Callable[[int, bytes], bytes]) -> list[Spoken]:
    return [Spoken(what(number, one.pcm), one.text) for number, one in enumerate(spoken)]


def _others(spoken: list[Spoken], number: int) -> list[bytes]:
    """Who babbles while this one speaks: they say something else."""
    return [spoken[(number + step) % len(spoken)].pcm for step in range(1, min(BABBLERS + 1, len(spoken)))]
