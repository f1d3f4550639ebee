"""Reading a configuration: TOML and ``--set`` into the models of the settings, with errors that name the setting."""

import reprlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relatif.schemas.config import RunConfig
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.overrides import apply_override

_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother, _SHOWN.maxlong = 2, 100, 100, 60

ADVICE = {
    "model.likelihood": ", where a likelihood is a probability of one example's target whose -log is the loss; any "
    "other is a class of your own in a Task, see docs/likelihoods.md",
}
"""What is said further of a setting whose value can't be used."""


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a configuration from TOML and apply ``section.key=value`` overrides.

    Raises ConfigurationError for a missing file, bad TOML, an unknown key or a value out of range.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"expected a configuration file at {path}, found none that can be read ({error.strerror}); "
            f"give --config an existing TOML file"
        ) from error
    try:
        # Editors of another system put a mark of the byte order before the text.
        values = tomllib.loads(text.decode("utf-8-sig"))
    except RecursionError as error:
        raise ConfigurationError(
            f"expected TOML in {path}, found lists or tables nested too deep; settings are nested in sections alone"
        ) from error
    except ValueError as error:  # bad TOML, no UTF-8, or a number of thousands of digits
        raise ConfigurationError(f"expected TOML in {path}, found {error}; correct that line") from error
    overrides = list(overrides)
    for override in overrides:
        apply_override(values, override)
    return parse_config(values, origin=f"{path} and --set" if overrides else str(path))


def parse_config(values: Mapping[str, Any], *, origin: str) -> RunConfig:
    """Validate a nested mapping; ``origin`` names it in errors."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        faults = [_described(item) for item in error.errors()]
        raise ConfigurationError(
            f"expected settings that can be used in {origin}, found {len(faults)} that can't: {'; '.join(faults)}; "
            f"correct them or drop them"
        ) from error


def _described(item: Any) -> str:
    if not item["loc"]:
        return str(item["msg"]).removeprefix("Value error, ")
    name = ".".join(map(str, item["loc"]))
    text = f"{name}: {item['msg']} (found {_SHOWN.repr(item['input'])}){ADVICE.get(name, '')}"
    if item["type"] != "extra_forbidden":
        return text
    section: Any = RunConfig.model_fields[item["loc"][0]].annotation if len(item["loc"]) > 1 else RunConfig
    return f"{text}, where the settings are {', '.join(getattr(section, 'model_fields', {}))}"
