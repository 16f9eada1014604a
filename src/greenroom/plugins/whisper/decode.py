"""Whisper on CTranslate2: audio in, text with times, language and how sure the model is out.

Whisper was trained on windows of 30 s. The encoder's cost follows the window's length, so an utterance gets one that is
little longer than itself. That needs the mode with timestamps: the model says where its last segment ends, and what it
writes beyond the audio's end (it tends to begin anew) is cut there. Without timestamps a short window makes it repeat itself.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from greenroom.agents.speech.protocols import MissingProvider
from greenroom.extras import install_command
from greenroom.plugins.whisper.bpe import BytePairs
from greenroom.plugins.whisper.features import HOP, SAMPLE_RATE, Samples, log_mel

__all__ = ["MAX_PIECE", "Hearing", "Model", "Segment", "Word", "default_threads", "require_library", "window"]

WINDOWS = (6.0, 8.0, 10.0, 13.0, 17.0, 22.0, 30.0)
"""Seconds. Few, so that what the library prepares for a length is used again and requests of one length can be decoded
together. Shorter than 6 s the words suffer."""
BEHIND = 1.0
"""Seconds of silence behind the audio."""
MAX_PIECE = 28.0
"""Seconds of audio that are decoded at once. What is longer is cut between words."""
CUT_WITHIN = 8.0
"""Seconds at the end of a piece within which the widest gap between words is looked for."""
END_TOLERANCE = 0.35
"""A segment that ends so close to the end of what can be heard is the last one."""
HEARD = 0.04
"""Part of the loudest 20 ms, as an amplitude, above which something can be heard."""
SAID_AGAIN_RATE = 8.0
"""Tokens a second above which a text that says the same twice was said once: people say four or five."""
TIMESTAMP = 0.02
"""Seconds of one timestamp step."""
TOKENS_A_SECOND = 8
TOKENS_AT_LEAST = 16
MAX_TOKENS = 220
MAX_PROMPT = 100
"""Tokens of hot words: half the model's text context is 224, and every token costs time."""
PROMPT_SECONDS = 4.0
UNSPACED = frozenset(["zh", "ja", "th", "lo", "my", "yue"])
"""Languages that are written without spaces: their words' times are those of the characters."""


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Times in seconds from the beginning of the audio."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Hearing:
    """What the model made of one piece of audio, before any doubt."""

    text: str = ""
    language: str = ""
    segments: tuple[Segment, ...] = ()
    words: tuple[Word, ...] = ()
    """Only when asked for."""
    log_probability: float = 0.0
    """Mean natural logarithm of the probability of a token."""
    no_speech: float = 0.0
    """Probability, as the model sees it before the first word, that nobody speaks."""
    looped: bool = False
    """It repeated itself and was cut."""
    tokens: tuple[int, ...] = field(default=(), repr=False)


def require_library() -> None:
    """Raises MissingProvider."""
    if importlib.util.find_spec("ctranslate2") is None:
        raise MissingProvider("speech recognition (whisper)", install_command("speech"))


def default_threads() -> int:
    """As many as there are processors for this process, but at most four: more do not make short utterances faster."""
    return min(4, len(os.sched_getaffinity(0)))


def window(samples: int) -> int:
    """Samples of the window for so many samples of audio."""
    needed = samples / SAMPLE_RATE + BEHIND
    return int(next((seconds for seconds in WINDOWS if seconds >= needed), WINDOWS[-1]) * SAMPLE_RATE)


