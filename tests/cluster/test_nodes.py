"""Nodes count one by one: a worker's cores and GPUs lie on one of them."""

import pytest
import ray

from relatif.pipeline.cluster.nodes import Node, free_text, living_nodes, room, room_at_most


@pytest.mark.parametrize(
    ("sizes", "threads", "gpus", "expected"),
    [
        ([(2, 0)], 2, 0, 1),
        ([(2, 0), (16, 0)], 2, 0, 9),
        ([(2, 0), (16, 0)], 8, 0, 2),
        ([(7, 0), (7, 0)], 4, 0, 2),
        ([(4, 0), (16, 4), (16, 4)], 2, 1, 8),
        ([(16, 1)], 1, 0.1, 10),
        ([(4, 2)], 4, 1, 1),
        ([], 1, 0, 0),
    ],
)
def test_room_is_counted_for_each_node(sizes: list[tuple[int, int]], threads: int, gpus: float, expected: int) -> None:
    nodes = [Node("id", "host", cpus, count) for cpus, count in sizes]
    assert room(nodes, threads, gpus) == expected


def test_living_nodes_and_what_is_free(local_ray: None) -> None:
    (node,) = living_nodes()
    assert (node.id, node.cpus, node.gpus) == (ray.get_runtime_context().get_node_id(), 2, 0)
    assert node.name == f"{node.address} ({node.id[:6]})"
    assert free_text(0).startswith("the cluster has 2 core(s) on 1 node(s), ")
    assert room_at_most(1, 0) == 0, "nothing adds nodes here"
