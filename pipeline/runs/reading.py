"""How a run reads its data: the settings, the task's own reader, and the classes that its checkpoint names."""

from functools import partial

from relatif.pipeline.checkpoints.hugging_face import label_names
from relatif.pipeline.checkpoints.text_models import TextModel, text_model
from relatif.pipeline.datasets.tables.reading import IGNORED, Begun, OwnReader, Reading
from relatif.pipeline.runs.code import task_code
from relatif.pipeline.tasks.hugging_face import NAME
from relatif.pipeline.tasks.task import load_task, module_of, reader_of
from relatif.schemas.config import RunConfig


def reading_of(config: RunConfig, begun: Begun | None) -> Reading:
    """Return how a run with these settings reads its data; ``begun`` says what results were made from before, if any.

    Raises as ``load_task``.
    """
    read = reader_of(config.task)
    own = None if read is None else OwnReader(read, str(task_code(module_of(config.task)).own))
    count = None if read is None else load_task(config.task).likelihood.classes
    address = config.model.checkpoint
    names = partial(_no_names) if address is None else partial(label_names, address)
    folder = address if config.task == NAME else None
    texts = TextModel if folder is None else partial(text_model, folder)
    ignored = IGNORED if config.model.ignore_index is None else config.model.ignore_index
    return Reading(config.data, own, names, count, begun, texts, ignored)


def _no_names() -> None:
    return None
