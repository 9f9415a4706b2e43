#!/usr/bin/env python3
"""Counts the words of each request, as a worker of its own, of which there may be any number:
    repd serve --backend tcp://127.0.0.1:5556
    examples/workers/worker.py tcp://127.0.0.1:5556
"""
import signal
import sys
import time
import zmq


def answer(milliseconds):
    """Answers a request that comes in time; returns false if there is none."""
    if not socket.poll(milliseconds):
        return False
    text = b" ".join(socket.recv_multipart()).decode(errors="replace")
    socket.send_string(str(len(text.split())))
    return True


context = zmq.Context()
socket = context.socket(zmq.REP)
socket.connect(sys.argv[1])
leaving = []
signal.signal(signal.SIGTERM, lambda *_: leaving.append(True))
while not leaving:
    answer(100)
time.sleep(0.1)  # To a worker that is silent for that long repd sends nothing more.
while answer(0):
    pass
context.destroy(linger=1000)
