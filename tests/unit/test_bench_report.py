"""Figures as a table to read, and as JSON lines."""

from __future__ import annotations

import io
import json

from bench.report import Report
from rich.console import Console


def filled(*, table: bool) -> tuple[str, Report]:
    out = io.StringIO()
    report = Report("speech", "Words wrong", table=table, console=Console(file=out, width=100))
    report.add("clean", "base", 4.12, "%", detail={"words": 100})
    report.add("clean", "tiny", 341.7, "ms", shown="342, 400 ms")
    report.add("noisy", "tiny", 12.5, "MB")
    report.say("noisy", "peer", "not installed")
    report.note("a quiet machine [2 cores]")
    report.close()
    return out.getvalue(), report


def test_a_table_has_a_cell_for_each_figure_and_says_what_is_missing(capsys):
    text, _ = filled(table=True)
    rows = {cells[0]: cells[1:] for line in text.splitlines() if (cells := [c.strip() for c in line.split("│")[1:-1]])}
    assert rows == {"clean": ["4.1 %", "342, 400 ms", "-"], "noisy": ["-", "12 MB", "not installed"]}
    assert "Words wrong" in text
    assert "a quiet machine [2 cores]" in text
    assert capsys.readouterr().out == ""


def test_json_lines_have_the_figures_only(capsys):
    text, _ = filled(table=False)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["figure"], line["value"], line["unit"]) for line in lines] == [
        ("clean, base", 4.12, "%"),
        ("clean, tiny", 341.7, "ms"),
        ("noisy, tiny", 12.5, "MB"),
    ]
    assert lines[0]["detail"] == {"words": 100}
    assert text == ""


def test_a_report_without_figures_writes_nothing():
    out = io.StringIO()
    Report("speech", "Words wrong", table=True, console=Console(file=out)).close()
    assert out.getvalue() == ""
