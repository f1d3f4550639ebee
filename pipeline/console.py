"""What a run prints while it works: the plan, one progress bar for each stage on a terminal, log lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TextIO

import rich.progress
from rich.console import Console as RichConsole
from rich.table import Column

HEARTBEAT_SECONDS = 30.0
"""Longest silence of a stage that writes log lines, provided its caller ticks."""


@dataclass(frozen=True)
class Outlet:
    """Where messages go, and the clocks that they show: seconds for durations, date and time for log lines."""

    stream: TextIO
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = datetime.now

    @property
    def is_terminal(self) -> bool:
        """Whether lines can be redrawn."""
        return self.stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")

    def line(self, message: str) -> None:
        """Write one log line, with date and time."""
        self.stream.write(f"{self.now():%Y-%m-%d %H:%M:%S} {message}\n")
        self.stream.flush()


class Progress(Protocol):
    """What a stage reports to."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count ``n`` more units as done; ``note`` says which."""

    def tick(self) -> None:
        """Show that time passes; to be called at least every second while waiting."""

    def tell(self, share: float | None, text: str) -> None:
        """Show what the unit in hand says: the share of it that is done (None: unknown), and a text."""


class _Quiet:
    """Shows nothing."""

    def advance(self, n: int = 1, note: str = "") -> None:
        pass

    def tick(self) -> None:
        pass

    def tell(self, share: float | None, text: str) -> None:
        pass


QUIET: Progress = _Quiet()
"""The progress of work that shows none."""


def say(message: str, *, outlet: Outlet | None = None) -> None:
    """Write one log line to standard error (or ``outlet``)."""
    (outlet or standard_error()).line(message)


def print_plan(rows: Sequence[tuple[str, str]], *, outlet: Outlet | None = None) -> None:
    """Write what is going to be done, as aligned pairs of a name and a value."""
    outlet = outlet or standard_error()
    width = max((len(name) for name, _ in rows), default=0)
    outlet.line("plan")
    for name, value in rows:
        outlet.stream.write(f"  {name:<{width}}  {value}".rstrip() + "\n")
    outlet.stream.flush()


@contextmanager
def progress(stage: str, total: int, *, unit: str, done: int = 0, outlet: Outlet | None = None) -> Iterator[Progress]:
    """Show the progress of a stage of ``total`` units, ``done`` of them before it began.

    ``unit`` is the plural of what is counted. On a terminal: one bar. Elsewhere: a line at the start, one every
    HEARTBEAT_SECONDS, one at the end.
    """
    outlet = outlet or standard_error()
    count = _Count(total=total, before=done, clock=outlet.clock)
    show = _bar if outlet.is_terminal else _lines
    with show(stage, unit, count, outlet) as shown:
        yield shown


def standard_error() -> Outlet:
    """Return the outlet to the current standard error, which a bar replaces while it is shown."""
    return Outlet(sys.stderr)


def format_bytes(count: int) -> str:
    """Return a number of bytes with a binary unit.

    >>> format_bytes(512), format_bytes(11_744_051), format_bytes(3 * 2**30)
    ('512 B', '11.2 MiB', '3.0 GiB')
    """
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while abs(value) >= 1023.95 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> format_duration(0.4), format_duration(12), format_duration(185), format_duration(7620), format_duration(273_600)
    ('0.4 s', '12 s', '3 min 05 s', '2 h 07 min', '3 d 04 h')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def format_rate(per_second: float) -> str:
    """Return a rate per second, or per minute or hour where it stays below 1.

    >>> format_rate(12.34), format_rate(0.05), format_rate(0.0001)
    ('12.3/s', '3.0/min', '0.4/h')
    """
    for factor, name in ((1, "s"), (60, "min")):
        if per_second * factor >= 0.995:
            return f"{per_second * factor:,.1f}/{name}"
    return f"{per_second * 3600:.1f}/h"


