"""A whole utterance, of any length, to text: pieces that the model can take, its doubts heeded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from greenroom.plugins.whisper.decode import CUT_WITHIN, MAX_PIECE, Hearing, Model, Segment, Word, window
from greenroom.plugins.whisper.features import SAMPLE_RATE, Samples
from greenroom.plugins.whisper.guards import invented, loud_enough

__all__ = ["LEAST", "Gap", "Recognition", "gaps", "joined", "recognise", "together"]

LEAST = int(0.1 * SAMPLE_RATE)
"""Samples below which nothing can have been said."""
HOT_SURE, HOT_NOBODY = -0.6, 0.3
"""Log probability and probability that nobody speaks beyond which a text with hot words is compared with one without."""
BEFORE_WORD, AFTER_WORD = 0.15, 0.1
"""Seconds around a word's beginning in which the gap before it is looked for."""
AT_THE_CUT = 0.3
"""Seconds after a cut."""
GAP_FRAME = SAMPLE_RATE // 50
STILL_SPEAKS = 0.4
"""Seconds of voice that are more than the end of a word."""
SPARSE_FROM, LEAST_WORDS = 8.0, 0.8
"""Seconds from which on a text is held to a number of words, and how many of them a second of voice has at least. People say four."""


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
    thorough: bool = False,
) -> list[Recognition]:
    """One answer for each. Several must be fit to be decoded `together`.

    `thorough`: what the model left out, because it ended its text too early, is heard again.
    """
    if len(batch) == 1 and len(batch[0]) > MAX_PIECE * SAMPLE_RATE:
        return [_long(model, batch[0], language, prompt, words, thorough)]
    answers = _at_once(model, batch, language, prompt, words)
    if thorough:
        return [
            _whole(model, answer, samples, language, prompt, words)
            for answer, samples in zip(answers, batch, strict=True)
        ]
    return answers


def _at_once(
    model: Model, batch: Sequence[Samples], language: str | None, prompt: Sequence[int], words: bool
) -> list[Recognition]:
    loud = [samples for samples in batch if len(samples) >= LEAST and loud_enough(samples)]
    heard = iter(model.hear(loud, language=language, prompt=prompt, words=words) if loud else ())
    answers = []
    for samples in batch:
        audible = len(samples) >= LEAST and loud_enough(samples)
        answer = _believed(next(heard)) if audible else Recognition(language=language or "")
        if audible and prompt and _doubtful(answer, model.pairs.decode(prompt)):
            # Where nobody speaks the model repeats the hot words, and where they do not fit it may write nothing.
            (hearing,) = model.hear([samples], language=language, words=words)
            alone = _believed(hearing)
            answer = answer if answer.text and alone.text else alone
        answers.append(answer)
    return answers


def _whole(
    model: Model,
    answer: Recognition,
    samples: Samples,
    language: str | None,
    prompt: Sequence[int],
    words: bool,
) -> Recognition:
    """The answer with what the model left out of it: it may take the end of a sentence for the end of all ("Please repeat after
    me."), or end a long text after its first words."""
    level = float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0
    if answer.segments:
        behind = int(answer.segments[-1].end * SAMPLE_RATE)
        if _voiced(samples[behind:], level) >= STILL_SPEAKS:
            (more,) = _at_once(model, [samples[behind:]], language, prompt, words)
            answer = _together([answer, _later(more, behind / SAMPLE_RATE)], language)
    if len(samples) >= SPARSE_FROM * SAMPLE_RATE and len(answer.text.split()) < LEAST_WORDS * _voiced(samples, level):
        halves = _in_halves(model, samples, language, prompt, words)
        answer = halves if len(halves.text) > len(answer.text) else answer
    return answer


