#!/usr/bin/env python3
"""Counts the words of each request, as a worker of its own, of which there may be any number:
    repd serve --backend tcp://127.0.0.1:5556
    examples/worker.py tcp://127.0.0.1:5556
"""
import sys
import zmq

socket = zmq.Context().socket(zmq.REP)
socket.connect(sys.argv[1])
while True:
    text = b" ".join(socket.recv_multipart()).decode(errors="replace")
    socket.send_string(str(len(text.split())))
