"""The settings of a run as text, from their one description in the configuration's schema.

``python -m relatif.jobs._settings`` prints the table that stands in the README.
"""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from relatif.schemas.config import RunConfig

WIDTH = 100
INTRODUCTION = "settings, in the TOML file or by --set; null means that nothing is set:"


@dataclass(frozen=True)
class Setting:
    """A setting by its dotted name, with what it means in Markdown; ``default`` is JSON, None where one is required."""

    name: str
    default: str | None
    meaning: str


def settings() -> list[Setting]:
    """Return every setting of a run, in the order of the configuration."""
    return list(_settings(RunConfig, ""))


def settings_help() -> str:
    """Return every setting with its default and meaning, as a terminal shows it."""
    sections = groupby(settings(), lambda setting: setting.name.rpartition(".")[0])
    blocks = ["\n".join(map(_entry, members)) for _, members in sections]
    return "\n\n".join([INTRODUCTION, *blocks])


def settings_table() -> str:
    """Return every setting as a table in Markdown."""
    rows = [("setting", "default", "meaning"), ("---", "---", "---")]
    for setting in settings():
        default = "required" if setting.default is None else f"`{setting.default}`"
        # A bar would end the cell.
        rows.append((f"`{setting.name}`", default, setting.meaning.replace("|", r"\|")))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _settings(section: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _settings(inner, f"{prefix}{name}.")
        else:
            yield Setting(prefix + name, _default(field), field.description or "")


def _default(field: FieldInfo) -> str | None:
    return None if field.is_required() else json.dumps(field.default)


def _entry(setting: Setting) -> str:
    default = "(required)" if setting.default is None else f"= {setting.default}"
    meaning = textwrap.wrap(setting.meaning.replace("`", ""), WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    # A default that is a long list goes on below its first name.
    name = textwrap.wrap(f"{setting.name} {default}", WIDTH, initial_indent="  ", subsequent_indent="      ")
    return "\n".join([*name, *meaning])


if __name__ == "__main__":
    print(settings_table(), end="")
