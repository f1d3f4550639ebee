"""What is written down: configuration, tables, run directory, manifests, errors. Imports neither torch nor ray."""
