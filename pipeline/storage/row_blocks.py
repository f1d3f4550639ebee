"""Rows of several tensors in one file, block after block: written in order, mapped into memory, verified when read.

A file has an index beside it, which carries its own SHA-256: columns with their types, and for each block its rows, its
place and the SHA-256 of its bytes. Axes: N rows of a block, the rest is the column's shape.
"""

import mmap
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from math import prod
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from relatif.pipeline.storage.manifests import AGAIN, verified_bytes
from relatif.pipeline.storage.publication import Publication
from relatif.pipeline.storage.sealed import sealed, unsealed
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import StorageError
from relatif.schemas.manifest import FileReceipt

ALIGNMENT = 64
"""Tensors and blocks begin at multiples of a cache line."""

INDEX = ".json"
"""What the index is called: the file's name and this."""


@dataclass(frozen=True)
class Column:
    """A tensor's name, its type as torch calls it, and the shape of a row."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def nbytes(self, rows: int) -> int:
        """Return the bytes of so many rows."""
        return rows * prod(self.shape) * getattr(torch, self.dtype).itemsize


@dataclass(frozen=True)
class Block:
    """Rows ``first`` to ``first + rows`` and where they lie."""

    first: int
    rows: int
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class BlockIndex:
    """What a file holds, and facts that its writer adds."""

    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]
    facts: Mapping[str, str]

    def as_bytes(self) -> bytes:
        """Return the sealed text."""
        return sealed(asdict(self))

    @staticmethod
    def parsed(data: bytes, address: str) -> "BlockIndex":
        """Return the index of a sealed text; StorageError where it is none or was changed."""
        try:
            content = unsealed(data)
            columns = (Column(each["name"], each["dtype"], tuple(each["shape"])) for each in content["columns"])
            return BlockIndex(tuple(columns), tuple(Block(**each) for each in content["blocks"]), content["facts"])
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"expected a whole index at {address}, found {error}; {AGAIN}") from error


class BlockWriter:
    """Context manager that publishes a file of blocks and its index; after an exception nothing is published."""

    def __init__(self, store: Store, path: str, facts: Mapping[str, str]) -> None:
        self._store, self._path, self._facts = store, path, facts
        self._stack, self._blocks = ExitStack(), list[Block]()
        self._columns: tuple[Column, ...] = ()
        self._publication: Publication
        self.receipts: tuple[FileReceipt, ...] = ()

    def __enter__(self) -> "BlockWriter":
        self._publication = self._stack.enter_context(self._store.publish(self._path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None:
            index = BlockIndex(self._columns, tuple(self._blocks), self._facts)
            written = self._store.publish_bytes(self._path + INDEX, index.as_bytes())
            self.receipts = (self._publication.receipt, written)

    def write(self, first: int, tensors: Mapping[str, Tensor]) -> None:
        """Append rows from ``first`` on; StorageError where the tensors are not those of the blocks before."""
        columns = tuple(
            Column(name, str(values.dtype).removeprefix("torch."), tuple(values.shape[1:]))
            for name, values in tensors.items()
        )
        if self._blocks and columns != self._columns:
            raise StorageError(
                f"expected blocks of the columns {self._columns}, found {columns}; give every block the same ones"
            )
        self._columns = columns
        file, offset, hashed = self._publication.file, self._publication.file.tell(), sha256()
        for tensor in tensors.values():
            data = tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            for part in (data, bytes(-len(data) % ALIGNMENT)):
                file.write(part)
                hashed.update(part)
        rows = len(next(iter(tensors.values())))
        self._blocks.append(Block(first, rows, offset, file.tell() - offset, hashed.hexdigest()))


@dataclass(frozen=True, eq=False)
class BlockFile:
    """A published file with its index: blocks by number, each verified when it is read for the first time."""

    store: Store
    path: str
    index: BlockIndex
    _verified: set[int] = field(default_factory=set)
    _mapped: list[Any] = field(default_factory=list)

    def read(self, number: int) -> dict[str, Tensor]:
        """Return the tensors [N, ...] of a block by name; they share the file's memory where it is on this machine.

        Raises StorageError where the block is not as it was written.
        """
        block = self.index.blocks[number]
        data = self._bytes(block)
        if number not in self._verified:
            if len(data) != block.bytes or sha256(data).hexdigest() != block.sha256:
                raise StorageError(
                    f"expected rows {block.first} to {block.first + block.rows - 1} as they were written in "
                    f"{self.store.describe(self.path)}, found others; {AGAIN}"
                )
            if self.store.is_local:
                self._verified.add(number)
        found, place = {}, 0
        for column in self.index.columns:
            size = column.nbytes(block.rows)
            dtype = getattr(torch, column.dtype)
            values = torch.frombuffer(data, dtype=dtype, count=size // dtype.itemsize, offset=place) if size else (
                torch.empty(0, dtype=dtype)
            )  # fmt: skip
            found[column.name] = values.reshape(block.rows, *column.shape)
            place += size + -size % ALIGNMENT
        return found

    def _bytes(self, block: Block) -> Any:
        if not self.store.is_local:
            with self.store.open(self.path) as file:
                file.seek(block.offset)
                return bytearray(file.read(block.bytes))
        if not self._mapped:
            with self.store.open(self.path) as file:
                # A private copy of each page that would be changed: torch takes no memory that can't be.
                self._mapped.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        return memoryview(self._mapped[0])[block.offset : block.offset + block.bytes]


def open_blocks(store: Store, receipts: Sequence[FileReceipt], path: str) -> BlockFile:
    """Return the file at ``path`` and its index as receipts name both; StorageError where they are others.

    Of the file itself the size is compared; its contents are when blocks are read.
    """
    named = {receipt.path: receipt for receipt in receipts}
    if path + INDEX not in named:
        raise StorageError(f"expected {path + INDEX} beside {store.describe(path)}, found none that is proven; {AGAIN}")
    index = BlockIndex.parsed(verified_bytes(store, named[path + INDEX]), store.describe(path + INDEX))
    size = store.size(path)
    if size != named[path].bytes or size != sum(block.bytes for block in index.blocks):
        raise StorageError(
            f"expected {store.describe(path)} with {named[path].bytes} bytes, found {size or 'none'}; {AGAIN}"
        )
    return BlockFile(store, path, index)
