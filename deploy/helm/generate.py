"""What the chart repeats of other files: `python -m deploy.helm.generate` writes it, a test holds it to that.

Enters: schemas/settings.schema.json, and the comments of values.yaml. Leaves: the schema of `config` and `labelSets` in
values.schema.json, and the table of values in the chart's README.md. Must not know: templates.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "streamer"
SETTINGS = Path(__file__).parents[2] / "schemas" / "settings.schema.json"
OWN = ("SecretKey",)  # definitions of the values themselves
MARK = "<!-- values: make schemas writes this table -->"


def values_schema(text: str, settings_text: str) -> str:
    """values.schema.json with its settings' part as schemas/settings.schema.json has it."""
    schema, settings = json.loads(text), json.loads(settings_text)
    definitions = settings.pop("$defs")
    # label sets stand beside; the chart says in its own words what is missing, and has defaults of its own
    settings = {key: settings[key] for key in ("type", "additionalProperties", "properties")}
    for name in ("label_sets", "label_sets_file"):
        del settings["properties"][name]
    del settings["properties"]["streams"]["minItems"]
    for name in ("bootstrap_servers", "group_id"):
        definitions["KafkaSettings"]["properties"][name].pop("default")
    definitions["KafkaSettings"]["properties"]["bootstrap_servers"].pop("minLength")
    own = {name: schema["$defs"][name] for name in OWN}
    schema["$defs"] = {**own, "Settings": settings, **definitions}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def values_table(text: str) -> str:
    """Markdown: every value that has a `# --` comment above it, with its default."""
    lines = ["| value | default | |", "|---|---|---|"]
    lines += [f"| `{name}` | `{_shown(default)}` | {told} |" for name, default, told in _told(text)]
    return "\n".join(lines) + "\n"


def _told(text: str) -> list[tuple[str, Any, str]]:
    values = yaml.safe_load(text)
    found: list[tuple[str, Any, str]] = []
    path: list[tuple[int, str]] = []  # indent and key of what is open
    comment = ""
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("# -- "):
            comment = bare.removeprefix("# -- ")
        elif bare and not bare.startswith(("#", "-")):
            indent, key = len(line) - len(line.lstrip()), bare.split(":")[0]
            path = [*(one for one in path if one[0] < indent), (indent, key)]
            if comment:
                keys = [one[1] for one in path]
                found.append((".".join(keys), _at(values, keys), comment))
            comment = ""
    return found


def _at(values: Any, keys: list[str]) -> Any:
    for key in keys:
        values = values[key]
    return values


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def readme(text: str, values_text: str) -> str:
    """The README with the table anew; it ends with it."""
    return text.split(MARK)[0] + MARK + "\n\n" + values_table(values_text)


def generated() -> dict[Path, str]:
    """File -> what it should hold."""
    schema, guide = CHART / "values.schema.json", CHART / "README.md"
    values_text = (CHART / "values.yaml").read_text(encoding="utf-8")
    return {
        schema: values_schema(schema.read_text(encoding="utf-8"), SETTINGS.read_text(encoding="utf-8")),
        guide: readme(guide.read_text(encoding="utf-8"), values_text),
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
