"""Verdicts as the columns that an Observer is told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamer.records import Decided, FacetColumns, Verdict


def columns_of(verdicts: Sequence[Verdict]) -> Decided:
    """The same verdicts, at least one and all of one label set, by column."""
    label_set = verdicts[0].label_set
    columns = []
    for at, facet in enumerate(label_set.facets):
        given = [verdict.facets[at] for verdict in verdicts]
        scores = np.array([[one.scores[label.name] for label in facet.labels] for one in given])
        columns.append(FacetColumns(facet, scores, [one.labels for one in given], [one.abstained for one in given]))
    routes = [verdict.routes for verdict in verdicts]
    return Decided(label_set, columns, routes, [verdict.truncated for verdict in verdicts])
