"""Errors are reactions: each class names what the caller does about it.

    StreamerError
    ├── UsageError        the user's input is wrong: one clear line, exit code 2
    ├── TransientError    may pass: retried with backoff inside a deadline, then exit code 1
    ├── RewindError       what was read since the last commit is dropped and read again
    └── FatalError        cannot go on: stop, nothing committed past unfinished work, exit code 1
        └── DeliveryError a dead letter or output could not be written

A bad record is no error but a value: `records.Reject`.
"""

from __future__ import annotations


class StreamerError(Exception):
    """Base of every error that the command line reports as one line."""


class UsageError(StreamerError):
    """Settings, arguments or files given by the user are wrong. The message says what, where and what to do."""


class TransientError(StreamerError):
    """Something outside may recover (broker unreachable, request timed out)."""


class RewindError(StreamerError):
    """A transaction came to nothing, or nobody knows what it came to: go back to the committed offsets."""


class FatalError(StreamerError):
    """The process must stop; whatever is unfinished is read again after the restart."""


class DeliveryError(FatalError):
    """The broker refused or lost an output or a dead letter for good."""
