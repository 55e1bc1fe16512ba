"""Streaming zero-shot text classification for Kafka."""

__version__ = "0.1.0"
