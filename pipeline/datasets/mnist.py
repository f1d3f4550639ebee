"""MNIST, from its four published IDX files."""

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Split, Subject
from relatif.pipeline.datasets.idx import find_idx, read_images, read_labels
from relatif.pipeline.datasets.preparing import Published
from relatif.pipeline.datasets.provenance import Provenance
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError
from relatif.schemas.manifest import FileReceipt

NAME = "mnist"
CLASSES = 10
IMAGE_SHAPE = (28, 28)

_PREFIXES: dict[Split, str] = {"train": "train", "test": "t10k"}


def is_mnist(source: Store) -> bool:
    """Return whether any of the four files is there; preparing then names the files that are missing."""
    return any(
        find_idx(source, f"{prefix}-{kind}", axes) is not None
        for prefix in _PREFIXES.values()
        for kind, axes in (("images", 3), ("labels", 1))
    )


def read_mnist(source: Store) -> Published:
    """Read the four IDX files in ``source``.

    Raises DataError, naming the file, for a missing, truncated, mislabelled or mismatched one.
    """
    splits: dict[Split, list[Chunk]] = {}
    sources: list[FileReceipt] = []
    for split, prefix in _PREFIXES.items():
        images, image_file = read_images(source, f"{prefix}-images", IMAGE_SHAPE)
        labels, label_file = read_labels(source, f"{prefix}-labels", CLASSES)
        if len(images) != len(labels) or len(images) == 0:
            raise DataError(
                f"expected as many images in {source.describe(image_file.path)} as labels in "
                f"{source.describe(label_file.path)}, and at least one, found {len(images)} and {len(labels)}; "
                f"give files that belong together"
            )
        splits[split] = [Chunk(images, labels)]
        sources += [image_file, label_file]
    rows = {split: sum(map(len, chunks)) for split, chunks in splits.items()}
    return Published(_subject(tuple(sources)), splits, rows)


def _subject(sources: tuple[FileReceipt, ...]) -> Subject:
    return Subject(
        name=NAME,
        meaning="handwritten digits, one row per image in the order of the published files",
        input=InputDescription(column="image", dtype="uint8", shape=IMAGE_SHAPE),
        class_names=tuple(map(str, range(CLASSES))),
        provenance=Provenance(
            origin="MNIST database of handwritten digits, by Yann LeCun, Corinna Cortes and Christopher J.C. Burges",
            licence="CC BY-SA 3.0",
            licence_url="https://creativecommons.org/licenses/by-sa/3.0/",
            sources=sources,
        ),
    )
