"""Influence functions and RelatIF at scale: datasets, tasks, curvature, influence, storage, cluster, stages, report."""
