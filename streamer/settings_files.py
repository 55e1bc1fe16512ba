"""Settings as they lie in files: YAML with a mapping at its top.

Enters: a path. Leaves: plain values, or one UsageError line with the place. Must not know: which settings there are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from streamer.errors import UsageError


def read_mapping(path: Path, *, read: Callable[[Path], bytes], named_by: str, needed: str) -> dict[str, Any]:
    """The mapping in a file; `named_by` tells where its name comes from, `needed` what it should hold."""
    try:
        content = yaml.safe_load(read(path).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; {named_by}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise UsageError(f"{path}{where}: not YAML ({problem})") from None
    except ValueError as error:  # e.g. a thirteenth month
        raise UsageError(f"{path}: not YAML ({error})") from None
    except RecursionError:
        raise UsageError(f"{path}: not YAML of settings (nested too deeply)") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a mapping {needed} is needed")
    unknown = [key for key in content if not isinstance(key, str)]
    if unknown:
        raise UsageError(f"{path}: {unknown[0]!r}: keys are text")
    return content
