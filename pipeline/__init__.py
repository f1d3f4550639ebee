"""The pipeline: datasets, tasks, curvature, influence, storage, cluster, stages."""

if __name__ != "relatif.pipeline":
    raise ImportError(
        "expected to import relatif.pipeline, found its old name 'pipeline'; write relatif.pipeline instead"
    )
