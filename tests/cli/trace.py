# SPDX-License-Identifier: MIT
"""Traces, written and read by what docs/trace-format.md says and nothing else.

usage: trace.py make FILE       a small trace by ring, with all that can be in one
       trace.py pages FILE      the numbers of all pages that were dirty, one a line
       trace.py damage FILE DIRECTORY   copies of FILE, each broken in another way
"""

import pathlib
import struct
import sys
import zlib

MAGIC = b"\xd1drtrace\x01"


def number(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def text(value):
    return number(len(value)) + value


def record(kind, *parts):
    payload = b"".join(parts)
    framed = struct.pack("<BI", kind, len(payload)) + payload
    return framed + struct.pack("<I", zlib.crc32(framed))


def numbers(*values):
    return b"".join(number(value) for value in values)


def header(vcpus=2):
    slots = numbers(2, 0, 786432, 4 << 30, 1024)
    params = numbers(1) + text(b"keys") + text(b"1000")
    return record(1, text("gäst <1> & \x1b[31m".encode()), numbers(0, 4096, vcpus, 10**8), slots, params)


def interval(length, everything, runs, vcpus):
    spans = b"".join(numbers(*run) for run in runs)
    figures = b"".join(numbers(*vcpu) for vcpu in vcpus)
    return record(2, numbers(length, everything, 1500, 2500), figures, numbers(len(runs)), spans)


def outcome(ending, reason, vcpus, console):
    return record(3, numbers(ending), text(reason), *[text(vcpu) for vcpu in vcpus], text(console))


def made():
    # rounds, page writes, entries, distinct, full exits, overruns, lost, peak fill
    return (
        MAGIC
        + header()
        + interval(10**8, 0, [(0, 1), (1023, 2), (785406, 3)], [(1, 100, 7, 4, 0, 0, 0, 40), (1, 90, 2, 2, 1, 0, 0, 4032)])
        + interval(10**8, 1, [], [(0, 0, 9, 9, 1, 1, 3, 4096), (1, 110, 1, 1, 0, 0, 0, 4032)])
        + interval(5 * 10**7, 0, [(1024, 1)], [(1, 100, 1, 1, 0, 0, 0, 4096), (0, 0, 0, 0, 0, 0, 0, 4032)])
        + outcome(0, b"", [b"vCPU 0 ended with status 0", b"vCPU 1 ended with status 0"], b"all well\n")
    )


def take_numbers(payload):
    value = shift = 0
    for byte in payload:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0


def pages(data):
    assert data.startswith(MAGIC)
    place, found = len(MAGIC), set()
    rings = vcpus = None
    while place < len(data):
        kind, length = struct.unpack_from("<BI", data, place)
        payload = data[place + 5 : place + 5 + length]
        (crc,) = struct.unpack_from("<I", data, place + 5 + length)
        assert crc == zlib.crc32(data[place : place + 5 + length])
        place += 5 + length + 4
        if kind == 1:
            assert payload[0] < 0x80
            values = take_numbers(payload[1 + payload[0] :])
            rings, _, vcpus = next(values) == 0, next(values), next(values)
        elif kind == 2:
            values = take_numbers(payload)
            _, everything, _, _ = (next(values) for _ in range(4))
            assert not everything
            for _ in range(vcpus * (8 if rings else 2)):
                next(values)
            end = 0
            for _ in range(next(values)):
                first = end + next(values)
                end = first + next(values)
                found.update(range(first, end))
    return sorted(found)


def damaged(data):
    """Names and bytes."""
    for at in range(0, len(data) - 1):
        yield f"cut-{at}", data[:at]
    for at in range(len(data)):
        yield f"flip-{at}", data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
    yield "longer", data + b"x"
    yield "next-version", data.replace(b"drtrace\x01", b"drtrace\x02")
    # Sound records with nonsense inside.
    one = [(0,) * 8]
    good = interval(1, 0, [], one)
    end = outcome(1, b"", [b""], b"")
    huge = 2**63
    parts = {
        "no-interval": [header(1), end],
        "no-header": [good, end],
        "two-headers": [header(1), header(1), good, end],
        "no-vcpu": [header(0), interval(1, 0, [], []), outcome(1, b"", [], b"")],
        "many-vcpus": [header(1000), interval(1, 0, [], one * 1000), outcome(1, b"", [b""] * 1000, b"")],
        "no-length": [header(1), interval(0, 0, [], one), end],
        "time-overflow": [header(1), interval(huge, 0, [], one), interval(huge, 0, [], one), end],
        "past-the-end": [header(1), interval(1, 0, [(787455, 2)], one), end],
        "far-away": [header(1), interval(1, 0, [(huge, 1)], one), end],
        "empty-run": [header(1), interval(1, 0, [(5, 0)], one), end],
        "everything-and-pages": [header(1), interval(1, 1, [(5, 1)], one), end],
        "more-runs-than-bytes": [header(1), record(2, numbers(1, 0, 0, 0, *one[0], 2**40)), end],
        "unknown-kind": [header(1), record(9, b"?"), good, end],
        "unknown-ending": [header(1), good, outcome(7, b"", [b""], b"")],
        "much-memory": [record(1, text(b"g"), numbers(1, 0, 1, 1, 1, 0, 2**50, 0)), good, end],
        "long-number": [header(1), record(2, b"\xff" * 11), end],
        "large-record": [header(1) + struct.pack("<BI", 2, 2**32 - 1)],
    }
    for name, records in parts.items():
        yield name, MAGIC + b"".join(records)


def main():
    what, file = sys.argv[1], pathlib.Path(sys.argv[2])
    if what == "make":
        file.write_bytes(made())
    elif what == "pages":
        print("\n".join(map(str, pages(file.read_bytes()))))
    elif what == "damage":
        for name, data in damaged(file.read_bytes()):
            (pathlib.Path(sys.argv[3]) / name).write_bytes(data)


main()
