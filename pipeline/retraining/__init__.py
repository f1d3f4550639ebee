"""Models trained again: without an example, or on a part of the training set."""
