"""The repository's own rules that no linter knows: sizes, the direction of imports, a test for every source file."""

import ast
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("schemas", "pipeline", "jobs")
MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 299

OLD_NAMES = ("schemas", "pipeline", "jobs")

FORBIDDEN = {
    "relatif.schemas": ("relatif.pipeline", "relatif.jobs", "tests", "torch", "ray", *OLD_NAMES),
    "relatif.pipeline": ("relatif.jobs", "tests", *OLD_NAMES),
    "relatif.jobs": ("tests", *OLD_NAMES),
}
"""What a package must not import: imports go schemas <- pipeline <- jobs, by their one name."""

FLOORS = (
    ("inputs",),
    ("devices", "draws", "parallel", "console", "calls"),
    ("storage",),
    ("checkpoints",),
    ("curvature",),
    ("auditing",),
    ("influence",),
    ("datasets",),
    ("tasks",),
    ("cluster",),
    ("runs",),
    ("showing",),
    ("explaining",),
    ("retraining",),
    ("stages",),
    ("evaluations",),
    ("preflight",),
    ("report",),
)
"""The rooms of the pipeline from below: a file imports from its own floor and those below it."""

BASEMENT = tuple(f"relatif.pipeline.{room}" for room in ("devices", "draws", "parallel", "calls", "inputs"))
PURE = ("relatif.pipeline.auditing", "relatif.pipeline.curvature", "relatif.pipeline.influence")
PURE_MAY_IMPORT = ("torch", "relatif.schemas.errors", "relatif.schemas.methods", *BASEMENT, *PURE)
RAY_ONLY_BELOW = "relatif.pipeline.cluster"

DURABLE = "relatif.pipeline.runs.durable"
"""The only file that starts a unit's clock and publishes what proves it."""
TESTED_THROUGH: dict[str, str] = {
    "relatif.pipeline": "tests/test_import_name.py",
    "relatif.pipeline.curvature.class_scores": "tests/curvature/test_likelihood.py",
    "relatif.pipeline.curvature.likelihood_places": "tests/curvature/test_likelihood_tokens.py",
    "relatif.pipeline.curvature.per_example": "tests/curvature/test_likelihood.py",
    "relatif.pipeline.curvature.target_rows": "tests/curvature/test_likelihood_gaussian.py",
    "relatif.pipeline.datasets.tables.columns": "tests/datasets/tables/test_published.py",
    "relatif.pipeline.datasets.tables.files": "tests/datasets/tables/test_published.py",
    "relatif.pipeline.datasets.tables.own": "tests/datasets/tables/test_published.py",
    "relatif.pipeline.datasets.tables.reading": "tests/datasets/tables/test_published.py",
    "relatif.pipeline.datasets.tables.rows": "tests/datasets/tables/test_published.py",
    "relatif.pipeline.datasets.tables.survey": "tests/datasets/tables/test_published.py",
    "relatif.pipeline.datasets.tables.tokens": "tests/datasets/tables/test_readers.py",
    "relatif.pipeline.tasks.modules": "tests/tasks/test_task.py",
    "relatif.pipeline.runs.reading": "tests/datasets/tables/test_published.py",
    "relatif.pipeline.curvature.kinds": "tests/curvature/test_coverage.py",
    "relatif.pipeline.curvature.matrices": "tests/curvature/test_functions.py",
    "relatif.pipeline.curvature.meetings": "tests/curvature/test_recording.py",
    "relatif.pipeline.curvature.trail": "tests/curvature/test_ownership.py",
    "relatif.pipeline.explaining.explanation": "tests/jobs/test_explain.py",
    "relatif.pipeline.explaining.finished_run": "tests/jobs/test_explain.py",
    "relatif.pipeline.explaining.posed": "tests/explaining/test_engine.py",
    "relatif.pipeline.explaining.query": "tests/jobs/test_explain.py",
    "relatif.pipeline.explaining.helpers": "tests/jobs/test_explain.py",
    "relatif.pipeline.explaining.metadata": "tests/runs/test_running.py",
    "relatif.pipeline.explaining.solver": "tests/stages/test_solve.py",
    "relatif.pipeline.influence.dense": "tests/influence/test_contraction.py",
    "relatif.pipeline.influence.factored": "tests/influence/test_contraction.py",
    "relatif.pipeline.influence.meeting": "tests/influence/test_contraction.py",
    "relatif.pipeline.influence.screening": "tests/influence/test_block.py",
    "relatif.pipeline.datasets.provenance": "tests/datasets/test_description.py",
    "relatif.pipeline.datasets.stored_columns": "tests/datasets/test_shards.py",
    "relatif.pipeline.report.page.lists": "tests/report/page/test_page.py",
    "relatif.pipeline.report.page.sources": "tests/report/page/test_page.py",
    "relatif.pipeline.preflight.memory": "tests/preflight/test_plan.py",
    "relatif.pipeline.preflight.subject": "tests/preflight/test_plan.py",
    "relatif.pipeline.preflight.text": "tests/preflight/test_plan.py",
    "relatif.pipeline.stages.building": "tests/stages/test_factors.py",
    "relatif.pipeline.stages.score_memory": "tests/preflight/test_plan.py",
    "relatif.pipeline.stages.score_rows": "tests/stages/test_score_unit.py",
    "relatif.pipeline.stages.statistics": "tests/runs/test_running.py",
    "relatif.pipeline.stages.whole_run": "tests/runs/test_stage.py",
}
"""Source files without a test file of their own, each with the test file that covers it (from the repository root)."""