@dataclass
class _Count:
    """How much of a stage is done, and how fast it goes."""

    total: int
    before: int
    clock: Callable[[], float]
    start: float = field(init=False)
    latest: float = field(init=False)
    added: int = field(init=False, default=0)
    part: float = field(init=False, default=0.0)
    note: str = field(init=False, default="")
    told: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self.start = self.latest = self.clock()

    def add(self, n: int, note: str) -> None:
        self.added += n
        self.part = 0.0
        self.note = note or self.note
        self.latest = self.clock()

    def tell(self, share: float | None, text: str) -> None:
        """Note what the unit in hand says; only a share that grows tells anything of the pace."""
        self.note = self.told = text
        if share is not None and share > self.part:
            self.part = share
            self.latest = self.clock()

    @property
    def done(self) -> int:
        return self.before + self.added

    @property
    def elapsed(self) -> float:
        return self.clock() - self.start

    def pace(self) -> list[str]:
        """Return rate and time left, as far as they are known."""
        if self.added + self.part <= 0 or self.latest <= self.start:
            return []
        rate = (self.added + self.part) / (self.latest - self.start)
        # Measured to the latest unit: within a long unit the rate stays and the time left goes down.
        left = (self.total - self.done - self.part) / rate - (self.clock() - self.latest)
        told = [format_rate(rate)] if self.added else []
        if self.done >= self.total:
            return told
        # For a unit that takes longer than those before it all the time counts: nothing is left only at the end.
        slower = (self.total - self.done - self.part) * self.elapsed / (self.added + self.part)
        return [*told, f"{format_duration(left if left >= 1 else max(slower, 1.0))} left"]


@dataclass
class _Lines:
    stage: str
    unit: str
    count: _Count
    outlet: Outlet
    spoke: float

    def advance(self, n: int = 1, note: str = "") -> None:
        self.count.add(n, note)
        self.tick()

    def tell(self, share: float | None, text: str) -> None:
        self.count.tell(share, text)

    def tick(self) -> None:
        now = self.outlet.clock()
        if now - self.spoke >= HEARTBEAT_SECONDS:
            self.spoke = now
            parts = [self.amount(), f"{format_duration(self.count.elapsed)} elapsed", *self.count.pace()]
            note = f" ({self.count.note})" if self.count.note else ""
            self.outlet.line(f"{self.stage}: {', '.join(parts)}{note}")

    def amount(self) -> str:
        return f"{self.count.done:,}/{self.count.total:,} {self.unit}"


@contextmanager
def _lines(stage: str, unit: str, count: _Count, outlet: Outlet) -> Iterator[Progress]:
    lines = _Lines(stage, unit, count, outlet, spoke=count.start)
    outlet.line(f"{stage}: begins, {lines.amount()} done")
    outcome = "stopped"
    try:
        yield lines
        outcome = "finished"
    finally:
        told = f" ({count.told})" if count.told else ""
        outlet.line(f"{stage}: {outcome}, {lines.amount()} in {format_duration(count.elapsed)}{told}")


@dataclass(frozen=True)
class _Bar:
    bar: rich.progress.Progress
    task: rich.progress.TaskID
    count: _Count

    def advance(self, n: int = 1, note: str = "") -> None:
        self.count.add(n, note)
        self.tick()

    def tell(self, share: float | None, text: str) -> None:
        self.count.tell(share, text)

    def tick(self) -> None:
        status = ", ".join([*self.count.pace(), *([self.count.note] if self.count.note else [])])
        self.bar.update(self.task, completed=self.count.done, status=status)


@contextmanager
def _bar(stage: str, unit: str, count: _Count, outlet: Outlet) -> Iterator[Progress]:
    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TextColumn(f"{{task.completed:,}}/{{task.total:,}} {unit}", markup=False),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn(
            "{task.fields[status]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
        ),
        console=RichConsole(file=outlet.stream),
        get_time=outlet.clock,
        expand=True,
        # Only a terminal: results that are redirected to a file must not be drawn above the bar.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=outlet.stream is sys.stderr,
    )
    with bar:
        task = bar.add_task(stage, total=count.total, completed=count.done, status="")
        shown = _Bar(bar, task, count)
        yield shown
        shown.tick()
