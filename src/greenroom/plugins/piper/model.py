"""A Piper voice in memory: text to symbols, symbols to sound.

The network has three parts, one after the other. The first reads the whole sentence and says how long each symbol lasts and about
how it sounds, in frames of 256 samples; the second (the flow) makes these frames exact; the third (the decoder) turns them into
samples and costs as much as the others together. In the last two a frame reaches only so far into its neighbours. So the
file is cut between the parts: the first few frames go through all of them at once, and are heard while the rest is made, with
the melody of the whole sentence. What is cut so is sample for sample what the whole gives.
"""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from greenroom.agents.speech.protocols import ProviderError
from greenroom.plugins.voices.clauses import Clause, clauses, pieces
from greenroom.plugins.voices.onnx_graph import Graph, GraphError
from greenroom.plugins.voices.phonemes import phonemes
from greenroom.plugins.voices.server import Piece
from greenroom.plugins.voices.session import open_session
from greenroom.plugins.voices.shape import Samples

__all__ = ["FIRST_FRAMES", "NEIGHBOURS", "FrameSource", "PiperModel", "Symbols", "in_chunks", "load"]

logger = logging.getLogger("greenroom.piper")

FLOW, DECODER = "/flow/flows.7/Slice", "/dec/conv_pre/Conv"
"""The nodes with which the second and the third part begin."""
NEIGHBOURS = 10
"""Frames that the decoder looks at on either side of one."""
REACH = 32
"""The same for the flow: four times four convolutions over five frames."""
WORTH = 120
"""Frames from which on it is worth to do the flow of the first ones apart."""
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
        self._parts = [_Part(part, threads) for part in ([data] if whole else _cut(data) or [data])]
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
        first, *others = self._parts
        made = first(**given)
        if not others:
            yield made[0].reshape(-1)
            return
        flow, decoder = others
        yield from in_chunks(lambda frames: decoder.ordered(frames)[0].reshape(-1), _Frames(flow, *made))


class _Part:
    """One part of the network: named or ordered tensors in, tensors out."""

    def __init__(self, data: bytes, threads: int) -> None:
        self._session = open_session(data, threads)
        self._names = Graph(data).inputs

    def __call__(self, **given: Any) -> list[Samples]:
        out: list[Samples] = self._session.run(None, given)
        return out

    def ordered(self, *given: Samples) -> list[Samples]:
        return self(**dict(zip(self._names, given, strict=True)))


class _Frames:
    """The frames as the flow makes them: the first ones soon, all others at one go when they are asked for."""

    def __init__(self, flow: _Part, rough: Samples, mask: Samples) -> None:
        self._flow = flow
        self._rough, self._mask = rough, mask
        self._made = np.zeros((1, rough.shape[1], 0), np.float32)

    def __len__(self) -> int:
        return int(self._rough.shape[2])

    def __call__(self, start: int, end: int) -> Samples:
        if end > self._made.shape[2]:
            apart = not self._made.size and len(self) > WORTH and end + REACH <= len(self) // 2
            upto = end + REACH if apart else len(self)
            made = self._flow.ordered(self._rough[:, :, :upto].copy(), self._mask[:, :, :upto].copy())[0]
            self._made = made[:, :, : end if apart else upto]
        return np.ascontiguousarray(self._made[:, :, start:end])


class FrameSource(Protocol):
    def __len__(self) -> int: ...

    def __call__(self, start: int, end: int) -> Samples:
        """Frames (1, channels, end - start)."""


def in_chunks(decode: Callable[[Samples], Samples], frames: FrameSource) -> Iterator[Samples]:
    """The sound of all frames, decoded a few at a time: the same samples as in one go."""
    count, start, size = len(frames), 0, FIRST_FRAMES
    while start < count:
        end = min(count, start + size)
        if count - end < NEIGHBOURS:
            end = count
        left, right = max(0, start - NEIGHBOURS), min(count, end + NEIGHBOURS)
        sound = decode(frames(left, right))
        each = len(sound) // (right - left)
        yield sound[(start - left) * each : (end - left) * each]
        start, size = end, MORE_FRAMES


def _cut(data: bytes) -> list[bytes] | None:
    """The three parts. None for a network of another build, which is then run whole."""
    try:
        graph = Graph(data)
        by_name = {node.name: node for node in graph.nodes}
        makers = {output: node for node in graph.nodes for output in node.outputs}
        if FLOW not in by_name or DECODER not in by_name:
            return None
        rough, exact = by_name[FLOW].inputs[0], by_name[DECODER].inputs[0]
        # The flow ends with a product with the mask of those frames that are there.
        masks = [name for name in makers[exact].inputs if not makers[name].name.startswith("/flow/")]
        if len(masks) != 1:
            return None
        flow, decoder = graph.part(given=[rough, *masks], wanted=[exact]), graph.part(given=[exact])
        if Graph(flow).inputs != [rough, *masks] or Graph(decoder).inputs != [exact]:
            # Voices of several speakers: these parts want to know who speaks.
            return None
        return [graph.part(wanted=[rough, *masks]), flow, decoder]
    except (GraphError, KeyError, IndexError) as error:
        logger.warning("the voice is run whole, sentence by sentence: %s", error)
        return None


def load(configuration: dict[str, Any]) -> PiperModel:
    """For the process that holds it."""
    return PiperModel(Path(configuration["file"]), threads=int(configuration.get("threads", 1)))
