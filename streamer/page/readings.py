"""The metrics that the live page shows, read as numbers.

Enters: series by name. Leaves: their sums, by topic or in all. Must not know: the client library, who looks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

# series by name: values of their labels, in the order of the metric -> value
Series: TypeAlias = Mapping[tuple[str, ...], float]
Values: TypeAlias = Callable[[Collection[str]], Mapping[str, Series]]

READ = "streamer_records_consumed_total"
LABELLED = "streamer_records_labelled_total"
ROUTED = "streamer_records_routed_total"
PUBLISHED = "streamer_records_published_total"
REJECTED = "streamer_records_rejected_total"
DEAD_LETTERED = "streamer_records_dead_lettered_total"
TRUNCATED = "streamer_records_truncated_total"
LABELS = "streamer_labels_total"
ABSTENTIONS = "streamer_abstentions_total"
WINDOWS = "streamer_window_documents_count"
WINDOW_DOCUMENTS = "streamer_window_documents_sum"
TOKENS = "streamer_tokens_total"
PADDED_TOKENS = "streamer_padded_tokens_total"
CAPACITY_TOKENS = "streamer_batch_capacity_tokens_total"
CACHE_HITS = "streamer_cache_hits_total"
CACHE_MISSES = "streamer_cache_misses_total"
CACHE_BYTES = "streamer_cache_bytes"
LAG_RECORDS = "streamer_lag_records"
LAG_S = "streamer_lag_seconds"
PAUSED = "streamer_topic_paused"
COMMITS = "streamer_commits_total"
COMMIT_FAILURES = "streamer_commit_failures_total"
REWINDS = "streamer_rewinds_total"
RELOADS = "streamer_reloads_total"
RELOAD_FAILURES = "streamer_reload_failures_total"
RELOAD_SUCCESSFUL = "streamer_last_reload_successful"
RELOADED_S = "streamer_last_reload_success_timestamp_seconds"

NAMES = frozenset(
    {
        *(READ, LABELLED, ROUTED, PUBLISHED, REJECTED, DEAD_LETTERED, TRUNCATED, LABELS, ABSTENTIONS),
        *(WINDOWS, WINDOW_DOCUMENTS, TOKENS, PADDED_TOKENS, CAPACITY_TOKENS, CACHE_HITS, CACHE_MISSES, CACHE_BYTES),
        *(LAG_RECORDS, LAG_S, PAUSED, COMMITS, COMMIT_FAILURES, REWINDS),
        *(RELOADS, RELOAD_FAILURES, RELOAD_SUCCESSFUL, RELOADED_S),
    }
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the metrics said at one moment."""

    series: Mapping[str, Series]

    def of(self, name: str) -> Series:
        """All series of a metric; none where nothing was counted yet."""
        return self.series.get(name, {})

    def total(self, name: str) -> float:
        """The sum over all of its series."""
        return sum(self.of(name).values())

    def of_topic(self, name: str, topic: str) -> list[float]:
        """Values of the series of a topic, whose label comes first."""
        return [value for labels, value in self.of(name).items() if labels[0] == topic]
