"""`python -m greenroom.agents.run FILE`: run an agent file, whichever way it is written.

A file that calls `cli.run_app(...)` under `if __name__ == "__main__"` does so. A file that only defines an `Agent` class
is served as that agent.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from greenroom.processes import obey_parent

from .agent import Agent
from .cli import EXIT_FAILED, EXIT_USAGE, run_app
from .tracebacks import users_traceback

EXIT_INTERRUPTED = 130


def agent_class_in(namespace: dict[str, object]) -> type[Agent]:
    """The one Agent class that a file defines itself. LookupError when there is none or more than one."""
    found = [
        value
        for value in namespace.values()
        if isinstance(value, type) and issubclass(value, Agent) and value.__module__ == "__main__"
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise LookupError("the file defines no Agent class and does not call cli.run_app(...)")
    names = ", ".join(sorted(agent.__name__ for agent in found))
    raise LookupError(f"the file defines several agents ({names}); say which: cli.run_app({found[0].__name__})")


def main() -> None:
    if len(sys.argv) < 2:
        print("usage: python -m greenroom.agents.run FILE [start|dev ...]", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    path = Path(sys.argv[1])
    sys.argv = [str(path), *(sys.argv[2:] or ["dev"])]
    sys.path.insert(0, str(path.resolve().parent))
    obey_parent()
    try:
        namespace = runpy.run_path(str(path), run_name="__main__")
    except Exception as error:
        print(users_traceback(error), file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    try:
        agent = agent_class_in(namespace)
    except LookupError as error:
        print(f"{path}: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    run_app(agent)


if __name__ == "__main__":
    main()