@dataclass(frozen=True)
class Module:
    """A Python file by its dotted name, with its text."""

    name: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


def _modules(*folders: str) -> list[Module]:
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [Module(_dotted(path), path.read_text(encoding="utf-8")) for path in paths]


def _dotted(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name if name.startswith("tests") else f"relatif.{name}"


def _below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _imports(module: Module) -> Iterator[str]:
    """Dotted names of everything imported, wherever the statement stands."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # `from schemas import errors` imports schemas.errors.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _called(module: Module) -> set[str]:
    """Names of the functions and classes that a module calls, without what stands before their last dot."""
    called = (node.func for node in ast.walk(module.tree) if isinstance(node, ast.Call))
    return {ast.unparse(function).rpartition(".")[2] for function in called}


def _long_functions(module: Module) -> list[str]:
    functions = (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    lengths = ((node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions)
    return [f"{module.name}.{name}: {lines} lines" for name, lines in lengths if lines > MAX_FUNCTION_LINES]


def _long_file(module: Module) -> list[str]:
    lines = len(module.text.splitlines())
    return [f"{module.name}: {lines} lines"] if lines > MAX_FILE_LINES else []


def _import_faults(module: Module) -> list[str]:
    return [f"{module.name} imports {name}" for name in _imports(module) if not _may_import(module.name, name)]


def _may_import(importer: str, imported: str) -> bool:
    if any(_below(imported, package) for package in FORBIDDEN[".".join(importer.split(".")[:2])]):
        return False
    if _below(importer, "relatif.pipeline") and _floor(imported) > _floor(importer):
        return False
    if _below(imported, "ray") and not _below(importer, RAY_ONLY_BELOW):
        return False
    if any(_below(importer, package) for package in PURE):
        in_library = imported.partition(".")[0] in sys.stdlib_module_names
        return in_library or any(_below(imported, package) for package in PURE_MAY_IMPORT)
    return True


def _floor(name: str) -> int:
    """Return the floor of a module of the pipeline, counted from below; -1 for everything else."""
    rooms = {f"relatif.pipeline.{room}": floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    return max((floor for room, floor in rooms.items() if _below(name, room)), default=-1)


def _circles(modules: Iterable[Module]) -> list[list[str]]:
    """Return the groups of modules that import one another, in a circle, wherever the statements stand."""
    named = {module.name: module for module in modules}
    reached = {name: {_file_of(imported, named) for imported in _imports(named[name])} & named.keys() for name in named}
    for via in named:
        for name in named:
            if via in reached[name]:
                reached[name] |= reached[via]
    circles = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in named}
    return sorted(list(circle) for circle in circles if circle)


def _file_of(imported: str, names: Collection[str]) -> str:
    """Return the module that a dotted name stands in: the name itself, or what is left of its last dot."""
    return imported if imported in names else imported.rpartition(".")[0]


def _has_code(module: Module) -> bool:
    """Whether there is more than a docstring, imports and a list of what is re-exported."""
    plain = (ast.Import, ast.ImportFrom)
    for node in module.tree.body:
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        exported = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if not (isinstance(node, plain) or text or exported):
            return True
    return False


def _test_of(name: str) -> str:
    """Path of the test file of a source module: pipeline.storage.store -> tests/storage/test_store.py."""
    *folders, module = name.split(".")[2:] or ["init"]
    return "/".join(["tests", *folders, f"test_{module}.py"])


@pytest.mark.parametrize("rule", [_long_functions, _long_file])
def test_sizes(rule: Callable[[Module], list[str]]) -> None:
    modules = _modules(*SOURCES, "tests")
    assert len(modules) > len(SOURCES)
    assert [fault for module in modules for fault in rule(module)] == []


def test_imports_go_one_way() -> None:
    assert [fault for module in _modules(*SOURCES) for fault in _import_faults(module)] == []


def test_no_modules_import_one_another() -> None:
    assert _circles(_modules(*SOURCES)) == []


def test_a_circle_is_found() -> None:
    one, two = Module("p.one", "from p.two import f"), Module("p.two", "def f():\n    from p import one")
    assert _circles([one, two, Module("p.three", "import p.one")]) == [["p.one", "p.two"]]


def test_units_are_timed_and_proven_in_one_place() -> None:
    for called in ("publish_manifest", "Manifest", "monotonic"):
        assert [module.name for module in _modules(*SOURCES) if called in _called(module)] == [DURABLE], called


def test_schemas_load_neither_torch_nor_ray() -> None:
    names = [module.name for module in _modules("schemas")]
    code = f"import sys, {', '.join(names)}; print([name for name in ('torch', 'ray') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_pipeline_file_has_its_test() -> None:
    with_code = [module.name for module in _modules("pipeline") if _has_code(module)]
    expected = [TESTED_THROUGH.get(name, _test_of(name)) for name in with_code]
    missing = [path for path in expected if not (ROOT / path).is_file()]
    assert not missing, "expected these test files, found none:\n" + "\n".join(missing)


def test_exceptions_are_still_needed() -> None:
    names = {module.name for module in _modules("pipeline")}
    assert [name for name in TESTED_THROUGH if name not in names or (ROOT / _test_of(name)).is_file()] == []


@pytest.mark.parametrize(
    ("importer", "statement", "allowed"),
    [
        ("relatif.schemas.tables", "import torch", False),
        ("relatif.schemas.tables", "from relatif.pipeline import storage", False),
        ("relatif.schemas.tables", "import pyarrow as pa", True),
        ("relatif.pipeline.stages.score", "import ray.util", False),
        ("relatif.pipeline.stages.score", "from relatif.jobs.run import main", False),
        ("relatif.pipeline.stages.score", "from relatif.pipeline.cluster.pool import run", True),
        ("relatif.pipeline.cluster.pool", "import ray", True),
        ("relatif.pipeline.clustering", "import ray", False),
        ("relatif.pipeline.curvature.eigen", "import numpy", False),
        ("relatif.pipeline.curvature.eigen", "from relatif.schemas.config import RunConfig", False),
        ("relatif.pipeline.curvature.eigen", "from relatif.schemas import errors", True),
        ("relatif.pipeline.curvature.eigen", "from torch.nn import functional as F", True),
        ("relatif.pipeline.influence.top_k", "from relatif.pipeline.curvature.eigen import whiten", True),
        ("relatif.pipeline.influence.top_k", "def f():\n    import pyarrow", False),
        ("relatif.pipeline.stages.score", "from relatif.pipeline.report import tables", False),
        ("relatif.pipeline.stages.score", "from relatif.pipeline.runs import run", True),
        ("relatif.jobs.run", "import ray", False),
        ("relatif.jobs.run", "from pipeline.stages import score", False),
        ("relatif.jobs.run", "from relatif.pipeline.stages import score", True),
    ],
)
def test_import_rule(importer: str, statement: str, allowed: bool) -> None:
    assert (_import_faults(Module(importer, statement)) == []) is allowed


@pytest.mark.parametrize(("lines", "faults"), [(MAX_FUNCTION_LINES, 0), (MAX_FUNCTION_LINES + 1, 1)])
def test_function_length_is_counted_from_its_def_line(lines: int, faults: int) -> None:
    text = "@cache\ndef f():\n" + "    pass\n" * (lines - 1)
    assert len(_long_functions(Module("m", text))) == faults


@pytest.mark.parametrize(("lines", "faults"), [(MAX_FILE_LINES, 0), (MAX_FILE_LINES + 1, 1)])
def test_file_length(lines: int, faults: int) -> None:
    assert len(_long_file(Module("m", "pass\n" * lines))) == faults


def test_what_counts_as_code() -> None:
    assert not _has_code(Module("m", '"""Doc."""\nfrom a import b\n__all__ = ["b"]\n'))
    assert _has_code(Module("m", "LIMIT = 3\n"))
    assert _test_of("relatif.pipeline.storage.store") == "tests/storage/test_store.py"
    assert _test_of("relatif.pipeline.parallel") == "tests/test_parallel.py"
