"""What of a long utterance need not be decoded again: the words before a gap, once two decodings agree on them.

So the cost of a partial text, and of the final one, does not grow with the utterance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from greenroom.plugins.whisper.agreement import agreeing
from greenroom.plugins.whisper.decode import Word
from greenroom.plugins.whisper.features import SAMPLE_RATE
from greenroom.plugins.whisper.recognise import Recognition, joined, quietest

__all__ = ["WORDS_FROM", "Settled"]

SETTLE_FROM = 9.0
"""Seconds of unsettled audio from which on a place to cut is looked for."""
WORDS_FROM = 7.0
"""Seconds of unsettled audio from which on the times of words are asked for, which cost a little."""
MUST_FROM = 16.0
"""Seconds from which on any gap will do."""
FIRST, LAST = 3.0, 2.0
"""Seconds at the beginning and at the end in which is not cut."""
GAP = 0.12
SENTENCE = 0.4
"""What the end of a sentence is worth, in seconds of a gap."""


@dataclass(slots=True)
class Settled:
    """Of one utterance."""

    pcm: bytearray = field(default_factory=bytearray)
    """The audio that is not settled."""
    texts: list[str] = field(default_factory=list)
    _before: tuple[Word, ...] = ()

    def whole(self, text: str) -> str:
        return " ".join((*self.texts, text)).strip()

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 2 / SAMPLE_RATE

    def judge(self, result: Recognition, seconds: float) -> bool:
        """A decoding of the first so many `seconds` of `pcm`. Whether some of it is settled by it."""
        before, self._before = self._before, result.words
        if seconds < SETTLE_FROM:
            return False
        words = result.words[: agreeing([w.text for w in result.words], [w.text for w in before])]
        place = _place(words, seconds)
        if place is None:
            return False
        cut = quietest(self.pcm, words[place - 1].end - 0.1, words[place].start + 0.1)
        self.texts.append(joined(words[:place], result.text))
        del self.pcm[: 2 * int(cut * SAMPLE_RATE)]
        self._before = ()
        return True


def _place(words: Sequence[Word], seconds: float) -> int | None:
    """How many words are before the best gap."""
    best, place = GAP if seconds < MUST_FROM else -1.0, None
    for i in range(1, len(words)):
        if words[i - 1].end < FIRST or words[i].start > seconds - LAST:
            continue
        worth = words[i].start - words[i - 1].end + (SENTENCE if words[i - 1].text[-1:] in ".?!" else 0.0)
        if worth > best:
            best, place = worth, i
    return place
