"""What an installation without extras lacks, told before any work is done. Must not know: what it is needed for."""

from __future__ import annotations

from importlib import import_module

from streamer.errors import UsageError


def require_tuning(what: str) -> None:
    """Raise UsageError where the packages of the extra `tuning` are missing; `what` needs them."""
    _require(("sklearn", "scipy"), f"{what} needs scikit-learn; pip install 'streamer[tuning]'")


def require_tracing(what: str) -> None:
    """Raise UsageError where the packages of the extra `tracing` are missing; `what` needs them."""
    packages = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
    _require(packages, f"{what} needs OpenTelemetry; pip install 'streamer[tracing]'")


def _require(packages: tuple[str, ...], otherwise: str) -> None:
    try:
        for package in packages:
            import_module(package)
    except ImportError:
        raise UsageError(otherwise) from None
