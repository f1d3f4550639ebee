"""What is written down: configuration, tables, run directory, manifests, errors. Imports neither torch nor ray."""

if __name__ != "relatif.schemas":
    raise ImportError("expected to import relatif.schemas, found its old name 'schemas'; write relatif.schemas instead")
