"""The nodes that a cluster has at this moment, and how many workers of a shape find room on them."""

from collections.abc import Iterable
from dataclasses import dataclass

import ray


@dataclass(frozen=True)
class Node:
    """A living node: its id, its address, its cores and GPUs."""

    id: str
    address: str
    cpus: int
    gpus: int

    @property
    def name(self) -> str:
        """How messages call it: several nodes may have one address."""
        return f"{self.address} ({self.id[:6]})"

    def room(self, threads: int, gpus: float) -> int:
        """Return how many workers of so many cores and GPUs it holds when nobody else uses it."""
        by_cpu = self.cpus // threads
        # A tenth of a GPU ten times is one GPU, though not in binary fractions.
        return min(by_cpu, int(self.gpus / gpus + 1e-9)) if gpus else by_cpu


def living_nodes() -> tuple[Node, ...]:
    """Return the nodes that are alive and have at least one core."""
    return tuple(
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            int(node["Resources"]["CPU"]),
            int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU")
    )


def room(nodes: Iterable[Node], threads: int, gpus: float) -> int:
    """Return how many workers of a shape the nodes hold; a worker's cores and GPUs lie on one node."""
    return sum(node.room(threads, gpus) for node in nodes)


def room_at_most(threads: int, gpus: float) -> int:
    """Return how many workers an autoscaler may make room for: 0 where there is none."""
    config = ray._private.state.state.get_cluster_config()
    total = 0
    for group in [] if config is None else config.node_group_configs:
        node = Node("", "", int(group.resources.get("CPU", 0)), int(group.resources.get("GPU", 0)))
        # -1 stands for any number of nodes.
        total += node.room(threads, gpus) * (group.max_count if group.max_count >= 0 else 10**6)
    return total


def nodes_with_room(threads: int, gpus: float) -> set[str]:
    """Return the ids of the nodes with so many cores and GPUs that nobody uses now."""
    free = ray._private.state.available_resources_per_node().items()
    return {node for node, has in free if has.get("CPU", 0) >= threads and has.get("GPU", 0) >= gpus}


def free_text(own: int) -> str:
    """Return what the cluster has, what is free and what others hold, where ``own`` cores are this run's."""
    nodes, free = living_nodes(), ray.available_resources()
    cpus, free_cpus = sum(node.cpus for node in nodes), int(free.get("CPU", 0))
    gpus = sum(node.gpus for node in nodes)
    others = max(0, cpus - free_cpus - own)
    text = f"the cluster has {cpus} core(s) on {len(nodes)} node(s), {free_cpus} of them free, {others} held by others"
    return text if not gpus else f"{text}, and {gpus} GPU(s), {free.get('GPU', 0):g} of them free"
