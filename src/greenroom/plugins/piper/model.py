"""A Piper voice in memory: text to symbols, symbols to sound.

The network has two halves. The first makes of the whole sentence how it will sound, in frames of 256 samples; the second turns
frames into samples and costs three times as much. The file is cut between them, so that the first sound is there when a
few frames have been turned, while the melody is still that of the whole sentence. Each frame sounds into its neighbours for ten
frames and no further (tried out: what is cut so is sample for sample what the whole gives), so chunks overlap by those.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from greenroom.agents.speech.protocols import ProviderError
from greenroom.plugins.voices.clauses import Clause, clauses, pieces
from greenroom.plugins.voices.onnx_graph import Graph, GraphError
from greenroom.plugins.voices.phonemes import phonemes
from greenroom.plugins.voices.server import Piece
from greenroom.plugins.voices.session import open_session
from greenroom.plugins.voices.shape import Samples

__all__ = ["FIRST_FRAMES", "NEIGHBOURS", "PiperModel", "Symbols", "in_chunks", "load"]

logger = logging.getLogger("greenroom.piper")

DECODER = "/dec/conv_pre/Conv"
"""The node with which the second half begins."""
NEIGHBOURS = 10
"""Frames into which a frame sounds, on either side."""
FIRST_FRAMES, MORE_FRAMES = 32, 96
"""Frames in a chunk. The first is to be there soon (0.37 s of sound), the others are to cost little for what they overlap."""
FIRST_PIECE, LONGEST_PIECE = 60, 160
"""Characters. The first half must have read all of a piece before any of it is heard; that takes 1 ms a character."""
GAIN = 1.4


class Symbols:
    """The network's alphabet, as its configuration gives it."""

    def __init__(self, table: dict[str, list[int]]) -> None:
        missing = [symbol for symbol in "^_$" if symbol not in table]
        if missing:
            raise ProviderError(f"the voice's table of symbols lacks {' '.join(missing)}")
        self._table = table
        self.dropped = 0
        """Symbols so far that the network does not know."""

    def ids(self, parts: list[tuple[str, str]]) -> list[int]:
        """Of phonemes and the mark after them, clause by clause. A pad stands between any two symbols."""
        text = " ".join(spoken + mark for spoken, mark in parts)
        pad = self._table["_"]
        out = [*self._table["^"], *pad]
        for symbol in unicodedata.normalize("NFD", text):
            known = self._table.get(symbol)
            if known is None:
                self.dropped += 1
                logger.debug("the voice has no symbol %r", symbol)
                continue
            out += known
            out += pad
        return [*out, *self._table["$"]]


class PiperModel:
    """One voice. `whole`: run the network in one go even where it can be cut (for comparison)."""

    def __init__(self, path: Path, *, threads: int = 1, whole: bool = False) -> None:
        try:
            configuration = json.loads(path.with_name(path.name + ".json").read_text())
            self._rate = int(configuration["audio"]["sample_rate"])
            self._language = str(configuration["espeak"]["voice"])
            self.symbols = Symbols(configuration["phoneme_id_map"])
            inference = configuration["inference"]
            self._noise, self._noise_w = float(inference["noise_scale"]), float(inference["noise_w"])
            self._length = float(inference["length_scale"])
            self._speakers = int(configuration.get("num_speakers", 1))
            data = path.read_bytes()
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise ProviderError(f"{path} is not a Piper voice with its .onnx.json beside it: {error}") from error
        self._cut = None if whole else _cut(data)
        if self._cut is None:
            self._first, self._second = open_session(data, threads), None
        else:
            name, first, second = self._cut
            self._first, self._second = open_session(first, threads), open_session(second, threads)
            self._frames = name
        # What a session sets up at its first run is set up here.
        for _ in self.render(self.plan("Ready.", {})[0], {}):
            pass

    @property
    def sample_rate(self) -> int:
        return self._rate

    @property
    def gain(self) -> float:
        return GAIN

    def plan(self, text: str, options: dict[str, Any]) -> list[Piece]:
        parts = pieces(clauses(text), first=FIRST_PIECE, longest=LONGEST_PIECE)
        every = [clause for piece in parts for clause in piece]
        spoken = dict(zip(map(id, every), phonemes([each.text for each in every], self._language), strict=True))
        return [self._piece(piece, spoken, last=piece is parts[-1]) for piece in parts]

    def _piece(self, piece: list[Clause], spoken: dict[int, str], *, last: bool) -> Piece:
        # A sentence without a mark at its end is said as if there were a full stop, which is what it means.
        marks = [each.mark for each in piece]
        if last and not marks[-1]:
            marks[-1] = "."
        ids = self.symbols.ids([(spoken[id(each)], mark) for each, mark in zip(piece, marks, strict=True)])
        return Piece(ids, marks[-1])

    def render(self, piece: Piece, options: dict[str, Any]) -> Iterator[Samples]:
        length = self._length / float(options.get("speed", 1.0))
        given = {
            "input": np.array([piece.ids], np.int64),
            "input_lengths": np.array([len(piece.ids)], np.int64),
            "scales": np.array([self._noise, length, self._noise_w], np.float32),
        }
        if self._speakers > 1:
            given["sid"] = np.array([int(options.get("speaker", 0))], np.int64)
        made = self._first.run(None, given)[0]
        if self._second is None:
            yield made.reshape(-1)
            return
        second = self._second
        yield from in_chunks(lambda frames: second.run(None, {self._frames: frames})[0].reshape(-1), made)


def in_chunks(decode: Callable[[Samples], Samples], frames: Samples) -> Iterator[Samples]:
    """The sound of all frames (1, channels, frames), decoded a few at a time: the same samples as in one go."""
    count, start, size = frames.shape[2], 0, FIRST_FRAMES
    while start < count:
        end = min(count, start + size)
        if count - end < NEIGHBOURS:
            end = count
        left, right = max(0, start - NEIGHBOURS), min(count, end + NEIGHBOURS)
        sound = decode(np.ascontiguousarray(frames[:, :, left:right]))
        each = len(sound) // (right - left)
        yield sound[(start - left) * each : (end - left) * each]
        start, size = end, MORE_FRAMES


def _cut(data: bytes) -> tuple[str, bytes, bytes] | None:
    """The tensor between the halves, and both halves. None for a network of another build, which is then run whole."""
    try:
        graph = Graph(data)
        frames = next((node.inputs[0] for node in graph.nodes if node.name == DECODER), None)
        if frames is None:
            return None
        second = graph.part(given=[frames])
        if Graph(second).inputs != [frames]:
            # Voices of several speakers: the second half wants to know who speaks.
            return None
        return frames, graph.part(wanted=[frames]), second
    except GraphError as error:
        logger.warning("the voice is run whole, sentence by sentence: %s", error)
        return None


def load(configuration: dict[str, Any]) -> PiperModel:
    """For the process that holds it."""
    return PiperModel(Path(configuration["file"]), threads=int(configuration.get("threads", 1)))
