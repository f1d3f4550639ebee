"""Settings, TOML files and ``--out`` that have to be refused."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.support.bad_inputs import PASSWORD, Case, command, images


def setting(text: str, expected: str, *more: str, late: bool = False) -> Case:
    """Return the case of one ``--set``, with further ones that it needs."""
    return Case(
        "set", text[:60].encode("unicode_escape").decode(), lambda folder: command(folder, text, *more), expected, late
    )


def toml(name: str, text: str, expected: str) -> Case:
    """Return the case of lines at the end of the TOML file, in its section ``data``."""
    return Case("config", name, partial(command, config=text), expected)


def out(address: str, expected: str, make: Callable[[Path], object] = images) -> Case:
    """Return the case of an ``--out``; ``make(folder)`` makes what lies there."""

    def arguments(folder: Path) -> list[str]:
        make(folder)
        return command(folder, out=address.replace("FOLDER", str(folder)))

    return Case("out", address, arguments, expected)


def binary(name: str, content: bytes, expected: str) -> Case:
    """Return the case of a configuration file of these bytes."""

    def arguments(folder: Path) -> list[str]:
        words = command(folder)
        (folder / "run.toml").write_bytes(content)
        return words

    return Case("config", name, arguments, expected)


def a_file(folder: Path) -> None:
    """Leave a file where a folder is wanted."""
    (folder / "file").write_text("")


RANGE = "should be (greater|less) than"
WHOLE = "should be a valid integer"
NUMBER = "should be a valid number"
NO_DIGITS = "Exceeds the limit"

REAL = ("curvature.damping", "train.weight_decay", "train.learning_rate", "curvature.cg_tolerance", "data.flip_share")
SEEDS = (
    "train.seed",
    "data.flip_seed",
    "curvature.fisher_seed",
    "curvature.lissa_seed",
    "leave_one_out.seed",
    "linear_datamodeling.seed",
)
COUNTS = (
    "data.train_limit",
    "data.shard_rows",
    "train.epochs",
    "train.batch_size",
    "score.unit_rows",
    "score.test_block_rows",
    "score.test_limit",
    "cluster.workers",
    "linear_datamodeling.trainings",
)

SETTINGS = [
    setting("curvature.dampnig=1", r"curvature\.dampnig.*where the settings are"),
    *(setting(f"{name}={value}", RANGE) for name in REAL for value in ("1e300", "-1e-300")),
    *(setting(f"{name}={value}", "finite number") for name in REAL[:2] for value in ("nan", "inf", "-inf")),
    *(setting(f"{name}=true", NUMBER) for name in REAL),
    *(setting(f"{name}={2**64}", RANGE) for name in SEEDS),
    *(
        setting(f"{name}={value}", "")
        for name in SEEDS[:2]
        for value in (2**63, 2**70, 10**30, -1, "1.0", "true", "'3'")
    ),
    *(setting(f"{name}={value}", "") for name in COUNTS for value in (0, 2**70, "1.5", "true", "1e3", "many")),
    setting("curvature.damping=1e-320", RANGE),
    setting("curvature.damping=1e308", RANGE),
    setting("curvature.damping=1e-16", RANGE),
    setting("curvature.damping='0.1'", NUMBER),
    setting("curvature.cg_tolerance=1e-14", RANGE),
    setting("curvature.cg_tolerance=1", RANGE),
    setting("curvature.lissa_tolerance=1e-300", RANGE),
    setting("curvature.lissa_tolerance=1e300", RANGE),
    setting("curvature.lissa_scale=1e-320", RANGE),
    setting("train.tolerance=1e-300", RANGE),
    setting("train.momentum=1", RANGE),
    setting("score.write_scores=1", "valid boolean"),
    setting("score.write_scores=yes", "valid boolean"),
    setting("score.top_k=61", "at most the 60 training examples"),
    setting(f"score.top_k={2**31}", RANGE),
    setting("score.methods=influence", "valid tuple"),
    setting("score.methods=[true]", "valid string"),
    setting("score.explained_label=4", "a class from 0 to 3"),
    setting("score.explained_label=1.0", "explained_label"),
    setting("statistics.overlap_k=[true]", WHOLE),
    setting("statistics.overlap_k=[0]", "between 1 and score.top_k"),
    setting("data.train_limit=61", "limit from 1 to the 60 rows"),
    setting("score.test_limit=11", "limit from 1 to the 10 rows"),
    setting("score.test_block_rows=1", "at least the 10 rows"),
    setting('curvature.layers=["nope"]', "nope"),
    setting("curvature.layers=[]", "at least 1 item"),
    setting("data.merge_classes=4", "at least 2 classes"),
    setting("data.source=", "a folder or URL"),
    setting("data.source=~no_such_user/data", "a user of this machine"),
    setting("train.seed=1\ntrain.epochs=2", "on one line"),
    setting("data.source=data\n", "on one line"),
    setting("data.source=a\0b", "on one line"),
    setting("train.seed=" + "[" * 5000, "nested|recursion"),
    setting("train.seed=" + "9" * 5000, NO_DIGITS),
    setting("a." * 2000 + "a=1", "settings that can be used"),
    setting("curvature", r"section\.key=value"),
    setting("=1", r"section\.key=value"),
    setting("train..seed=1", r"section\.key=value"),
    setting("task.name=1", "to be a section"),
    setting("score={}", "", "score=3"),
    setting("cluster.local_cpus=1000000000", RANGE),
    setting("linear_datamodeling.subset_count=1e9", WHOLE),
    setting(f"linear_datamodeling.subset_count={2**40}", RANGE),
]

OTHER_SHAPE = "tests.support.points:points"
LISSA, CG = "curvature.method=lissa", "curvature.method=cg"
TELLS_SETTINGS = "at right-hand side 0 of 1 by .*: set curvature"
LATE = [
    setting("curvature.cg_max_iterations=1", TELLS_SETTINGS, CG, "curvature.cg_tolerance=1e-12", late=True),
    setting("curvature.lissa_depth=1", TELLS_SETTINGS, LISSA, "curvature.lissa_tolerance=1e-6", late=True),
    setting("curvature.lissa_scale=1e-3", "found it to diverge within .*: set curvature", LISSA, late=True),
]
"""What the products of the first test input show, after training and factors."""

TASKS = [
    setting(f"task={OTHER_SHAPE}", "expected .*model.*", "score.top_k=3"),
    setting("task=names_lstm", "expected data of 18 classes"),
    setting("task=cifar_convnet", "expected data of 10 classes"),
    setting("task=no_such_task", "module:function"),
    setting("task=os:nothing", "a function 'nothing'"),
    setting("task=os:sep", "to be a function"),
    setting("task=os:getcwd", "to return a Task"),
    setting("task=:", "expected"),
    setting("task=.:x", "expected to import"),
]

FILES = [
    toml("no TOML", "[data\n", "expected TOML in run.toml"),
    toml("true for int", "train_limit = true\n", WHOLE),
    toml("text for int", 'train_limit = "3"\n', WHOLE),
    toml("date for int", "train_limit = 2024-01-01\n", WHOLE),
    toml("table for int", "train_limit = {}\n", WHOLE),
    toml("twice", "shard_rows = 3\n", "expected TOML in run.toml"),
    toml("deep nesting", "a = " + "[" * 20000 + "]" * 20000 + "\n", "nested too deep"),
    toml("deep tables", "[" + ".".join(["a"] * 3000) + "]\n", "settings that can be used"),
    toml("deep inline tables", "a = " + "{a = " * 20000 + "1" + "}" * 20000 + "\n", "nested too deep"),
    toml("many digits", "train_limit = " + "9" * 5000 + "\n", NO_DIGITS),
    toml("unknown section", "[nothing]\na = 1\n", "nothing.*where the settings are task"),
    toml("array of tables", "[[train]]\nseed = 1\n", "train"),
    toml("control character", 'name = "a\x00b"\n', "expected TOML in run.toml"),
    binary("empty", b"", "task: Field required.*data: Field required"),
    binary("UTF-16", "task = 'a'".encode("utf-16"), "expected TOML in run.toml"),
    binary("not UTF-8", b"task = '\xff'", "expected TOML in run.toml"),
    binary("JSON", b'{"task": "a"}', "expected TOML in run.toml"),
    binary("zero bytes", bytes(100), "expected TOML in run.toml"),
    Case("config", "none", lambda folder: ["--config", "none.toml", "--out", "out"], "a configuration file"),
    Case("config", "a folder", lambda folder: ["--config", str(folder), "--out", "out"], "a configuration file"),
]

OUT = [
    out("", "a folder or URL"),
    out(" ", "a folder or URL"),
    out("runs\nx", "a folder or URL"),
    out("~no_such_user/x", "a user of this machine"),
    out("~nobody/x", "a user of this machine"),
    out("s4://bucket/run", "Protocol not known"),
    out("S3://bucket/run", "Protocol not known"),
    out("s3:/bucket/run", "which is neither"),
    out("s3//bucket/run", "which is neither"),
    out("s3;//bucket/run", "which is neither"),
    out("c:/runs/x", "which is neither"),
    out("s3://", "a host or bucket"),
    out("s3:///run", "a host or bucket"),
    out("s3://user@/run", "a host or bucket"),
    out("ftp://@127.0.0.1/run", "a host or bucket"),
    out("://run", "a protocol before"),
    out("h ttp://run", "a protocol before"),
    out("nope::memory://run", "Protocol not known"),
    out("file://run", "three slashes"),
    out("ftp://127.0.0.1:1/run", "to reach ftp://127.0.0.1:1/run"),
    out(f"ftp://user:{PASSWORD}@127.0.0.1:1/run", "to reach ftp://127.0.0.1:1/run"),
    out("ftp://127.0.0.1:port/run", "Port could not be cast"),
    out("ftp://127.0.0.1:99999/run", "Port out of range"),
    out("file", "to name a folder, found the file", a_file),
    out("file/below", "expected to", a_file),
    out("FOLDER/data", "expected --out beside the data"),
    out("data/../data", "expected --out beside the data"),
    out("method=kfac/run", "named like a column of the tables"),
    out("sweep/LABEL=3/run", "named like a column of the tables"),
    out("/proc/run", "expected to write"),
    out("/dev/null/run", "expected to"),
]

PRECISION = [
    setting("curvature.precision=float16", "'float64', 'float32' or 'amp'"),
    setting("curvature.precision=float32", "float32 goes with kfac, ekfac .* found cg", "curvature.method=cg"),
    setting("curvature.precision=amp", "amp goes with kfac, ekfac .* found exact", "curvature.method=exact"),
]

CASES = [*PRECISION, *SETTINGS, *LATE, *TASKS, *FILES, *OUT]
