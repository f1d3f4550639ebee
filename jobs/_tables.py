"""The tables of a run as text, from their one description in the schemas.

``python -m relatif.jobs._tables docs/tables.md`` writes their descriptions anew between the marks of that file.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from relatif.schemas.columns import TableSpec
from relatif.schemas.exports import EXPLANATIONS
from relatif.schemas.tables import TABLES

BEGIN, END = "<!-- tables: written by relatif.jobs._tables -->", "<!-- end of tables -->"
NUMBERS = {"float": "float32", "double": "float64"}


def tables_text() -> str:
    """Return a section for each table, and one for what exports alone have, as Markdown."""
    return "\n".join(_section(spec) for spec in (*TABLES.values(), EXPLANATIONS))


def with_tables(text: str) -> str:
    """Return a Markdown text with the tables' descriptions between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"expected the marks {BEGIN} and {END}, found {text[:40]!r}; put them into the text")
    return f"{before}{BEGIN}\n\n{tables_text()}\n{END}{after}"


def _section(spec: TableSpec) -> str:
    rows = [("column", "type", "unit", "meaning"), ("---", "---", "---", "---")]
    for field in spec.schema:
        told = {key.decode(): value.decode() for key, value in field.metadata.items()}
        null = " or null" if field.nullable else ""
        unit = "" if told["unit"] == "1" else _marked(told["unit"])
        rows.append((f"`{field.name}`", _type(field.type) + null, unit, _marked(told["meaning"])))
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"### `{spec.name}`\n\n{_marked(_sentence(spec.meaning))}\n\n{table}"


def _sentence(meaning: str) -> str:
    return f"{meaning[0].upper()}{meaning[1:]}." if not meaning.startswith("top_k") else f"{meaning}."


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    return NUMBERS.get(str(kind), str(kind))


def _marked(meaning: str) -> str:
    """Return a meaning as Markdown: names of columns, tables and settings as code, and no bar that would end a cell."""
    names = re.sub(r"(?<![\w.`])((?:data|score|curvature)\.\w+|[a-z]+(?:_[a-z]{2,})+)(?![\w`])", r"`\1`", meaning)
    return names.replace("|", r"\|")


def main(argv: Sequence[str]) -> None:
    """Write the descriptions anew into files that have the marks."""
    for name in argv:
        path = Path(name)
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
