"""Twenty pyzmq clients in threads, fifty requests each, every reply looked at."""

import sys
import threading

import zmq

context = zmq.Context()
replies = []


def client(number):
    with context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.rcvtimeo = 120_000
        socket.connect(sys.argv[1])
        for request in range(50):
            text = f"client {number}, request {request}"
            socket.send_string(text)
            reply = socket.recv_string()
            assert reply == text[::-1], reply
            replies.append(reply)


threads = [threading.Thread(target=client, args=[number]) for number in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(replies), "replies")
