"""The `streamer` command: errors become one line and an exit code.

0: done. 1: failed. 2: wrong usage. 130: interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def main() -> None:
    """Run the command line."""
    from typer import Abort

    from streamer.cli import app
    from streamer.errors import StreamerError, UsageError

    try:
        code = app(standalone_mode=False)
    except UsageError as error:
        _fail(str(error), 2)
    except StreamerError as error:
        _fail(str(error), 1)
    except (KeyboardInterrupt, Abort):
        _fail("interrupted", 130)
    except BrokenPipeError:  # `streamer ... | head` is no failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        _fail_of_parser(error)
        raise
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail_of_parser(error: Any) -> None:
    """Report a wrong command line; known by its method, for its class moved from click into typer."""
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "streamer"
        if not error.format_message():  # the help was asked for by giving no arguments, and is printed
            sys.exit(2)
        _fail(f"{error.format_message()} (see {where} --help)", 2)


def _fail(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
