"""A call on the terminal: aligned, coloured lines; on a real terminal the line in the making is updated in place."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from greenroom.agents.caller import CallEvent

__all__ = ["CallPrinter"]

LABEL_WIDTH = 10
_STYLES = {
    "caller": "bold cyan",
    "understood": "cyan",
    "agent": "bold green",
    "heard": "green",
    "chat": "green",
    "latency": "magenta",
    "error": "bold red",
    "": "dim",
}
_LABELS = {"say": "caller", "understood": "understood", "caption": "agent", "heard": "heard", "chat": "chat"}
_STAGES = ("endpointing", "transcription", "llm_first_token", "tts_first_audio", "playout")
_STAGE_NAMES = {"llm_first_token": "first token", "tts_first_audio": "first speech"}


class CallPrinter:
    """`show(event)` prints events in their order. Use it as a context manager, so that the terminal is left tidy."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._making: dict[str, Text] = {}
        self._last_partial: dict[str, str] = {}
        self._written = self._joined = False

    def __enter__(self) -> CallPrinter:
        if self._console.is_terminal:
            self._live = Live(console=self._console, transient=True, refresh_per_second=12)
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, event: CallEvent) -> None:
        self._written = self._written or event.kind == "chat"
        if event.kind in _LABELS:
            self._speech(event)
        elif event.kind == "connected":
            self._joined = True
            self._line(
                "", f"joined room {event.values['room']} as {event.values['identity']} in {event.values['ms']} ms"
            )
        elif event.kind == "agent":
            # An agent without a state is spoken to all the same; it may be deaf.
            listens = "and listens" if event.values.get("listens") else "(it does not say that it listens)"
            self._line("", f"{event.values['identity']} is there {listens}, {event.values['ms']} ms after the start")
        elif event.kind == "turn":
            self._finish_open()
            self._turn(event.values)
        elif event.kind == "error":
            self._line("error", event.text)
        elif event.kind == "end":
            self._end(event.values)

    def _speech(self, event: CallEvent) -> None:
        label = _LABELS[event.kind]
        if event.final:
            self._making.pop(event.kind, None)
            self._last_partial.pop(event.kind, None)
            self._line(label, event.text)
        elif self._live is not None:
            self._making[event.kind] = self._compose(label, f"{event.text} ...", making=True)
            self._live.update(Text("\n").join(self._making.values()))
        elif self._last_partial.get(event.kind) != event.text:
            self._last_partial[event.kind] = event.text
            self._console.print(self._compose(label, f"{event.text} ...", making=True), soft_wrap=True)

    def _finish_open(self) -> None:
        """What was never declared final (a caption cut short) must not stay on the screen as if it were coming."""
        self._making.clear()
        self._last_partial.clear()
        if self._live is not None:
            self._live.update(Text(""))

    def _turn(self, values: dict[str, Any]) -> None:
        if values["latency_ms"] is None and not values["overlaps"]:
            self._console.print()  # it was heard, and not answered
            return
        if values["latency_ms"] is None:
            text = Text("no figure: the answer began before the line was over")
        else:
            figure = (f"{values['latency_ms']} ms", "bold")
            text = Text.assemble(figure, " from the end of speech to the first sound of the answer")
        stages = [(name, values["agent_ms"][name]) for name in _STAGES if name in values["agent_ms"]]
        if stages:
            text.append("  (" + ", ".join(f"{_STAGE_NAMES.get(name, name)} {ms}" for name, ms in stages) + ")", "dim")
        self._line("latency", text)
        self._console.print()

    def _end(self, values: dict[str, Any]) -> None:
        if values["result"] == "agent_failed":
            return  # the error has said so
        words = {
            "success": ("every line was understood and answered", "bold green"),
            "not_answered": ("nobody answered", "bold red"),
            "not_understood": ("answered, but not understood", "bold yellow"),
            "not_connected": ("no connection", "bold red"),
            "no_speech": ("no speech on this machine", "bold red"),
            "usage": ("wrong usage", "bold red"),
        }
        said, style = words[values["result"]]
        if "only_heard" in values:
            who = f"{values['only_heard']}, which does not speak"
            said = f"every line was heard by {who}" if values["result"] == "success" else said
            said = f"heard by {who}, but not understood" if values["result"] == "not_understood" else said
        if values["result"] == "not_answered" and self._written:
            said = "answered in writing only"
        if values["result"] == "not_connected" and self._joined:
            said = "the call was cut"
        self._line("", Text(said, style))

    def _line(self, label: str, text: str | Text) -> None:
        if self._console.is_terminal:
            # A grid keeps the second line of a long sentence under the first.
            grid = Table.grid(padding=(0, 2))
            grid.add_column(width=LABEL_WIDTH, justify="right", no_wrap=True)
            grid.add_column()
            style = _STYLES[label]
            grid.add_row(Text(label, style), text if isinstance(text, Text) else Text(text, "" if label else "dim"))
            self._console.print(grid)
        else:
            self._console.print(self._compose(label, text), soft_wrap=True)
        if self._live is not None:
            self._live.update(Text("\n").join(self._making.values()))

    @staticmethod
    def _compose(label: str, text: str | Text, *, making: bool = False) -> Text:
        style = _STYLES[label]
        body = text if isinstance(text, Text) else Text(text, "dim italic" if making else "dim" if not label else "")
        return Text.assemble((f"{label:>{LABEL_WIDTH}}", f"dim {style}" if making else style), "  ", body)
