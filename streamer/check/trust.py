"""What `streamer check` says of what watches over labels: the baseline of drift, the shadow's model and label sets.

Enters: valid Settings. Leaves: Findings. Must not know: Kafka clients, the loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamer.app import build_classifier
from streamer.app_trust import shadow_model
from streamer.check.findings import Finding, ok, told_by, warning
from streamer.drift.baseline import MAKE, read_baseline
from streamer.errors import StreamerError, UsageError
from streamer.facets import LabelSet
from streamer.settings import Settings
from streamer.settings_trust import DriftSettings, ShadowSettings


def check_trust(settings: Settings, label_sets: Mapping[str, LabelSet]) -> Iterator[Finding]:
    """Drift and shadow, where the settings want them. The shadow's model is loaded, and warmed up."""
    if settings.drift is not None:
        yield from _check_drift(settings, settings.drift, label_sets)
    if settings.shadow is not None:
        yield from _check_shadow(settings, settings.shadow, label_sets)


def _check_drift(settings: Settings, drift: DriftSettings, label_sets: Mapping[str, LabelSet]) -> Iterator[Finding]:
    where = "drift.baseline"
    if drift.baseline is None:
        yield warning(where, "there is none: shares are shown, but no distance from anything", MAKE)
        return
    try:
        baseline = read_baseline(drift.baseline)
    except UsageError as failure:
        yield told_by(where, failure)
        return
    yield ok(where, f"{drift.baseline}: {', '.join(baseline) or 'no streams'}")
    for stream in settings.streams:
        then = baseline.get(stream.topic)
        if then is None:
            yield warning(where, f"nothing in it of '{stream.topic}': no distance is shown for that stream", MAKE)
        elif then.version != label_sets[stream.label_set].version:
            what = f"'{stream.topic}' was labelled by another version of its label set ({then.version})"
            yield warning(where, what, f"what changed shows as drift; {MAKE} again")


def _check_shadow(settings: Settings, shadow: ShadowSettings, label_sets: Mapping[str, LabelSet]) -> Iterator[Finding]:
    try:
        classifier = build_classifier(shadow_model(settings, shadow), max_tokens=settings.batching.max_tokens)
        try:
            classifier.warm_up([label_sets[one.label_set] for one in shadow.streams.values()])
        finally:
            classifier.close()
    except StreamerError as failure:
        yield told_by("shadow.model", failure)
        return
    info = classifier.describe()
    yield ok("shadow.model", f"{info.name}, revision {info.revision}, {info.dtype} on {info.device}")
    for stream in settings.streams:
        one = shadow.streams.get(stream.topic)
        if one is None:
            continue
        ours, theirs = ({facet.name for facet in label_sets[name].facets} for name in (stream.label_set, one.label_set))
        if ours.isdisjoint(theirs):
            what = f"label sets '{stream.label_set}' and '{one.label_set}' share no facet: nothing is compared"
            yield warning(f"shadow.streams.{stream.topic}", what, "give a facet the same name in both")
