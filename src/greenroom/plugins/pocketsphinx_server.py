"""The process that runs pocketsphinx, so that the event loop of the agent never waits for a decoder (it holds the
interpreter lock while it searches).

One *recogniser process* loads the models once (about half a second) and then forks per audio track: a fork takes milliseconds and
shares the models' pages. Clients hand it one end of a socket pair over a control socket (SCM_RIGHTS), which works across
forked jobs as well. It is single-threaded, so forking it is safe, and it ends when the last holder of the control
socket is gone.

Messages on a track's socket, both ways: one byte of kind, four bytes of little-endian length, payload.
To the decoder: `A` audio (int16, 16 kHz), `P` pause, `R` resume, `F` finish, `D` discard.
From the decoder: `p` partial text, `f` final as JSON {"text", "alternatives"}.

Two searches run over each utterance. The general trigram model of the package decodes while audio arrives (partials).
At a pause, a second model trained on the phrases that the program expects decodes the whole utterance again, which is
cheap because that model is small. The likelihood ratio of both best paths decides which text stands: measured on
synthetic voices, expected phrases score above +0.05 per second, anything else below +0.04, and mostly below zero.
"""

from __future__ import annotations

import json
import math
import os
import random
import select
import signal
import socket
import struct
import tempfile
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from greenroom.plugins import shared_process

__all__ = ["HEADER", "Decoding", "Models", "load_models", "main"]

HEADER = struct.Struct("<cI")
SAMPLE_RATE = 16_000
CHUNK_BYTES = 2_048
PRIME_BYTES = int(0.8 * SAMPLE_RATE) * 2
"""Audio used to estimate the cepstral mean before decoding begins. The model was trained with means taken over whole
utterances; with the built-in start value the first words of a call are lost."""
FORGET = ",".join(["40", "3", "-1", *["0"] * 10])
MAX_UTTERANCE_BYTES = 60 * SAMPLE_RATE * 2
MAX_HMMS = 3_000
"""Hypotheses per 10 ms frame that survive. The default of 30,000 costs twice the time for the same words (measured on
four synthetic voices: 37 and 36 of 78 sentences exact with free dictation)."""
AGREEING_JUDGEMENTS = 5
EXPECTED_THRESHOLD = 0.045
"""Natural-log likelihood ratio per second above which the expected phrase is believed."""
_NOISE_WORDS = frozenset(["<s>", "</s>", "<sil>", "[NOISE]", "[SPEECH]", "[COUGH]", "++NOISE++", "++BREATH++"])


@dataclass(frozen=True, slots=True)
class Models:
    general: Any
    expected: Any | None
    """None when no phrases were given."""


def load_models(phrases: list[str]) -> Models:
    """Both decoders, warmed up. Blocking, about half a second."""
    from pocketsphinx import Decoder, get_model_path

    general = Decoder(loglevel="FATAL", maxhmmpf=MAX_HMMS)
    expected = None
    if phrases:
        from pocketsphinx.lm import ArpaBoLM

        model = ArpaBoLM(text="\n".join(phrases) + "\n", add_start=True, discount_mass=0.2)
        model.compute()
        words = {word for phrase in phrases for word in phrase.split()}
        with tempfile.TemporaryDirectory(prefix="greenroom-lm-") as folder:
            language, dictionary = os.path.join(folder, "expected.arpa"), os.path.join(folder, "expected.dict")
            model.write_file(language)
            # With a dictionary of its own words the search is ready in 20 ms; with all 134,000 it takes a second.
            with open(get_model_path("en-us/cmudict-en-us.dict")) as every, open(dictionary, "w") as own:
                own.writelines(line for line in every if line.split(" ", 1)[0].split("(")[0] in words)
            expected = Decoder(loglevel="FATAL", lm=language, dict=dictionary)
    models = Models(general, expected)
    # What a decoder sets up at its first utterance is set up here, once for all tracks.
    decoding = Decoding(models)
    decoding.audio(random.Random(1).randbytes(PRIME_BYTES))
    decoding.finish()
    decoding.discard()
    return models


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


