#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# usage: poke.py PID SIZE
#
# Changes a byte in the last page of the guest memory of SIZE bytes that a process has, behind its back, and says at
# which guest address that page is.
import sys

INFO, MAGIC = 0x4000, b"DRNG"  # what every guest finds there: machine/layout.hpp, guests/abi.hpp
GRANULE = 2 << 20

pid, size = sys.argv[1], int(sys.argv[2])
with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
    for fields in (line.split() for line in maps):
        begin, end = (int(text, 16) for text in fields[0].split("-"))
        # Guest memory is aligned, and by its advice on huge pages a mapping of its own (machine/guest_memory.cpp).
        # Others are not looked at: those of AddressSanitizer are terabytes.
        if len(fields) > 5 or fields[1] != "rw-p" or begin % GRANULE != 0 or end - begin != size:
            continue
        memory.seek(begin + INFO)
        if memory.read(len(MAGIC)) == MAGIC:
            memory.seek(begin + size - 4096)
            memory.write(b"x")
            print(size - 4096)
            sys.exit()
sys.exit("that process has no such guest memory")
