"""What is counted of labelled records, and how old counts fade."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.drift.counts import NO_LABEL, SCORES, StreamTally, sample_of
from tests.drift.conftest import LABEL_SET, verdict

ENGLISH = "the parcel is late and it was not on time"


def test_labels_scores_abstentions_lengths_and_languages_are_counted() -> None:
    tally = StreamTally(LABEL_SET, decay=1.0)
    tally.add(
        [
            sample_of(verdict(0.9, "billing", "outage"), ENGLISH),
            sample_of(verdict(0.1), "x" * 5000),
            sample_of(verdict(0.55, "billing"), "Паке́т"),
        ]
    )
    counts = tally.counts()
    assert (counts.label_set, counts.version, counts.records) == ("tickets", LABEL_SET.version, 3.0)
    got = counts.counts
    assert got["labels", "mood"] == {"bad": 1.0, "good": 1.0}  # the third gave none for doubt
    assert got["labels", "topic"] == {"billing": 2.0, "outage": 1.0, NO_LABEL: 1.0}
    assert got["abstained", "mood"] == {"no": 2.0, "yes": 1.0}
    assert ("abstained", "topic") not in got  # it has no limits, so it never does
    assert {value: count for value, count in got["scores", "mood"].items() if count} == {"0.5": 1.0, "0.9": 2.0}
    assert {value: count for value, count in got["scores", "topic"].items() if count} == {"0.1": 1.0, "0.8": 2.0}
    assert tuple(got["scores", "mood"]) == SCORES
    assert {value: count for value, count in got["length", ""].items() if count} == {"0": 1.0, "32": 1.0, "4096": 1.0}
    languages = {value: count for value, count in got["language", ""].items() if count}
    assert languages == {"en": 1.0, "latin": 1.0, "cyrillic": 1.0}


@pytest.mark.parametrize(("good", "place"), [(1.0, "0.9"), (0.0, "0.9"), (0.7, "0.7")])
def test_scores_fall_into_ten_bins(good: float, place: str) -> None:
    tally = StreamTally(LABEL_SET, decay=1.0)
    tally.add([sample_of(verdict(good), "x")])
    assert tally.counts().counts["scores", "mood"][place] == 1.0


def test_old_records_weigh_less() -> None:
    tally = StreamTally(LABEL_SET, decay=0.5)
    for good in (0.9, 0.1, 0.1):
        tally.add([sample_of(verdict(good), "x")])
    counts = tally.counts()
    assert counts.counts["labels", "mood"] == {"bad": 1.5, "good": 0.25}
    assert counts.records == 1.75


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.8, 1.0), st.data())
def test_it_does_not_matter_how_many_come_at_once(moods: list[float], decay: float, data: st.DataObject) -> None:
    samples = [sample_of(verdict(good, "billing"), "x") for good in moods]
    together, apart = StreamTally(LABEL_SET, decay=decay), StreamTally(LABEL_SET, decay=decay)
    together.add(samples)
    while samples:
        some = data.draw(st.integers(1, len(samples)))
        apart.add(samples[:some])
        samples = samples[some:]
    assert apart.counts().records == pytest.approx(together.counts().records)
    for key, values in together.counts().counts.items():
        np.testing.assert_allclose(list(apart.counts().counts[key].values()), list(values.values()), atol=1e-9)


def test_counts_that_were_given_out_stay_as_they_are() -> None:
    tally = StreamTally(LABEL_SET, decay=1.0)
    tally.add([sample_of(verdict(0.9), "x")])
    before = tally.counts()
    tally.add([sample_of(verdict(0.9), "x")])
    assert before.counts["labels", "mood"]["good"] == 1.0
