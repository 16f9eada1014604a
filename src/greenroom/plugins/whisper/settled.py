"""What of a long utterance need not be decoded again: the words before a gap, once two decodings agree on them.

So the cost of a partial text, and of the final one, does not grow with the utterance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from greenroom.plugins.whisper.agreement import agreeing
from greenroom.plugins.whisper.decode import Word
from greenroom.plugins.whisper.features import SAMPLE_RATE, samples_of
from greenroom.plugins.whisper.recognise import Recognition, gaps, joined

__all__ = ["WORDS_FROM", "Settled"]

SETTLE_FROM = 9.0
"""Seconds of unsettled audio from which on a place to cut is looked for."""
WORDS_FROM = 7.0
"""Seconds of unsettled audio from which on the times of words are asked for, which cost a little."""
MUST_FROM = 16.0
"""Seconds from which on the softest place will do, silent or not."""
FIRST, LAST = 3.0, 2.0
"""Seconds at the beginning and at the end in which is not cut."""
SILENT = 0.1
"""Part of the audio's level below which a gap is one."""
SENTENCE = 0.5
"""What the level of a gap is multiplied with where a sentence ends."""


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
        samples = samples_of(bytes(self.pcm))
        found = gaps(samples, words, FIRST, seconds - LAST)
        if seconds < MUST_FROM:
            found = [gap for gap in found if gap.level < SILENT]
        if not found:
            return False
        best = min(found, key=lambda gap: gap.level * (SENTENCE if words[gap.words - 1].text[-1:] in ".?!" else 1.0))
        self.texts.append(joined(words[: best.words], result.text))
        del self.pcm[: 2 * int(best.at * SAMPLE_RATE)]
        self._before = ()
        return True
