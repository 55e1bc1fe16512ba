"""Settings as they lie in files: YAML with a mapping at its top.

Enters: a path. Leaves: plain values, or one UsageError line with the place, which repeats single signs
of the file at most: it may hold secrets. Must not know: which settings there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from streamer.errors import UsageError

MOST_BYTES = 4_000_000
# values in all, those that an alias repeats counted again: small files of aliases can mean more than memory holds
MOST_VALUES = 200_000


def read_mapping(path: Path, *, read: Callable[[Path], bytes], named_by: str, needed: str) -> dict[str, Any]:
    """The mapping in a file; `named_by` tells where its name comes from, `needed` what it should hold.

    Raises UsageError for what is no such file, is larger than MOST_BYTES, or holds more than MOST_VALUES values.
    """
    try:
        content = _parse(path, read(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; {named_by}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UsageError(f"{path}{where}: not YAML ({_problem(getattr(error, 'problem', error))})") from None
    except ValueError as error:  # e.g. a thirteenth month
        raise UsageError(f"{path}: not YAML ({_problem(error)})") from None
    except RecursionError:
        raise UsageError(f"{path}: not YAML of settings (nested too deeply)") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a mapping {needed} is needed")
    unknown = [key for key in content if not isinstance(key, str)]
    if unknown:
        raise UsageError(f"{path}: {unknown[0]!r}: keys are text")
    return content


def _problem(error: object) -> str:
    """In the parser's words, but for what it quotes: an unquoted password may begin like an alias or a tag."""
    return re.sub(r"(alias|anchor|tag|handle|base \d+:|float:) ['\"].*", r"\1", " ".join(str(error).split()))


def _parse(path: Path, text: bytes) -> Any:
    """Like yaml.safe_load, but counts what aliases stand for before it is made."""
    if len(text) > MOST_BYTES:
        raise UsageError(f"{path}: larger than {MOST_BYTES // 1_000_000} MB, which no settings are")
    loader = yaml.SafeLoader(text.decode("utf-8"))
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values(node, {}) > MOST_VALUES:
            raise UsageError(f"{path}: more than {MOST_VALUES:,} values, aliases counted as what they stand for")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _values(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """How many values a node is, aliases followed; no end where it holds itself."""
    if node not in known:
        known[node] = MOST_VALUES + 1  # for whoever asks again before it is counted: the node itself, inside
        below = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[node] = 1 + (sum(_values(one, known) for one in below) if isinstance(below, list) else 0)
    return known[node]
