"""Settings on the command line: ``--set section.key=value``."""

import tomllib
from typing import Any

from relatif.schemas.errors import ConfigurationError

SHOWN = 80
"""Characters of a wrong value that an error shows."""


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set ``section.key=value`` in nested mappings; the value is TOML, ``null``, or text that needs no quotes.

    Raises ConfigurationError where the override has another form or its section is a value.
    """
    if not override.isprintable():
        raise ConfigurationError(
            f"expected --set section.key=value on one line, found {override!r}; give one setting by each --set"
        )
    name, separator, text = override.partition("=")
    keys = name.strip().split(".")
    if not separator or not all(keys):
        raise ConfigurationError(
            f"expected --set section.key=value, found {override!r}; write for example --set curvature.damping=0.01"
        )
    target = values
    for key in keys[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise ConfigurationError(
                f"expected {key!r} of --set {override!r} to be a section, found a value; use section.key=value"
            )
    target[keys[-1]] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    if text == "null":  # TOML has no word for it
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"expected a value of TOML by --set, found {text[:SHOWN]!r} ({error}); give a shorter one"
        ) from error
