"""When an utterance begins, pauses and ends: a small state machine over voice-activity decisions.

Pure: it sees one probability per 32 ms frame and the text understood so far, and reads no clock.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

__all__ = ["Endpointer", "EndpointingOptions", "SpeechEdge", "looks_unfinished"]

FRAME_SECONDS = 0.032


class SpeechEdge(enum.Enum):
    STARTED = "started"
    PAUSED = "paused"
    """Silence for `pause` seconds: the final text may be prepared."""
    RESUMED = "resumed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class EndpointingOptions:
    """Times in seconds, probabilities 0..1."""

    start_probability: float = 0.5
    stop_probability: float = 0.35
    """Below it a frame counts as silence. Lower than the start so that a wavering voice does not flicker."""
    min_speech: float = 0.064
    """Voiced time before an utterance is taken to have begun."""
    pause: float = 0.16
    silence: float = 0.48
    """Silence that ends an utterance."""
    unfinished_silence: float = 1.2
    """Silence that ends an utterance whose text plainly expects more ("what is seven times")."""
    pre_roll: float = 0.5
    """Audio before the detected beginning that still belongs to it: soft first consonants come before the voice."""
    max_utterance: float = 30.0
    """An utterance is cut at the first gap of `word_gap` in the last quarter before this, or here at the latest; the next one
    begins at once if speech goes on."""
    word_gap: float = 0.064


_EXPECTS_MORE = re.compile(
    r"(?:\b(?:plus|minus|times|divided|multiplied|by|over|of|and|or|the|an|to|from|is|are|what|how much|percent of"
    r"|square root|hundred and|because|but|with|if|that|my|your|for|say|repeat|repeat after me|say after me))$"
)


_OPEN_CALCULATION = re.compile(r"\d\s*(?:[-+*/×÷=−–]|[xX](?![\w]))[.,?!\s]*$")

_COMPLETE_ANYWAY = re.compile(
    r"^(?:what|say what|so what|for what|how (?:old|tall|far) .*\b(?:is|are)|.*\b(?:it|that|this|he|she|they|you|times? \w+) is)$"
)


def looks_unfinished(text: str) -> bool:
    """Whether an utterance ending in these words plainly expects more to come."""
    # A recogniser that writes punctuation ends cut sentences with it too, and writes "seven times" as "7 x" or "7 -".
    text = text.strip()
    if text.endswith(("...", "…")) or _OPEN_CALCULATION.search(text):
        return True
    words = text.lower().rstrip(".,?!;: ")
    return bool(words) and bool(_EXPECTS_MORE.search(words)) and not _COMPLETE_ANYWAY.match(words)


class Endpointer:
    """Feed `update` with each frame's probability; it answers with the edges that the frame causes."""

    def __init__(self, options: EndpointingOptions | None = None) -> None:
        self.options = options or EndpointingOptions()
        self.speaking = False
        self.spoken = 0.0
        """Seconds of voice in the current utterance, its silences not counted."""
        self._voiced = 0.0
        self._silent = 0.0
        self._length = 0.0
        self._paused = False

    @property
    def silence(self) -> float:
        """Seconds since the last voiced frame of the current utterance."""
        return self._silent

    @property
    def paused(self) -> bool:
        return self._paused

    def required_silence(self, text: str) -> float:
        return self.options.unfinished_silence if looks_unfinished(text) else self.options.silence

    def update(self, probability: float, text: str = "") -> list[SpeechEdge]:
        """`text`: what is understood so far of the current utterance."""
        if not self.speaking:
            return self._update_idle(probability)
        edges: list[SpeechEdge] = []
        self._length += FRAME_SECONDS
        # After a pause the higher threshold decides, so that a breath does not undo a prepared final.
        threshold = self.options.start_probability if self._paused else self.options.stop_probability
        if probability >= threshold:
            self._silent = 0.0
            self.spoken += FRAME_SECONDS
            if self._paused:
                self._paused = False
                edges.append(SpeechEdge.RESUMED)
        else:
            self._silent += FRAME_SECONDS
            if not self._paused and self._silent >= self.options.pause:
                self._paused = True
                edges.append(SpeechEdge.PAUSED)
        if self._silent >= self.required_silence(text) or self._too_long():
            if not self._paused:
                edges.append(SpeechEdge.PAUSED)
            edges.append(SpeechEdge.ENDED)
            self.reset()
        return edges

    def _too_long(self) -> bool:
        at_most = self.options.max_utterance
        between_words = self._silent + 1e-9 >= self.options.word_gap
        return self._length >= at_most or (between_words and self._length >= 0.75 * at_most)

    def _update_idle(self, probability: float) -> list[SpeechEdge]:
        if probability < self.options.start_probability:
            self._voiced = max(0.0, self._voiced - FRAME_SECONDS)
            return []
        self._voiced += FRAME_SECONDS
        if self._voiced + 1e-9 < self.options.min_speech:
            return []
        self.speaking = True
        self._length = self.spoken = self._voiced
        self._silent = 0.0
        return [SpeechEdge.STARTED]

    def reset(self) -> None:
        self.speaking = False
        self._voiced = self._silent = self._length = self.spoken = 0.0
        self._paused = False
