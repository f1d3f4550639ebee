"""What is explained: model, per-example loss, training recipe."""
