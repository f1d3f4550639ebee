"""Run a job on a cluster of two nodes of one core each: ``python -m tests.support.two_nodes --config FILE ...``."""

import os
import sys

from ray.cluster_utils import Cluster

from relatif.jobs.run import main as run
from tests.support.processes import OBJECT_STORE_BYTES


def main() -> int:
    """Start the nodes, join them as any job does, and stop them."""
    node = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        os.environ["RAY_ADDRESS"] = cluster.address
        return run(sys.argv[1:])
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    raise SystemExit(main())
