"""A whole utterance, of any length, to text: pieces that the model can take, its doubts heeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from greenroom.plugins.whisper.decode import CUT_WITHIN, MAX_PIECE, Hearing, Model, Segment, Word, window
from greenroom.plugins.whisper.features import SAMPLE_RATE, Samples
from greenroom.plugins.whisper.guards import invented, loud_enough

__all__ = ["LEAST", "Gap", "Recognition", "gaps", "joined", "recognise", "together"]

LEAST = int(0.1 * SAMPLE_RATE)
"""Samples below which nothing can have been said."""
BEFORE_WORD, AFTER_WORD = 0.15, 0.1
"""Seconds around a word's beginning in which the gap before it is looked for."""
GAP_FRAME = SAMPLE_RATE // 50


@dataclass(frozen=True, slots=True)
class Recognition:
    """What was said. Times in seconds from the beginning of the audio."""

    text: str = ""
    language: str = ""
    segments: tuple[Segment, ...] = ()
    words: tuple[Word, ...] = ()
    """Only when asked for."""
    log_probability: float = 0.0
    no_speech: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Recognition:
        segments = tuple(Segment(**segment) for segment in content["segments"])
        return cls(**{**content, "segments": segments, "words": tuple(Word(**word) for word in content["words"])})


def together(samples: Sequence[Samples]) -> bool:
    """Whether they can be decoded in one call."""
    return (
        all(LEAST <= len(one) <= MAX_PIECE * SAMPLE_RATE for one in samples)
        and len(set(map(window, map(len, samples)))) == 1
    )


def recognise(
    model: Model,
    batch: Sequence[Samples],
    *,
    language: str | None = "en",
    prompt: Sequence[int] = (),
    words: bool = False,
) -> list[Recognition]:
    """One answer for each. Several must be fit to be decoded `together`."""
    if len(batch) == 1 and len(batch[0]) > MAX_PIECE * SAMPLE_RATE:
        return [_long(model, batch[0], language, prompt, words)]
    loud = [samples for samples in batch if len(samples) >= LEAST and loud_enough(samples)]
    heard = iter(model.hear(loud, language=language, prompt=prompt, words=words) if loud else ())
    answers = []
    for samples in batch:
        audible = len(samples) >= LEAST and loud_enough(samples)
        answer = _believed(next(heard)) if audible else Recognition(language=language or "")
        if audible and prompt and not answer.text:
            # Hot words that do not fit make the model unsure, or silent.
            (alone,) = model.hear([samples], language=language, words=words)
            answer = _believed(alone)
        answers.append(answer)
    return answers


def _believed(hearing: Hearing, shift: float = 0.0) -> Recognition:
    if invented(hearing):
        return Recognition("", hearing.language, (), (), hearing.log_probability, hearing.no_speech)
    return Recognition(
        hearing.text,
        hearing.language,
        tuple(Segment(s.text, round(s.start + shift, 2), round(s.end + shift, 2)) for s in hearing.segments),
        tuple(
            Word(w.text, round(w.start + shift, 2), round(w.end + shift, 2), round(w.probability, 4))
            for w in hearing.words
        ),
        hearing.log_probability,
        hearing.no_speech,
    )


def _long(model: Model, samples: Samples, language: str | None, prompt: Sequence[int], words: bool) -> Recognition:
    """Piece after piece; each ends between two words of the one before it."""
    parts: list[Recognition] = []
    at = 0
    while len(samples) - at >= LEAST:
        piece = samples[at : at + int(MAX_PIECE * SAMPLE_RATE)]
        last = at + len(piece) >= len(samples)
        if not loud_enough(piece):
            at += len(piece)
            continue
        (hearing,) = model.hear([piece], language=language, prompt=prompt, words=words or not last)
        language = language or hearing.language  # of the first piece, for all
        cut = MAX_PIECE
        if not last and hearing.words:
            cut, count = _between_words(piece, hearing.words)
            kept = hearing.words[:count]
            text = joined(kept, hearing.text)
            segments = (Segment(text, kept[0].start, kept[-1].end),)
            hearing = Hearing(
                text, hearing.language, segments, kept if words else (), hearing.log_probability, hearing.no_speech
            )
        parts.append(_believed(hearing, at / SAMPLE_RATE))
        at += len(piece) if last else int(cut * SAMPLE_RATE)
    said = [part for part in parts if part.text]
    if not said:
        return Recognition("", language or "")
    return Recognition(
        " ".join(part.text for part in said),
        said[0].language,
        tuple(segment for part in said for segment in part.segments),
        tuple(word for part in said for word in part.words),
        sum(part.log_probability for part in said) / len(said),
        min(part.no_speech for part in said),
    )


def joined(words: Sequence[Word], text: str) -> str:
    """The beginning of `text` that consists of `words`, with its own spaces."""
    at = 0
    for word in words:
        found = text.find(word.text, at)
        at = found + len(word.text) if found >= 0 else at
    return text[:at]


@dataclass(frozen=True, slots=True)
class Gap:
    """Where to cut between two words."""

    words: int
    """How many are before it."""
    at: float
    """Seconds."""
    level: float
    """Of the softest 20 ms there, as part of the whole audio's level."""


def gaps(samples: Samples, words: Sequence[Word], first: float, last: float) -> list[Gap]:
    """Between every two words of which the second begins in that span. A word's beginning is only known roughly, so the
    softest place around it is taken."""
    mean = float(np.sqrt(np.mean(samples**2))) or 1.0
    found = []
    for i in range(1, len(words)):
        if not first <= words[i].start <= last:
            continue
        start = max(0, int((words[i].start - BEFORE_WORD) * SAMPLE_RATE))
        count = (min(len(samples), int((words[i].start + AFTER_WORD) * SAMPLE_RATE)) - start) // GAP_FRAME
        if count < 1:
            continue
        levels = np.sqrt(np.mean(samples[start : start + count * GAP_FRAME].reshape(count, GAP_FRAME) ** 2, axis=1))
        softest = int(np.argmin(levels))
        at = (start + (softest + 0.5) * GAP_FRAME) / SAMPLE_RATE
        found.append(Gap(i, at, float(levels[softest]) / mean))
    return found


def _between_words(samples: Samples, words: Sequence[Word]) -> tuple[float, int]:
    """Where to cut a piece, in seconds, and how many words are before it."""
    found = gaps(samples, words, MAX_PIECE - CUT_WITHIN, MAX_PIECE)
    if not found:
        return MAX_PIECE, len(words)
    softest = min(found, key=lambda gap: gap.level)
    return softest.at, softest.words
