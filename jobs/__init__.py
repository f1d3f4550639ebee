"""Entry points: one per stage, ``run`` for all of them, ``prepare`` for data, ``bench`` for the benchmark."""

import os
import sys

# ``python jobs/run.py`` puts this folder first on the path, where statistics.py would hide the standard library's.
sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
