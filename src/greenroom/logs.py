"""How our programs write their logs: one line each, the same from a server and from a worker."""

from __future__ import annotations

import json
import logging
import sys
import time

__all__ = ["configure_logging"]


def configure_logging(level: str, *, json_lines: bool = False) -> None:
    """Time, level, logger and message on standard error; as JSON with `json_lines`. A program's own handlers stay.

    `level`: debug, info, warning, error or critical, in either case. ValueError for another.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"{level!r}: use debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonLines()
        if json_lines
        else logging.Formatter(
            "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s  %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
        )
    )
    logging.basicConfig(level=number, handlers=[handler])


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"time": f"{when}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "logger": record.name}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
