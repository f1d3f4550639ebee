"""What Ray's own errors mean for whoever runs a job: one line, with Ray's text and what to do."""

from ray import exceptions as ray_errors
from ray.exceptions import RayError, RayTaskError

from relatif.schemas.errors import ClusterError, RelatifError

LONGEST_TEXT = 400
"""Characters of Ray's text that an error repeats: some of Ray's errors hold whole logs."""

KEPT = "then run the same command again: finished units are kept"

_MEANINGS: tuple[tuple[tuple[type[RayError], ...], str, str], ...] = (
    (
        (ray_errors.OutOfMemoryError,),
        "memory for {name}",
        "take nodes with more, or let fewer work at a time on one: raise cluster.threads_per_worker, lower "
        "data.shard_rows and score.test_block_rows",
    ),
    (
        (ray_errors.OutOfDiskError,),
        "room on disk for Ray's objects at {name}",
        "free some where Ray keeps its files (RAY_TMPDIR, else /tmp/ray)",
    ),
    (
        (ray_errors.ObjectStoreFullError,),
        "room in Ray's object store at {name}",
        "raise cluster.object_store_bytes, or --object-store-memory of ray start",
    ),
    (
        (ray_errors.RuntimeEnvSetupError,),
        "a worker for {name} in the job's environment",
        "correct the job's runtime environment, or install its packages on every node",
    ),
    (
        (ray_errors.TaskUnschedulableError, ray_errors.ActorUnschedulableError),
        "a node for {name}",
        "add nodes, or ask for less in the section cluster",
    ),
)
"""Kinds of Ray's errors with what was expected and what to do; the first that fits counts."""

_SIGNS_OF_LOADING = ("failed to import on the worker", "error raised in its creation task")
"""What Ray says where a function, or an actor's class, can't be loaded; it has no error of its own for that."""


def one_line(error: object) -> str:
    """Return an error's text in one line; of a long one its beginning and its last line, where its cause stands."""
    text = str(error).strip() or type(error).__name__
    whole, last = " ".join(text.split()), " ".join(text.splitlines()[-1].split())
    if len(whole) <= LONGEST_TEXT:
        return whole
    return f"{whole[: LONGEST_TEXT // 2].rstrip()} ... {last[-LONGEST_TEXT // 2 :].lstrip()}"


def lost_too_often(name: str, found: object) -> ClusterError:
    """Return the error of work that has lost its worker more often than the settings allow."""
    return ClusterError(
        f"expected workers to survive, found {name} lost more often than cluster.max_retries allows "
        f"({one_line(found)}); look at its node's memory and logs, {KEPT}"
    )


def explained(error: RayError, name: str) -> Exception:
    """Return the error to raise for work that ended so.

    A task's own RelatifError comes back itself, any other of its errors as Ray tells it; what Ray itself raised becomes
    a ClusterError in one line.
    """
    cause: object = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, RelatifError):
        return cause
    if never_began(cause):
        return ClusterError(
            f"expected {name} to begin on a worker, found {one_line(cause)}; install the same relatif, Python and "
            f"packages on every node and where jobs start, {KEPT}"
        )
    if not isinstance(cause, RayError):
        return error
    for kinds, expected, advice in _MEANINGS:
        if isinstance(cause, kinds):
            return ClusterError(f"expected {expected.format(name=name)}, found {one_line(cause)}; {advice}, {KEPT}")
    return lost_too_often(name, cause)


def never_began(cause: object) -> bool:
    """Return whether a worker could not even load what it was to call: a module that is not there, another version."""
    loading = isinstance(cause, ray_errors.RaySystemError) and "Error" in str(cause)
    return loading or any(sign in str(cause) for sign in _SIGNS_OF_LOADING)