class Model:
    """One loaded model. Not for two threads at once.

    Raises MissingProvider without the library, RuntimeError, OSError or ValueError for a folder that holds no model.
    """

    def __init__(self, folder: Path, *, threads: int | None = None, compute_type: str = "int8") -> None:
        require_library()
        import ctranslate2

        self._storage = ctranslate2.StorageView
        self._model: Any = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type=compute_type, intra_threads=threads or default_threads()
        )
        self.pairs = BytePairs.load(folder / "tokenizer.json")
        special = self.pairs.special
        self._start = special["<|startoftranscript|>"]
        self._previous = special["<|startofprev|>"]
        self._transcribe = special["<|transcribe|>"]
        self._end = special["<|endoftext|>"]
        self._times = special["<|notimestamps|>"] + 1
        self.n_mels: int = self._model.n_mels
        self.multilingual: bool = self._model.is_multilingual

    def prompt(self, hot_words: Sequence[str]) -> tuple[int, ...]:
        """The tokens that make those words more likely: they are put before the audio as if they had just been said."""
        if not hot_words:
            return ()
        # A whole sentence with its times: after words without times the model leaves them out too, and cannot end.
        said = self.pairs.encode(" " + ", ".join(hot_words))[:MAX_PROMPT]
        return (self._times, *said, *self.pairs.encode("."), self._times + round(PROMPT_SECONDS / TIMESTAMP))

    def hear(
        self,
        batch: Sequence[Samples],
        *,
        language: str | None = "en",
        prompt: Sequence[int] = (),
        words: bool = False,
    ) -> list[Hearing]:
        """One answer for each of the pieces, which must be shorter than `MAX_PIECE` and of the same `window`."""
        length = window(max(map(len, batch)))
        features = np.stack([log_mel(samples, n_mels=self.n_mels, length=length) for samples in batch])
        encoded = self._model.encode(self._storage.from_array(features))
        languages = self._languages(encoded, len(batch), language)
        before = [self._previous, *prompt] if prompt else []
        starts = [self._beginning(language) for language in languages]
        longest = max(map(len, batch)) / SAMPLE_RATE
        results = self._model.generate(
            encoded,
            [[*before, *start] for start in starts],
            beam_size=1,
            return_scores=True,
            return_no_speech_prob=True,
            max_length=len(before) + 4 + min(MAX_TOKENS, int(longest * TOKENS_A_SECOND) + TOKENS_AT_LEAST),
        )
        heard = []
        for i, (samples, result) in enumerate(zip(batch, results, strict=True)):
            hearing = self._read(result, samples, languages[i])
            if hearing.tokens and (words or hearing.looped):
                one = encoded if len(batch) == 1 else self._storage.from_array(np.asarray(encoded)[i : i + 1])
                hearing = self._align(one, starts[i], hearing, samples, words)
            heard.append(hearing)
        return heard

    def _languages(self, encoded: Any, count: int, language: str | None) -> list[str]:
        if not self.multilingual:
            if language not in (None, "en"):
                raise ValueError(f"the model is English only, not {language!r}")
            return ["en"] * count
        if language is not None:
            if f"<|{language}|>" not in self.pairs.special:
                raise ValueError(f"the model knows no language {language!r}")
            return [language] * count
        return [str(ranked[0][0])[2:-2] for ranked in self._model.detect_language(encoded)]

    def _beginning(self, language: str) -> list[int]:
        if not self.multilingual:
            return [self._start]
        return [self._start, self.pairs.special[f"<|{language}|>"], self._transcribe]

    def _read(self, result: Any, samples: Samples, language: str) -> Hearing:
        seconds, heard = len(samples) / SAMPLE_RATE, _heard(samples)[1]
        segments: list[Segment] = []
        spoken: list[int] = []
        looped = False
        for start, end, tokens in self._segments(result.sequences_ids[0], seconds, heard):
            kept = _once(without_loops(tokens), end - start)
            if len(kept) < len(tokens):
                looped = True
            text = self.pairs.decode(kept).strip()
            if segments and text == segments[-1].text and end - start < (segments[-1].end - segments[-1].start) / 2:
                continue  # there is no room for it to have been said again
            if text:
                segments.append(Segment(text, start, end))
                spoken += kept
        return Hearing(
            " ".join(segment.text for segment in segments),
            language,
            tuple(segments),
            (),
            float(result.scores[0]),
            float(result.no_speech_prob),
            looped,
            tuple(spoken),
        )

    def _segments(
        self, numbers: Sequence[int], seconds: float, heard: float
    ) -> Iterator[tuple[float, float, list[int]]]:
        """Until the first that reaches the end of what can be heard."""
        start: float | None = None
        tokens: list[int] = []
        for number in numbers:
            if number < self._times:
                if number < self._end:
                    tokens.append(number)
                continue
            at = (number - self._times) * TIMESTAMP
            if not tokens:
                if at >= heard:
                    return
                start = at
                continue
            yield min(start or 0.0, seconds), min(at, seconds), tokens
            if at >= heard - END_TOLERANCE:
                return
            start, tokens = at, []
        if tokens:
            yield min(start or 0.0, seconds), seconds, tokens

    def _align(self, encoded: Any, start: list[int], hearing: Hearing, samples: Samples, words: bool) -> Hearing:
        """Word times, and the probability of the text that is left."""
        (aligned,) = self._model.align(encoded, start, [list(hearing.tokens)], len(samples) // HOP)
        probabilities = np.maximum(np.asarray(aligned.text_token_probs, np.float64), 1e-10)
        began: dict[int, float] = {}
        for token, frame in aligned.alignments:
            began.setdefault(token, frame * TIMESTAMP)
        earliest, latest = _heard(samples)
        found: list[Word] = []
        for first, last, text in self._words(hearing):
            log = float(np.log(probabilities[first:last]).mean())
            begins, ends = (_at(began, token, latest) for token in (first, last))
            found.append(Word(text, max(begins, earliest), max(ends, earliest), math.exp(log)))
        return Hearing(
            hearing.text,
            hearing.language,
            hearing.segments,
            _within_segments(found, hearing.segments) if words else (),
            float(np.log(probabilities).mean()),
            hearing.no_speech,
            hearing.looped,
            hearing.tokens,
        )

    def _words(self, hearing: Hearing) -> Iterator[tuple[int, int, str]]:
        """First token, token behind the last, text."""
        first, spelled = 0, b""
        for i, number in enumerate(hearing.tokens):
            piece = self.pairs.bytes_of(number)
            whole = not _cut_inside(spelled)
            new = piece.startswith(b" ") or (hearing.language in UNSPACED and whole)
            if spelled and new and whole:
                yield first, i, spelled.decode("utf-8", "replace").strip()
                first, spelled = i, b""
            spelled += piece
        if spelled.strip():
            yield first, len(hearing.tokens), spelled.decode("utf-8", "replace").strip()


def _at(began: dict[int, float], token: int, end: float) -> float:
    """When that token begins. The alignment leaves none out but those behind the last."""
    return min(next((began[i] for i in range(token, token + 20) if i in began), end), end)


def _within_segments(words: list[Word], segments: Sequence[Segment]) -> tuple[Word, ...]:
    """The alignment gives the silence before a segment to the words around it; the model's own times do not."""
    counts = [len(segment.text.split()) for segment in segments]
    placed = list(words)
    if sum(counts) == len(words):  # else a language without spaces, whose segments cannot be counted off
        at = 0
        for segment, count in zip(segments, counts, strict=True):
            first = placed[at]
            if first.start < segment.start < first.end:
                placed[at] = Word(first.text, segment.start, first.end, first.probability)
                if at and placed[at - 1].end > first.start:
                    before = placed[at - 1]
                    placed[at - 1] = Word(before.text, before.start, min(before.end, segment.start), before.probability)
            at += count
    return tuple(Word(word.text, round(word.start, 2), round(word.end, 2), word.probability) for word in placed)


def _cut_inside(spelled: bytes) -> bool:
    """Whether the bytes end in the middle of a character."""
    try:
        spelled.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _heard(samples: Samples) -> tuple[float, float]:
    """Seconds to the first and to the end of the last 20 ms that can be heard beside the loudest."""
    frame = SAMPLE_RATE // 50
    count = len(samples) // frame
    if not count:
        return 0.0, len(samples) / SAMPLE_RATE
    levels = np.mean(samples[: count * frame].reshape(count, frame) ** 2, axis=1)
    audible = np.flatnonzero(levels >= HEARD**2 * levels.max())
    return float(audible[0] * frame / SAMPLE_RATE), float((audible[-1] + 1) * frame / SAMPLE_RATE)


def _once(tokens: list[int], seconds: float) -> list[int]:
    """A text that says the same twice, faster than anybody can."""
    half = len(tokens) // 2
    twice = len(tokens) % 2 == 0 and tokens[:half] == tokens[half:]
    return tokens[:half] if twice and half > 2 and len(tokens) > SAID_AGAIN_RATE * seconds else tokens


def without_loops(tokens: Sequence[int]) -> list[int]:
    """Cut where a phrase is said again and again: three times for three tokens or more, six for fewer ("no, no, no" is
    something people say). The phrase stays once."""
    kept = list(tokens)
    for size in range(1, 13):
        allowed = 6 if size < 3 else 3
        for start in range(max(0, len(kept) - size * allowed + 1)):
            phrase = kept[start : start + size]
            times = 1
            while kept[start + times * size : start + (times + 1) * size] == phrase:
                times += 1
            if times >= allowed:
                return kept[: start + size]
    return kept
