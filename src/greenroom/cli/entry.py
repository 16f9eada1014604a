"""The first thing that runs: Ctrl-C is quiet while the rest is still being imported."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends the process without a word; a shell shows 130
    from greenroom.cli.main import main as run

    run()
