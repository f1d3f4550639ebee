"""Which code a piece of work depends on: the modules that it imports, found in their sources.

A digest covers a module and all that it imports of this project, or of the user's own folder, wherever the statement
stands. So a change to a figure costs no scores, and a change to the mathematics always does.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

PROJECT = "relatif"
DIGITS = 12

WITHOUT_EFFECT = (
    "relatif.pipeline.console",
    "relatif.schemas.builders",
    "relatif.schemas.columns",
    "relatif.schemas.config",
    "relatif.schemas.curvature_config",
    "relatif.schemas.data_config",
    "relatif.schemas.errors",
    "relatif.schemas.methods",
    "relatif.schemas.model_config",
    "relatif.schemas.overrides",
    "relatif.schemas.reading",
    "relatif.schemas.run_directory",
    "relatif.schemas.score_config",
    "relatif.schemas.section",
    "relatif.schemas.tables",
)
"""Modules that are not hashed: messages, paths, settings (whose values are part of digests) and registries.

A stage adds the entries of a registry that it uses to its own digest. Tables are covered by the schema version.
"""

CHECKS = ("relatif.pipeline.explaining.audited", "relatif.pipeline.runs.stored_outputs")
"""Modules that refuse, or agree with what is there: neither they nor what is imported through them is hashed."""


@cache
def code_digest(*modules: str) -> str:
    """Return a digest (12 hex digits) of modules of this project and of all its modules that they import."""
    return _digest({name: path for module in modules for name, path in _closure(module).items()})


@dataclass(frozen=True)
class TaskCode:
    """The code that a task adds to every stage that runs its model.

    ``own`` is a digest of the user's module and of all that it imports from its folder (None for a task of this
    project); ``modules`` are those of this project that it imports.
    """

    own: str | None
    modules: tuple[str, ...]


def task_code(module: str) -> TaskCode:
    """Return the code of a task's module, by its dotted name."""
    if _is_ours(module):
        return TaskCode(None, (module,))
    paths = _own_files(module)
    ours = {_defined_in(name) for each, path in paths.items() for name in _imported(each, path) if _is_ours(name)}
    return TaskCode(_digest(paths), tuple(sorted(name for name in ours if _source(name) is not None)))


def _own_files(module: str) -> dict[str, Path]:
    """Return the files of a user's module and of all that it imports from its own folder and from the job's.

    Of an installed package, whose folder holds everybody's, only its own modules count.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return {}
    # From the file up to the folder that holds the module's first name: a level for each dot, and one for a
    # package, whose file is an __init__.py.
    above = module.count(".") + (found.submodule_search_locations is not None)
    root = Path(found.origin).resolve().parents[above]
    installed = module.partition(".")[0] if root.name in ("site-packages", "dist-packages") else None
    search = _Search(tuple(dict.fromkeys([root, Path.cwd().resolve()])), installed)
    search.collect(module)
    return search.paths


@dataclass(frozen=True)
class _Search:
    """Collects a user's modules below some folders; of an ``installed`` package its own alone."""

    roots: tuple[Path, ...]
    installed: str | None
    paths: dict[str, Path] = field(default_factory=dict)

    def collect(self, module: str) -> None:
        """Add the files of a module, of the packages it lies in, and of what they import."""
        top = module.partition(".")[0]
        if _is_ours(module) or top in sys.stdlib_module_names or self.installed not in (None, top):
            return
        parts = module.split(".")
        # Importing a.b.c also runs the __init__.py of a and of a.b.
        for count in range(1, len(parts) + 1):
            name = ".".join(parts[:count])
            path = None if name in self.paths else self._file(parts[:count])
            if path is not None:
                self.paths[name] = path
                package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                for each in _imported(package, path):
                    self.collect(each)

    def _file(self, parts: list[str]) -> Path | None:
        for root in self.roots:
            found = PathFinder.find_spec(".".join(parts), [str(root.joinpath(*parts[:-1]))])
            if found is not None and found.origin is not None and found.origin.endswith(".py"):
                return Path(found.origin)
        return None


def _digest(paths: dict[str, Path]) -> str:
    hashed = hashlib.sha256()
    for name, path in sorted(paths.items()):
        # Zero bytes, which no source holds, separate the parts: text can't move from one to the next unnoticed.
        hashed.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return hashed.hexdigest()[:DIGITS]


def _closure(module: str) -> dict[str, Path]:
    """Return the files of a module of this project and of those that it imports, directly or not."""
    paths: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in paths or name in CHECKS else _source(name)
        if path is not None:
            paths[name] = path
            waiting += [_defined_in(each) for each in _imported(name, path) if _is_ours(each)]
    # Left out at the end only: what such a module imports counts all the same.
    return {name: path for name, path in paths.items() if name not in WITHOUT_EFFECT}


def _imported(package: str, path: Path) -> Iterator[str]:
    """Yield the dotted names that a file of a package imports: modules, and names that may be modules."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    itself = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            itself |= {alias.asname or alias.name for alias in node.names if alias.name == PROJECT}
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(package, node)
    # ``import relatif`` brings in what is then named as ``relatif.name``.
    for node in ast.walk(tree) if itself else ():
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in itself:
            yield f"{PROJECT}.{node.attr}"


def _imported_from(package: str, node: ast.ImportFrom) -> Iterator[str]:
    # A relative import: the first dot is the file's own package, each further one the package above.
    base = node.module or ""
    if node.level:
        above = package.split(".")
        start = ".".join(above[: len(above) - node.level + 1])
        base = ".".join(filter(None, [start, base]))
    if base:
        yield base
        # ``from package import name`` may import a module; names that are none have no file and drop out later.
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _defined_in(name: str) -> str:
    """Return where a name that ``relatif`` itself exports is defined; any other name unchanged."""
    package, _, exported = name.rpartition(".")
    if package != PROJECT or exported not in sys.modules[PROJECT].PLACES:
        return name
    return f"{PROJECT}.{sys.modules[PROJECT].PLACES[exported].partition(':')[0]}"


def _source(module: str) -> Path | None:
    """Return the file of a module of this project, without importing it; None where the name is no module.

    ``relatif`` itself is passed over: it holds names, which are looked up where they are defined.
    """
    parts = module.split(".")[1:]
    for folder in sys.modules[PROJECT].__path__ if parts else ():
        path = Path(folder).joinpath(*parts)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == PROJECT
