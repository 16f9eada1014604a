"""The first thing that runs: from here on Ctrl-C is quiet, while the rest is still being imported."""

from __future__ import annotations

__all__ = ["main"]

try:
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends the process without a word; a shell shows 130
except KeyboardInterrupt:
    raise SystemExit(130) from None


def main() -> None:
    from greenroom.cli.main import main as run

    run()
