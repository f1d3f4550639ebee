"""An audit of a model before any score: what the mathematics assumes of it is tried on a few examples."""
