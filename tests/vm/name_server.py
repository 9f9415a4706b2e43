#!/usr/bin/env python3
"""Answers for one name, NAME FILE: the file has its IPv4 addresses, and is read again for each question."""

import ipaddress
import pathlib
import socket
import struct
import sys

A, IN = 1, 1
REPLY, NO_SUCH_NAME = 0x8580, 3


def question_of(message):
    """The id, the name, the type and class, and the bytes of the only question (RFC 1035, section 4.1)."""
    number, _, questions = struct.unpack_from(">HHH", message)
    assert questions == 1
    labels, at = [], 12
    while length := message[at]:
        assert length < 64
        labels.append(message[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    kind = struct.unpack_from(">HH", message, at + 1)
    return number, ".".join(labels), kind, message[12 : at + 5]


def answer(message, name, addresses):
    number, asked, kind, question = question_of(message)
    records = [ipaddress.IPv4Address(it).packed for it in addresses] if (asked, kind) == (name, (A, IN)) else []
    flags = REPLY if asked == name else REPLY | NO_SUCH_NAME
    # Each holds for a second, and its name is that of the question.
    records = [struct.pack(">HHHIH", 0xC00C, A, IN, 1, 4) + record for record in records]
    return struct.pack(">HHHHHH", number, flags, 1, len(records), 0, 0) + question + b"".join(records)


def main():
    name, file = sys.argv[1], pathlib.Path(sys.argv[2])
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", 53))
    while True:
        message, client = server.recvfrom(512)
        try:
            server.sendto(answer(message, name, file.read_text().split()), client)
        except (AssertionError, IndexError, ValueError, struct.error):
            print(f"{client[0]} asks for nothing that is understood", flush=True)


if __name__ == "__main__":
    main()
