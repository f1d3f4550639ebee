"""Garbage is not collected while a job's modules are loaded: to be imported before those.

They are all kept, and to look through them again and again takes a quarter of a second of a first answer.
"""

import gc

gc.disable()


def collect_again() -> None:
    """Collect garbage from now on."""
    gc.enable()