class Decoding:
    """The utterances of one track. Sans I/O: feed it, it answers with texts."""

    def __init__(self, models: Models) -> None:
        self._decoder = models.general
        self._expected = models.expected
        self._mean = ""
        self._pcm = bytearray()
        self._decoded = 0
        self._running = False
        self._prepared: _Verdict | None = None

    def audio(self, pcm: bytes) -> str | None:
        """More audio. Returns the text so far when it could be judged anew."""
        if len(self._pcm) + len(pcm) > MAX_UTTERANCE_BYTES:
            return None
        self._pcm += pcm
        if self._prepared is not None:
            return None
        if not self._running:
            if not self._mean and len(self._pcm) < PRIME_BYTES:
                return None
            self._begin()
        self._advance()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else None

    def pause(self) -> str | None:
        """Judge what is there, without ending the utterance, and return its text."""
        if self._prepared is None and self._pcm:
            self._prepared = self._judge()
        return self._prepared.text if self._prepared else None

    def resume(self) -> None:
        self._prepared = None

    def finish(self) -> dict[str, Any]:
        """The final text and the other reading. `discard` must follow, and may follow later: it takes 0.1 s."""
        self.pause()
        verdict = self._prepared
        if verdict is None:
            return {"text": "", "alternatives": []}
        texts = [verdict.text, verdict.other]
        if not verdict.expected:
            # Only now is the general search worth its second pass, which improves the words a little.
            self._stop()
            hypothesis = self._decoder.hyp()
            texts[0] = _clean(hypothesis.hypstr) if hypothesis else ""
        return {"text": texts[0], "alternatives": [text for text in texts[1:] if text and text != texts[0]]}

    def discard(self) -> None:
        """Make ready for the next utterance."""
        self._stop()
        if len(self._pcm) >= PRIME_BYTES:
            # The mean over the whole utterance is the better start for the next one.
            self._mean = self._estimate_mean(bytes(self._pcm))
        self._pcm.clear()
        self._prepared = None

    def _begin(self) -> None:
        if not self._mean:
            self._mean = self._estimate_mean(bytes(self._pcm))
        self._decoder.set_cmn(self._mean)
        self._decoder.start_utt()
        self._running = True
        self._decoded = 0

    def _advance(self) -> None:
        whole = len(self._pcm) - len(self._pcm) % 2
        while self._decoded < whole:
            end = min(self._decoded + CHUNK_BYTES, whole)
            self._decoder.process_raw(bytes(self._pcm[self._decoded : end]), False, False)
            self._decoded = end

    def _stop(self) -> None:
        if self._running:
            self._decoder.end_utt()
            self._running = False

    def _estimate_mean(self, pcm: bytes) -> str:
        # Setting a mean forgets the frames that the present one was taken over; what is set does not matter.
        self._decoder.set_cmn(FORGET)
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, True, True)
        mean = str(self._decoder.get_cmn(True))
        self._decoder.end_utt()
        return mean

    def _judge(self) -> _Verdict:
        """Bring the general search up to date, run the expected one over all of it, and choose."""
        if not self._running:
            self._begin()
        self._advance()
        general = self._decoder.hyp()
        verdict = _Verdict(_clean(general.hypstr) if general else "", "", False)
        if self._expected is None:
            return verdict
        pcm = bytes(self._pcm[: self._decoded])
        self._expected.start_utt()
        self._expected.process_raw(pcm, False, True)
        self._expected.end_utt()
        expected = self._expected.hyp()
        if expected is None:
            return verdict
        text = _clean(expected.hypstr)
        gain = _log(expected.score) - (_log(general.score) if general else -math.inf)
        if gain > EXPECTED_THRESHOLD * len(pcm) / (2 * SAMPLE_RATE):
            return _Verdict(text, verdict.text, True)
        return _Verdict(verdict.text, text, False)


@dataclass(frozen=True, slots=True)
class _Verdict:
    text: str
    other: str
    """What the search that lost made of it."""
    expected: bool
    """Whether the text is that of the expected search."""


def _clean(text: str) -> str:
    return " ".join(word.split("(")[0] for word in text.split() if word not in _NOISE_WORDS)


def _common_beginning(texts: Iterable[list[str]]) -> list[str]:
    words = []
    for column in zip(*texts, strict=False):
        if len(set(column)) > 1:
            break
        words.append(column[0])
    return words


def _reply(connection: socket.socket, kind: bytes, body: bytes) -> None:
    connection.sendall(HEADER.pack(kind, len(body)) + body)


def serve_track(connection: socket.socket, decoding: Decoding) -> None:
    """Serve one track until its client is gone."""
    pending = bytearray()
    judged: deque[list[str]] = deque(maxlen=AGREEING_JUDGEMENTS)
    shown = ""
    while True:
        data = connection.recv(1 << 16)
        if not data:
            return
        pending += data
        # Take all that has arrived before judging: when behind, partials are skipped instead of delayed further.
        while select.select([connection], [], [], 0)[0]:
            data = connection.recv(1 << 16)
            if not data:
                return
            pending += data
        partial: str | None = None
        while len(pending) >= HEADER.size:
            kind, length = HEADER.unpack_from(pending)
            if len(pending) < HEADER.size + length:
                break
            payload = bytes(pending[HEADER.size : HEADER.size + length])
            del pending[: HEADER.size + length]
            if kind == b"A":
                partial = decoding.audio(payload) or partial
            elif kind == b"P":
                # The best guess there is: shown without waiting for agreement, and again when it was shown before, because
                # now it may be the whole.
                if prepared := decoding.pause():
                    shown = prepared
                    _reply(connection, b"p", prepared.encode())
                partial = None
                judged.clear()
            elif kind == b"R":
                decoding.resume()
            elif kind in (b"F", b"D"):
                partial, shown = None, ""
                judged.clear()
                if kind == b"D":
                    decoding.discard()
                    continue
                _reply(connection, b"f", json.dumps(decoding.finish()).encode())
                decoding.discard()
        if partial is not None:
            # Only what several judgements in a row agree on is shown: the last words change while they are being spoken.
            judged.append(_clean(partial).split())
            if len(judged) < AGREEING_JUDGEMENTS:
                continue
            agreed = " ".join(_common_beginning(judged))
            if not agreed or agreed == shown or shown.startswith(agreed + " "):
                continue
            shown = agreed
            _reply(connection, b"p", agreed.encode())


def main() -> int:
    """Run as `python -m greenroom.plugins.pocketsphinx_server CONTROL_FD`, phrases as JSON on standard input."""
    control, phrases = shared_process.begin()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    models = load_models(phrases)
    if not shared_process.ready():
        return 0
    for connection in shared_process.accept(control):
        if os.fork() == 0:
            status = 1
            try:
                control.close()
                serve_track(connection, Decoding(models))
                status = 0
            except (ConnectionError, BrokenPipeError):
                status = 0
            finally:
                os._exit(status)
        connection.close()
    return 0


if __name__ == "__main__":
    shared_process.end(main())
