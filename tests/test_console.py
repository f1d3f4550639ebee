"""The console: exact lines with a clock that is set by hand."""

import io
import re
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from relatif.pipeline.console import (
    HEARTBEAT_SECONDS,
    Outlet,
    format_bytes,
    format_duration,
    format_rate,
    print_plan,
    progress,
    say,
)

START = datetime(2026, 1, 31, 23, 59, 0)


@dataclass
class Clock:
    """Seconds that pass only when told."""

    seconds: float = 1000.0
    start: float = field(init=False, default=1000.0)

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds - self.start)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def outlet(clock):
    return Outlet(io.StringIO(), clock, clock.now)


@pytest.fixture
def terminal(clock, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return Outlet(Terminal(), clock, clock.now)


def lines(outlet):
    return outlet.stream.getvalue().splitlines()


def screen(outlet):
    """Return everything that was drawn, without colours and movements of the cursor, blank lines left out."""
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", outlet.stream.getvalue())
    return [line for line in re.split(r"[\r\n]+", drawn) if line.strip()]


def test_a_stage_in_a_file_writes_a_line_at_most_every_thirty_seconds(outlet, clock):
    with progress("score", 6, unit="units", done=2, outlet=outlet) as shown:
        for second in range(1, 101):
            clock.seconds += 1
            shown.tick()
            if second % 40 == 0:
                shown.advance(note=f"unit {second // 40}")

    assert HEARTBEAT_SECONDS == 30
    assert lines(outlet) == [
        "2026-01-31 23:59:00 score: begins, 2/6 units done",
        "2026-01-31 23:59:30 score: 2/6 units, 30 s elapsed",
        "2026-02-01 00:00:00 score: 3/6 units, 1 min 00 s elapsed, 1.5/min, 1 min 40 s left (unit 1)",
        "2026-02-01 00:00:30 score: 4/6 units, 1 min 30 s elapsed, 1.5/min, 1 min 10 s left (unit 2)",
        "2026-02-01 00:00:40 score: finished, 4/6 units in 1 min 40 s",
    ]


def test_advances_alone_write_lines_too(outlet, clock):
    with progress("factors", 300, unit="shards", outlet=outlet) as shown:
        for _ in range(3):
            clock.seconds += 20
            shown.advance(100)

    assert lines(outlet) == [
        "2026-01-31 23:59:00 factors: begins, 0/300 shards done",
        "2026-01-31 23:59:40 factors: 200/300 shards, 40 s elapsed, 5.0/s, 20 s left",
        "2026-02-01 00:00:00 factors: finished, 300/300 shards in 1 min 00 s",
    ]


def test_a_late_unit_does_not_make_the_time_left_negative(outlet, clock):
    with progress("score", 2, unit="units", outlet=outlet) as shown:
        clock.seconds += 10
        shown.advance()
        clock.seconds += 500
        shown.tick()

    assert lines(outlet)[1].endswith("1/2 units, 8 min 30 s elapsed, 6.0/min, 8 min 30 s left")


def test_a_stage_with_nothing_left_to_do(outlet):
    with progress("score", 6, unit="units", done=6, outlet=outlet) as shown:
        shown.tick()

    assert lines(outlet)[1].endswith("score: finished, 6/6 units in 0.0 s")


def test_a_stage_that_fails_is_not_called_finished(outlet, clock):
    def fail():
        with progress("score", 6, unit="units", outlet=outlet) as shown:
            clock.seconds += 5
            shown.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert lines(outlet)[-1] == "2026-01-31 23:59:05 score: stopped, 1/6 units in 5.0 s"


def test_a_terminal_shows_one_bar(terminal, clock):
    with progress("score", 6, unit="units", done=2, outlet=terminal) as shown:
        for unit in range(4):
            clock.seconds += 40
            shown.advance(note=f"unit [bold]{unit}")

    last = screen(terminal)[-1]
    assert "6/6 units" in last
    assert "0:02:40" in last
    assert "1.5/min, unit [bold]3" in last  # not taken for markup
    assert "\x1b[" in terminal.stream.getvalue()


def test_the_bar_tells_the_time_left(terminal, clock):
    def interrupt():
        with progress("score", 4, unit="units", outlet=terminal) as shown:
            clock.seconds += 40
            shown.advance(note="unit 0")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    last = screen(terminal)[-1]
    assert "1/4 units" in last
    assert "1.5/min, 2 min 00 s left, unit 0" in last


def test_a_message_during_a_bar_stands_above_it(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    with progress("score", 1, unit="units", outlet=terminal) as shown:
        say("[red] kept as it is")
        shown.advance()

    assert sys.stderr is terminal.stream
    (message,) = [line for line in screen(terminal) if "kept" in line]
    assert message.endswith(" [red] kept as it is")
    assert "units" not in message
    assert "1/1 units" in screen(terminal)[-1]


def test_results_in_a_file_are_not_drawn_above_the_bar(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    results = sys.stdout
    with progress("score", 1, unit="units", outlet=terminal):
        print("a result")

    assert results.getvalue() == "a result\n"
    assert "a result" not in terminal.stream.getvalue()


@pytest.mark.parametrize("kind", ["dumb", "", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(terminal, monkeypatch, kind):
    monkeypatch.setenv("TERM", kind)
    with progress("score", 1, unit="units", outlet=terminal) as shown:
        shown.advance()

    assert len(lines(terminal)) == 2
    assert "\x1b[" not in terminal.stream.getvalue()


def test_the_plan_is_aligned(outlet):
    print_plan([("task", "mnist_logistic"), ("memory per actor", "1.2 GiB"), ("note", "")], outlet=outlet)

    assert lines(outlet) == [
        "2026-01-31 23:59:00 plan",
        "  task              mnist_logistic",
        "  memory per actor  1.2 GiB",
        "  note",
    ]


def test_messages_go_to_standard_error(capsys):
    say("unit 3 is finished already")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(" unit 3 is finished already\n")
    datetime.strptime(captured.err[:19], "%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (11.2 * 2**20, "11.2 MiB"),
        (2**30 - 1, "1.0 GiB"),
        (3 * 2**30, "3.0 GiB"),
        (2400 * 2**40, "2.3 PiB"),
        (2**60, "1024.0 PiB"),
    ],
)
def test_bytes_have_a_unit(count, text):
    assert format_bytes(int(count)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (86399, "1 d 00 h"),
        (273600, "3 d 04 h"),
    ],
)
def test_durations_have_units(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(12345.6, "12,345.6/s"), (1, "1.0/s"), (0.5, "30.0/min"), (0.01, "36.0/h"), (0.0001, "0.4/h")],
)
def test_rates_have_a_unit(per_second, text):
    assert format_rate(per_second) == text


def test_what_the_unit_in_hand_tells_is_shown_with_the_time_left(outlet, clock):
    with progress("train", 1, unit="models", outlet=outlet) as shown:
        clock.seconds += 60
        shown.tell(0.25, "epoch 1 of 4, loss 0.7")
        shown.tick()
        clock.seconds += 30
        shown.tell(None, "still at it")
        shown.tick()
        clock.seconds += 30
        shown.tell(0.5, "epoch 2 of 4, loss 0.5")
        shown.advance()
    told = [line[20:] for line in lines(outlet)]
    assert told == [
        "train: begins, 0/1 models done",
        "train: 0/1 models, 1 min 00 s elapsed, 3 min 00 s left (epoch 1 of 4, loss 0.7)",
        "train: 0/1 models, 1 min 30 s elapsed, 2 min 30 s left (still at it)",
        "train: 1/1 models, 2 min 00 s elapsed, 30.0/h (epoch 2 of 4, loss 0.5)",
        "train: finished, 1/1 models in 2 min 00 s (epoch 2 of 4, loss 0.5)",
    ]


def test_time_left_is_never_nothing_while_work_is_left(outlet, clock):
    with progress("train", 2, unit="models", outlet=outlet) as shown:
        for _ in range(100):
            clock.seconds += 31
            shown.tell(0.99, "almost")
            shown.tick()
        shown.advance()
        clock.seconds += 10_000
        shown.tick()
    left = [re.search(r"([^,]+) left", line) for line in lines(outlet)[1:-1]]
    assert all(found and found[1] not in (" 0.0 s", " 0.1 s") for found in left)
