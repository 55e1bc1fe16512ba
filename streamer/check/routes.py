"""What `streamer check` says of a label set's routes: rules that can never do anything, scores that decide nothing.

Enters: a LabelSet. Leaves: Findings. Must not know: models, topics of a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamer.check.findings import Finding, warning
from streamer.facets import Facet, Kind, LabelSet, Route


def check_routes(label_set: LabelSet) -> Iterator[Finding]:
    """Rules in the place and with the numbers that error lines give them: `routes.0` is the first."""
    where = f"label_sets.{label_set.name}"
    facets = {facet.name: facet for facet in label_set.facets}
    for index, route in enumerate(label_set.routes):
        idle = _idle(label_set, index)
        if idle is not None:
            yield warning(f"{where}.routes.{index}", *idle)
        elif route.label is None:
            yield from _check_abstention(f"{where}.routes.{index}", facets[route.facet])
        else:
            yield from _check_score(f"{where}.routes.{index}", route, facets[route.facet])
    if label_set.all_matching and not label_set.routes:
        yield warning(f"{where}.all_matching", "there are no routes that could match", "add routes, or remove it")


def _idle(label_set: LabelSet, index: int) -> tuple[str, str] | None:
    """Why a rule changes nothing, and what to do; None where it may."""
    route = label_set.routes[index]
    given = f"'{route.label}' of facet '{route.facet}' from score {route.score:g} on"
    rule = f"{f'abstention of facet {route.facet!r}' if route.label is None else given}, to '{route.to}'"
    for other_index, other in enumerate(label_set.routes):
        wider = (other.facet, other.label) == (route.facet, route.label) and other.score <= route.score
        if other_index == index or not wider:
            continue
        if not label_set.all_matching and other_index < index:
            return (
                f"{rule}: it can never win, for routes.{other_index} takes every such record first",
                f"put it before routes.{other_index} with a higher score than {other.score:g}, or remove it"
                if route.label is not None
                else "remove it",
            )
        earlier = other.score < route.score or other_index < index
        if label_set.all_matching and other.to == route.to and earlier:
            return f"{rule}: routes.{other_index} sends every such record there already", "remove it"
    return None


def _check_abstention(where: str, facet: Facet) -> Iterator[Finding]:
    """A facet without limits never abstains."""
    if not (facet.min_score or facet.min_margin):
        what = f"facet '{facet.name}' never abstains, for it has neither min_score nor min_margin: the rule never holds"
        yield warning(where, what, f"set min_score or min_margin of facet '{facet.name}', or remove the route")


def _check_score(where: str, route: Route, facet: Facet) -> Iterator[Finding]:
    """A score of 0 asks for none."""
    if not 0 < route.score < facet.min_score:
        return
    below = f"its score {route.score:g} is under min_score {facet.min_score:g} of facet '{facet.name}', which abstains"
    if facet.kind is Kind.SINGLE:
        what = f"{below} below that: the score decides nothing"
        yield warning(where, what, f"leave the score out, or set it above {facet.min_score:g}")
    else:
        what = f"{below} where no label reaches that: the rule holds only beside a label that does"
        yield warning(where, what, f"set the score to {facet.min_score:g} or more, or min_score lower")
