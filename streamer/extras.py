"""What an installation without extras lacks, told before any work is done. Must not know: what it is needed for."""

from __future__ import annotations

from importlib import import_module

from streamer.errors import UsageError


def require_tuning(what: str) -> None:
    """Raise UsageError where the packages of the extra `tuning` are missing; `what` needs them."""
    try:
        for package in ("sklearn", "scipy"):
            import_module(package)
    except ImportError:
        raise UsageError(f"{what} needs scikit-learn; pip install 'streamer[tuning]'") from None
