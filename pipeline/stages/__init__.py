"""The stages of a run: a pure function per unit, then what joins it to cluster and storage."""
