"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import sys

from .figures import say
from .signalling import SignallingError
from .target import Options, TargetError

BENCHES = ("forward", "join", "dispatch", "turn", "memory", "pcm", "cost", "recognition", "voices", "speech")
ASKED_FOR = ("cost", "recognition", "voices", "speech")
"""Not run unless named."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Greenroom, or another LiveKit-compatible server. One JSON line per figure; no pass or fail.",
    )
    parser.add_argument(
        *("names",),
        nargs="*",
        metavar="NAME",
        help=f"any of: {', '.join(BENCHES)} (all but {', '.join(ASKED_FOR)})",
    )
    parser.add_argument("--url", default="", help="a running server, http://HOST:PORT; default: start our own")
    parser.add_argument("--api-key", default=os.environ.get("LIVEKIT_API_KEY", "devkey"))
    parser.add_argument("--api-secret", default=os.environ.get("LIVEKIT_API_SECRET", "secret"))
    parser.add_argument("--pid", type=int, help="process id of the server at --url, for its CPU time and memory")
    parser.add_argument("--quick", action="store_true", help="a minute instead of half an hour; coarser figures")
    parser.add_argument("--seconds", type=float, help="length of a measuring window")
    parser.add_argument("--row", action="append", default=[], help='one load only, such as "video 1 to 60" or "audio"')
    parser.add_argument("--no-coalesce", action="store_true", help="the load generator without UDP_GRO")
    parser.add_argument("--beside", default="", help="a livekit-server executable: forward measures it in the same run")
    parser.add_argument("--rounds", type=int, help="how often forward measures each load, each time by fresh servers")
    parser.add_argument(
        *("--pace",), choices=("runs", "burst", "uplink"), default="runs", help="how cameras send: see docs/bench.md"
    )
    parser.add_argument("--uplink-mbps", type=float, default=10.0, help="of each camera, with --pace uplink")
    parser.add_argument("--table", action="store_true", help="speech: tables to read instead of JSON lines")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what the clients do")
    given = parser.parse_args()
    names = given.names or [name for name in BENCHES if name not in ASKED_FOR]
    if unknown := [name for name in names if name not in BENCHES]:
        parser.error(f"no benchmark called {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    logging.basicConfig(level=logging.DEBUG if given.verbose else logging.WARNING, stream=sys.stderr)
    options = Options(
        url=given.url,
        api_key=given.api_key,
        api_secret=given.api_secret,
        pid=given.pid,
        quick=given.quick,
        seconds=given.seconds,
        coalesce=not given.no_coalesce,
        rows=tuple(given.row),
        beside=given.beside,
        rounds=given.rounds,
        pace=given.pace,
        uplink_mbps=given.uplink_mbps,
        table=given.table,
    )
    failed = False
    for name in names:
        bench = importlib.import_module(f".{name}", __package__)
        try:
            asyncio.run(bench.run(options))
        except (SignallingError, TargetError, OSError) as error:
            logging.getLogger("bench").debug("the benchmark failed", exc_info=True)
            say(f"{name}: {error or type(error).__name__}")
            failed = True
        except KeyboardInterrupt:
            return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
