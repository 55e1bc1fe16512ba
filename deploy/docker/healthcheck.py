"""Asks the process in the same container whether it is alive; what HEALTHCHECK of the image runs.

Enters: STREAMER_HTTP__PORT, where the settings' port is set by it. Leaves: exit code 0, or 1 and one line that says
why. Must not know: streamer, so that it starts within milliseconds. A settings file with another port, or with http
turned off, needs a health check of its own, or none (`--no-healthcheck`).
"""

from __future__ import annotations

import http.client
import os
import sys

DEFAULT_PORT = 9464
TIMEOUT_S = 5.0
MOST_SHOWN_BYTES = 2000


def main() -> int:
    """Ask /healthz once, by no proxy whatever the environment says."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(os.environ.get("STREAMER_HTTP__PORT", DEFAULT_PORT)), timeout=TIMEOUT_S
    )
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        text = answer.read(MOST_SHOWN_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer from /healthz: {error}")
        return 1
    print(f"{answer.status} {text}")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
