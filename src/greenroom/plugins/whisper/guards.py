"""Whether what the model wrote was said by anybody.

Whisper always writes something: on noise, music and silence it invents a likely line. It is hardly ever sure of it, and knows
before the first word that nobody speaks. The limits were drawn between 21 kinds of made sounds (three draws each) and
short words of people and of three synthesisers, loud and 26 dB softer, which are the hardest to tell apart: with both models,
what is said by somebody has a doubt below these lines, and invented text is beyond one of them.
"""

from __future__ import annotations

import re

import numpy as np

from greenroom.plugins.whisper.decode import Hearing
from greenroom.plugins.whisper.features import Samples

__all__ = ["invented", "loud_enough"]

FLOOR = 10 ** (-64 / 20)
"""Root mean square of the loudest 50 ms, -64 dB below full scale: softer than any speech that reaches a microphone."""
FRAME = 800

LIMITS = ((0.5, -1.0), (0.65, -0.7), (0.85, -0.5), (0.95, 0.0))
"""Probability that nobody speaks, and the log probability below which text is not believed then. Together they are a line."""
HOPELESS = -1.95
"""Log probability below which no text is believed."""
LONG = ((4, -1.3), (7, -1.0))
"""From so many words on, what was said has a log probability above this: only single words are ever so unsure."""
LOOPED = -0.8

_STOCK = re.compile(
    r"(?:you|bye|bye bye|so|okay bye|thank you|thanks|i'm sorry|thank you very much|thank you so much|thank you bye|"
    r"thank(?:s| you)(?: so much)? for (?:watching|listening|your attention)(?: .*)?|"
    r"(?:please )?(?:like and )?subscribe(?: .*)?|see you (?:next time|in the next (?:video|one)|later)(?: .*)?|"
    r"we'll be right back|to be continued|the end|subtitles? (?:by|from) .*|(?:sub)?titling by .*|transcri(?:bed|ption) by .*|"
    r"captions? by .*|amara org|copyright .*|all rights reserved|music|applause|laughter|silence|blank audio)"
)
"""Lines from films and videos that Whisper writes where nobody speaks. People say some of them: they are only held to more."""
STOCK_LIMITS = ((0.25, -1.2), (0.6, -0.6))
_SOUND = re.compile(r"[\[(*♪♫][^\])*]*[\])*♪♫]?")


def loud_enough(samples: Samples) -> bool:
    whole = len(samples) // FRAME * FRAME
    if not whole:
        return False
    return bool(np.sqrt(np.max(np.mean(np.square(samples[:whole].reshape(-1, FRAME)), axis=1))) >= FLOOR)


def invented(hearing: Hearing) -> bool:
    """Whether nobody said it."""
    text = re.sub(r"[^\w' ]+", " ", _SOUND.sub(" ", hearing.text.replace("’", "'").lower()))
    words = text.split()
    if not any(character.isalnum() for character in text):
        return True
    sure, nobody = hearing.log_probability, hearing.no_speech
    if (
        sure < HOPELESS
        or any(len(words) >= count and sure < least for count, least in LONG)
        or (hearing.looped and sure < LOOPED)
    ):
        return True
    limits = (*LIMITS, *STOCK_LIMITS) if _STOCK.fullmatch(" ".join(words)) else LIMITS
    return any(nobody > silence and sure < least for silence, least in limits)
