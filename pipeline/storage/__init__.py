"""Where bytes lie: folders on any fsspec file system, Parquet tables, tensors, manifests, all published atomically."""
