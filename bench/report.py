"""Figures of one subject as a table to read, or as JSON lines like those of every benchmark."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from .figures import Figure, emit

__all__ = ["Report"]

NOTHING = "-"


class Report:
    """Add cells, then `close`. As JSON lines they are written at once, as a table at the end."""

    def __init__(self, bench: str, title: str, *, table: bool, console: Console | None = None) -> None:
        """`table` False: JSON lines."""
        self._bench, self._title, self._table = bench, title, table
        self._console = console or Console(highlight=False, width=None if Console().is_terminal else 160)
        self._columns: list[str] = []
        self._cells: dict[str, dict[str, str]] = {}
        self._notes: list[str] = []

    def another(self, title: str) -> Report:
        """A table of its own, written in the same way."""
        return Report(self._bench, title, table=self._table, console=self._console)

    def add(
        self,
        row: str,
        column: str,
        value: float,
        unit: str,
        *,
        better: str = "lower",
        detail: dict[str, Any] | None = None,
        shown: str = "",
    ) -> None:
        """`shown`: in the table, instead of the value and its unit."""
        self._cell(row, column, shown or f"{_short(value, unit)} {unit}".strip())
        if not self._table:
            emit(Figure(self._bench, f"{row}, {column}", value, unit, better=better, detail=detail))

    def say(self, row: str, column: str, why: str) -> None:
        """In place of a figure. JSON lines have none then."""
        self._cell(row, column, why)

    def note(self, text: str) -> None:
        """Below the table."""
        self._notes.append(text)

    def close(self) -> None:
        if not self._table or not self._cells:
            return
        table = Table(title=self._title, title_justify="left", title_style="bold", header_style="")
        table.add_column("")
        for column in self._columns:
            table.add_column(column, justify="right")
        for row, cells in self._cells.items():
            table.add_row(row, *(cells.get(column, NOTHING) for column in self._columns))
        self._console.print()
        self._console.print(table)
        for note in self._notes:
            self._console.print(f"  {note}", markup=False)

    def _cell(self, row: str, column: str, text: str) -> None:
        if column not in self._columns:
            self._columns.append(column)
        self._cells.setdefault(row, {})[column] = text


def _short(value: float, unit: str) -> str:
    """What is worth reading: nobody needs tenths of a millisecond."""
    if abs(value) >= 100 or unit in ("", "ms", "MB"):
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2g}" if abs(value) < 1 else f"{value:.1f}"
