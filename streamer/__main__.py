"""The `streamer` command: errors become one line and an exit code.

0: done. 1: failed. 2: wrong usage. 130: interrupted. 141: whoever read the output went away before its end, as in
`streamer ... | head`; quiet, and by the number that shells give to tools which SIGPIPE ends.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

BROKEN_PIPE = 128 + 13  # 13: SIGPIPE


def main() -> None:
    """Run the command line."""
    from typer import Abort

    from streamer.cli import app
    from streamer.errors import StreamerError, UsageError

    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # while a closed pipe can still be told from a failure
    except UsageError as error:
        _fail(str(error), 2)
    except StreamerError as error:
        _fail(str(error), 1)
    except (KeyboardInterrupt, Abort):
        _fail("interrupted", 130)
    except BrokenPipeError:
        _leave_pipe()
    except SystemExit as ended:
        # typer and rich answer a closed pipe with an exit code of 1
        if isinstance(ended.__context__, BrokenPipeError):
            _leave_pipe()
        raise
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


def _leave_pipe() -> NoReturn:
    """End without a word; what standard output still holds goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(BROKEN_PIPE)


def _fail(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