def _voiced(samples: Samples, level: float) -> float:
    """Seconds of it that are as loud as half of `level`, a root mean square: of speech about every second."""
    frames = samples[: len(samples) // GAP_FRAME * GAP_FRAME].reshape(-1, GAP_FRAME)
    loud = np.sqrt(np.mean(frames**2, axis=1)) > 0.5 * level
    return float(np.count_nonzero(loud)) * GAP_FRAME / SAMPLE_RATE


def _in_halves(model: Model, samples: Samples, language: str | None, prompt: Sequence[int], words: bool) -> Recognition:
    """Cut where it is softest in the middle third."""
    third = len(samples) // 3 // GAP_FRAME * GAP_FRAME
    levels = np.mean(samples[third : 2 * third].reshape(-1, GAP_FRAME) ** 2, axis=1)
    cut = third + int((np.argmin(levels) + 0.5) * GAP_FRAME)
    parts = []
    for at, half in ((0, samples[:cut]), (cut, samples[cut:])):
        (answer,) = recognise(model, [half], language=language, prompt=prompt, words=words, thorough=True)
        parts.append(_later(answer, at / SAMPLE_RATE))
    return _together(parts, language)


def _later(answer: Recognition, seconds: float) -> Recognition:
    return replace(
        answer,
        segments=tuple(
            replace(s, start=round(s.start + seconds, 2), end=round(s.end + seconds, 2)) for s in answer.segments
        ),
        words=tuple(replace(w, start=round(w.start + seconds, 2), end=round(w.end + seconds, 2)) for w in answer.words),
    )


def _doubtful(answer: Recognition, hot_words: str) -> bool:
    said, hot = (set(re.findall(r"\w+", text.lower())) for text in (answer.text, hot_words))
    return answer.log_probability < HOT_SURE or answer.no_speech > HOT_NOBODY or said <= hot


def _believed(hearing: Hearing) -> Recognition:
    if invented(hearing):
        return Recognition("", hearing.language, (), (), hearing.log_probability, hearing.no_speech)
    return Recognition(
        hearing.text,
        hearing.language,
        tuple(Segment(s.text, round(s.start, 2), round(s.end, 2)) for s in hearing.segments),
        tuple(Word(w.text, round(w.start, 2), round(w.end, 2), round(w.probability, 4)) for w in hearing.words),
        hearing.log_probability,
        hearing.no_speech,
    )


def _long(
    model: Model, samples: Samples, language: str | None, prompt: Sequence[int], words: bool, thorough: bool
) -> Recognition:
    """Piece after piece; each ends between two words of the one before it."""
    parts: list[Recognition] = []
    at, before = 0, ""
    while len(samples) - at >= LEAST:
        piece = samples[at : at + int(MAX_PIECE * SAMPLE_RATE)]
        last = at + len(piece) >= len(samples)
        if not loud_enough(piece):
            at, before = at + len(piece), ""
            continue
        (hearing,) = model.hear([piece], language=language, prompt=prompt, words=words or not last or bool(before))
        language = language or hearing.language  # of the first piece, for all
        cut = MAX_PIECE
        begin, end_word = int(_said_already(before, hearing.words)), len(hearing.words)
        if not last and hearing.words:
            cut, end_word = _between_words(piece, hearing.words)
        kept = hearing.words[begin:end_word]
        before = kept[-1].text if kept else ""
        if len(kept) < len(hearing.words):
            text = joined(hearing.words[:end_word], hearing.text)
            text = text[len(joined(hearing.words[:begin], text)) :].strip()
            segments = (Segment(text, kept[0].start, kept[-1].end),) if kept else ()
            hearing = replace(hearing, text=text, segments=segments, words=kept)
        if not words:
            hearing = replace(hearing, words=())
        end = len(samples) if last else at + int(cut * SAMPLE_RATE)
        part = _believed(hearing)
        if thorough:
            part = _whole(model, part, samples[at:end], language, prompt, words)
        parts.append(_later(part, at / SAMPLE_RATE))
        at = end
    return _together(parts, language)


def _said_already(before: str, words: Sequence[Word]) -> bool:
    """A short word at the cut is heard on both sides of it."""
    return bool(before and words) and _plain(before) == _plain(words[0].text) and words[0].start < AT_THE_CUT


def _plain(word: str) -> str:
    return re.sub(r"\W+", "", word).lower()


def _together(parts: Sequence[Recognition], language: str | None) -> Recognition:
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
