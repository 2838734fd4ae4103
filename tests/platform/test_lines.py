"""Lines that containers print: parsed from Docker's stream, buffered, converted."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from telemetry.redaction import Redactor
from telemetry.services.platform.logs.lines import (
    BATCH_BYTES,
    MAX_BUFFERED_BYTES,
    MAX_LINE_BYTES,
    Line,
    LineBuffer,
    entries,
    lines,
    record_of,
)
from tests.fixtures.levels import LEVELS

AT = "2026-01-02T03:04:05.000000001Z"


def line(text: str, container_id: str = "c1", stream: str = "stdout") -> Line:
    return Line("ann", container_id, AT, text, stream)


def of_stdout(*pieces: bytes) -> Iterator[tuple[str, bytes]]:
    return (("stdout", piece) for piece in pieces)


def test_messages_without_a_terminal_are_joined_up_to_the_line_feed() -> None:
    """A long line arrives in pieces, each with its own time."""
    umlaut = "\u00fc".encode()
    long = [b"t2 " + b"x" * 16383 + umlaut[:1], b"t3 " + umlaut[1:] + b"y\r\n"]
    stream = of_stdout(b"t1 one\n", *long, b"t4 \n", b"t5 50%\rdone\n")
    assert list(lines(stream, tty=False)) == [
        ("stdout", "t1", "one"),
        ("stdout", "t3", "x" * 16383 + "\u00fcy"),
        ("stdout", "t4", ""),
        ("stdout", "t5", "50%\rdone"),
    ]


def test_lines_of_two_streams_may_interleave() -> None:
    stream = [("stdout", b"t1 AAAA"), ("stderr", b"t2 WARN: low\n"), ("stdout", b"t3 BBBB\n")]
    found = list(lines(stream, tty=False))
    assert found == [("stderr", "t2", "WARN: low"), ("stdout", "t3", "AAAABBBB")]


def test_chunks_of_a_terminal_may_end_anywhere() -> None:
    text = "t1 grüße\r\nt2 two\n".encode()
    expected = [("stdout", "t1", "grüße"), ("stdout", "t2", "two")]
    for size in range(1, len(text) + 1):
        chunks = [text[at : at + size] for at in range(0, len(text), size)]
        assert list(lines(of_stdout(*chunks), tty=True)) == expected


@pytest.mark.parametrize("tty", [False, True])
def test_long_line_is_cut_with_a_note(tty: bool) -> None:
    piece = b"x" * 16384
    stamped = piece if tty else b"t1 " + piece
    stream = of_stdout(b"t1 ", *[stamped] * 100, b"\n" if tty else b"t2 \n", b"t3 next\n")
    (_, _, long), (_, at, text) = lines(stream, tty=tty)
    kept = MAX_LINE_BYTES - (len("t1 ") if tty else 0)
    assert long == "x" * kept + f" … [{100 * 16384 - kept} bytes cut]"
    assert (at, text) == ("t3", "next")
    whole = b"t1 " + b"x" * (MAX_LINE_BYTES - 3) + b"\r\n"
    ((_, _, text),) = lines(of_stdout(whole), tty=tty)
    assert len(text) == MAX_LINE_BYTES - 3


def test_buffer_and_batches_are_bounded_in_size() -> None:
    buffer = LineBuffer()
    mib = line("x" * (1 << 20))
    room = MAX_BUFFERED_BYTES // mib.size
    assert [buffer.put(mib, 0.0) for _ in range(room + 1)] == [True] * room + [False]
    taken = len(buffer.take())
    assert taken == BATCH_BYTES // mib.size
    assert [buffer.put(mib, 0.0) for _ in range(taken + 1)] == [True] * taken + [False]
    while buffer.take():
        pass
    reader = threading.Thread(target=buffer.put, args=(mib, 0.0))
    reader.start()
    assert buffer.wait(60.0)
    reader.join()


def test_stack_trace_is_one_entry_among_lines_of_other_containers() -> None:
    batch = [
        line("it failed"),
        line("fine", "c2"),
        line("Traceback (most recent call last):"),
        line('  File "x.py", line 1'),
        line("shop.NoMoney: none left"),
        line("ValueError: not a number"),
        line("next"),
    ]
    assert [(e.container_id, e.text) for e in entries(batch)] == [
        ("c1", 'it failed\nTraceback (most recent call last):\n  File "x.py", line 1'),
        ("c2", "fine"),
        ("c1", "shop.NoMoney: none left\nValueError: not a number"),
        ("c1", "next"),
    ]


def test_stack_trace_is_one_entry_around_a_line_of_the_other_stream() -> None:
    batch = [
        line("ERROR: it failed", stream="stderr"),
        line("Traceback (most recent call last):", stream="stderr"),
        line("INFO: GET /health 200"),
        line("    charge(card)", stream="stderr"),
        line("ValueError: card declined", stream="stderr"),
    ]
    trace = "\n".join(found.text for found in batch if found.stream == "stderr")
    assert [(e.stream, e.text) for e in entries(batch)] == [
        ("stderr", trace),
        ("stdout", "INFO: GET /health 200"),
    ]


@pytest.mark.parametrize(("text", "level"), LEVELS)
def test_level_is_the_one_that_the_collector_finds(text: str, level: str) -> None:
    """The Collector writes it by the severity's number."""
    number = record_of(line(text), Redactor()).log_record.severity_number
    assert number is not None
    names = {0: "info", 1: "trace", 5: "debug", 9: "info", 13: "warn", 17: "error", 21: "fatal"}
    assert names[number.value] == level


def test_record_is_like_the_collectors() -> None:
    record = record_of(line("2026 WARNING low disk"), Redactor())
    assert record.resource.attributes == {"service.name": "container", "handle": "ann"}
    log = record.log_record
    assert (log.body, log.severity_text) == ("2026 WARNING low disk", "warning")
    assert log.severity_number is not None
    assert log.severity_number.value == 13
    assert log.attributes == {"log.source": "container", "log.iostream": "stdout"}
    assert log.timestamp == 1767323045_000000000
    assert record_of(line("all quiet"), Redactor()).log_record.severity_text is None
