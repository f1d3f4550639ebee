"""Tasks that have to be refused."""

from tests.support.bad_inputs import Case

CASES: list[Case] = []
