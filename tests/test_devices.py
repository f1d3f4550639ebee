"""Where work is computed and what follows from it, for processors and GPUs alike; no GPU is needed to ask."""

import threading
import weakref

import pytest
import torch

from relatif.pipeline import devices
from relatif.pipeline.devices import Worker, device_for, on_cpu, piece_bytes, use_plain_arithmetic
from relatif.pipeline.parallel import ordered_map

CPU_WORKER, GPU_WORKER = Worker(threads=3), Worker(threads=3, device="cuda")


def test_a_worker_is_one_core_by_default() -> None:
    assert Worker() == Worker(1, "cpu")


def test_on_a_processor_all_cores_compute_and_one_feeds_a_gpu() -> None:
    assert CPU_WORKER.width == 3
    assert GPU_WORKER.width == 1


@pytest.mark.parametrize(("worker", "width"), [(CPU_WORKER, 3), (GPU_WORKER, 1)])
def test_the_pool_has_as_many_threads_each_with_one_core_of_torch(worker: Worker, width: int) -> None:
    meet = threading.Barrier(width)

    def threads_of_torch(_: int) -> tuple[str, int]:
        meet.wait(timeout=30)
        return threading.current_thread().name, torch.get_num_threads()

    with worker.pool() as pool:
        found = list(ordered_map(threads_of_torch, range(width), pool=pool, ahead=width))
        assert pool._max_workers == width
    assert len({name for name, _ in found}) == width
    assert {threads for _, threads in found} == {1}


@pytest.mark.parametrize(("rows", "on_processor"), [(1, 1), (100, 64), (500, 125), (2048, 512), (10_000, 512)])
def test_a_processor_takes_tiles_of_rows_and_a_gpu_all_at_once(rows: int, on_processor: int) -> None:
    assert CPU_WORKER.tile_rows(rows) == on_processor
    assert GPU_WORKER.tile_rows(rows) == rows


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (0.0, "cpu"), (0.5, "cuda"), (1, "cuda")])
def test_work_that_is_given_a_share_of_a_gpu_is_computed_there(gpus: float, device: str) -> None:
    assert device_for(gpus) == device


@pytest.mark.parametrize("kind", [str, torch.device])
@pytest.mark.parametrize(("name", "processor"), [("cpu", True), ("cuda", False), ("cuda:1", False)])
def test_a_device_is_told_by_name_or_value(kind: type, name: str, processor: bool) -> None:
    assert on_cpu(kind(name)) is processor
    expected = devices.CPU_PIECE_BYTES if processor else devices.GPU_PIECE_BYTES
    assert piece_bytes(kind(name)) == expected


def test_a_gpus_pieces_are_the_larger_ones() -> None:
    assert 2**20 <= devices.CPU_PIECE_BYTES < devices.GPU_PIECE_BYTES


def test_plain_arithmetic_rounds_neither_factors_nor_sums() -> None:
    matmul = torch.backends.cuda.matmul
    held = matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction
    try:
        matmul.allow_tf32 = matmul.allow_bf16_reduced_precision_reduction = True
        use_plain_arithmetic()
        assert (matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction) == (False, False)
    finally:
        matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction = held


def test_what_nobody_holds_is_given_back() -> None:
    class Held:
        itself: object

    held = Held()
    held.itself, gone = held, weakref.ref(held)
    del held

    devices.give_back_memory()

    assert gone() is None
