"""Evaluations of explanations, each a module of its own, chosen by name."""
