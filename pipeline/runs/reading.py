"""How a run reads its data: the settings, the task's own reader, and the classes that its checkpoint names."""

from functools import partial

from relatif.pipeline.checkpoints.hugging_face import label_names
from relatif.pipeline.datasets.tables.reading import OwnReader, Reading
from relatif.pipeline.runs.code import task_code
from relatif.pipeline.tasks.task import load_task, module_of, reader_of
from relatif.schemas.config import RunConfig


def reading_of(config: RunConfig, *, begun: bool) -> Reading:
    """Return how a run with these settings reads its data; ``begun``: whether something was made of it before.

    Raises as ``load_task``.
    """
    read = reader_of(config.task)
    own = None if read is None else OwnReader(read, str(task_code(module_of(config.task)).own))
    count = None if read is None else load_task(config.task).likelihood.classes
    address = config.model.checkpoint
    names = partial(_no_names) if address is None else partial(label_names, address)
    return Reading(config.data, own, names, count, begun)


def _no_names() -> None:
    return None
