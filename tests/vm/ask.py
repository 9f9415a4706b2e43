#!/usr/bin/env python3
"""Asks a repd without pause, and says what came of it.

Each client is a REQ socket with one request outstanding. It goes on until --requests, SIGTERM, or a 503 says that
the service is stopping. What came is printed as one JSON object: replies as expected, clients that a 503 sent away
(refused), other error replies by code, wrong replies, and requests that were lost, which is to say not answered
--timeout seconds after the last of the --retries.
"""

import argparse
import collections
import json
import pathlib
import signal
import time

import zmq

EXPECTED = {
    "reverse": lambda request: request[::-1],
    "words": lambda request: str(len(request.split())),
}


class Client:
    def __init__(self, name, context, options):
        self.name, self.context, self.options = name, context, options
        self.asked = 0
        self.socket = None

    def ask(self):
        """Sends the next request."""
        self.asked += 1
        self.request = f"{self.name} asks for the {self.asked}th time"
        self.tries = 0
        self.send()

    def send(self):
        if self.socket is None:
            self.socket = self.context.socket(zmq.REQ)
            self.socket.linger = 0
            self.socket.connect(self.options.endpoint)
        self.socket.send_string(self.request)
        self.tries += 1
        self.due = time.monotonic() + self.options.timeout

    def give_up(self):
        """Leaves the request behind, and its socket with it: a late reply goes to nobody."""
        self.socket.close()
        self.socket = None

    def what_came(self):
        """Of the reply that has come: replies, wrong, refused, or the code of another error."""
        frames = self.socket.recv_multipart()
        if frames[0] == b"REPD-ERROR":
            code = frames[1].decode()
            return "refused" if code == "503" else code
        expected = EXPECTED[self.options.expect](self.request).encode()
        return "replies" if frames == [expected] else "wrong"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("endpoint")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--requests", type=int, help="of all clients together; without it there is no end")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds, for each try")
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--expect", choices=EXPECTED, default="reverse")
    parser.add_argument("--flowing", help="a file to make once each client has had a reply")
    options = parser.parse_args()

    # Whoever began it may be gone.
    signal.alarm(600)
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    came = collections.Counter(replies=0, refused=0, wrong=0, lost=0)
    context, poller = zmq.Context(), zmq.Poller()
    waiting = {}
    left = options.requests
    answered = set()

    def ask(client):
        nonlocal left
        if told or left == 0:
            return
        left = left and left - 1
        client.ask()
        wait_for(client)

    def wait_for(client):
        waiting[client.socket] = client
        poller.register(client.socket, zmq.POLLIN)

    def forget(client):
        poller.unregister(client.socket)
        del waiting[client.socket]

    # One comes when the one before has had its first reply: a port that qemu forwards has room for one connection
    # that is not yet accepted, and those beyond are left to TCP's patience.
    coming = iter([Client(f"client {number}", context, options) for number in range(options.clients)])
    ask(next(coming))
    while waiting:
        for socket, _ in poller.poll(100):
            client = waiting[socket]
            forget(client)
            result = client.what_came()
            came[result] += 1
            if result != "refused":
                ask(client)
            if client not in answered:
                answered.add(client)
                if newcomer := next(coming, None):
                    ask(newcomer)
                elif options.flowing:
                    pathlib.Path(options.flowing).touch()
        now = time.monotonic()
        for client in [client for client in waiting.values() if client.due < now]:
            forget(client)
            client.give_up()
            if client.tries <= options.retries:
                client.send()
                wait_for(client)
            else:
                came["lost"] += 1
                ask(client)
    print(json.dumps(came))


if __name__ == "__main__":
    main()
