"""Explanations as people look at them: values without tensors or runs, drawn in a terminal or as a piece of HTML."""
