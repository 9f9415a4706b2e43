#!/usr/bin/env python3
"""Counts the words of each request:
    repd serve -- examples/words.py
"""
import struct
import sys

source, sink = sys.stdin.buffer, sys.stdout.buffer
while head := source.read(4):
    text = source.read(*struct.unpack(">I", head)).decode(errors="replace")
    reply = str(len(text.split())).encode()
    sink.write(struct.pack(">I", len(reply)) + reply)
    sink.flush()
