"""A libzmq socket under remote control, for the interop tests of the bus.

One JSON object per line on standard input is one order, one line on standard output its answer. Frames travel as
latin-1 strings.
"""

import json
import sys
import time

import zmq


class Peer:
    def __init__(self):
        self.context = zmq.Context()
        self.socket = None

    def open(self, type, **options):
        self.socket = self.context.socket(getattr(zmq, type))
        self.socket.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            if name == "CURVE":
                self.socket.curve_secretkey = zmq.curve_keypair()[1]
                self.socket.setsockopt(zmq.CURVE_SERVER, 1)
            else:
                self.socket.setsockopt(getattr(zmq, name), value)
        return zmq.zmq_version()

    def bind(self, endpoint):
        # A port that was just closed may still be in use for a moment.
        end = time.monotonic() + 5
        while True:
            try:
                self.socket.bind(endpoint)
                return self.socket.getsockopt(zmq.LAST_ENDPOINT).decode()
            except zmq.ZMQError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def connect(self, endpoint):
        self.socket.connect(endpoint)

    def subscribe(self, prefix):
        self.socket.setsockopt(zmq.SUBSCRIBE, prefix.encode("latin-1"))

    def unsubscribe(self, prefix):
        self.socket.setsockopt(zmq.UNSUBSCRIBE, prefix.encode("latin-1"))

    def send(self, frames, times=1, per_second=0, timeout_ms=20000):
        """Sends a message, `{i}` in its frames being its number; gives how many were sent in time."""
        self.socket.setsockopt(zmq.SNDTIMEO, timeout_ms)
        start = time.monotonic()
        for i in range(times):
            if per_second and i % 50 == 0:
                time.sleep(max(0, start + i / per_second - time.monotonic()))
            try:
                self.socket.send_multipart([f.replace("{i}", str(i)).encode("latin-1") for f in frames])
            except zmq.Again:
                return i
        return times

    def recv(self, times=1, timeout_ms=5000):
        """The messages that come until there are so many or none comes for so long."""
        self.socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
        messages = []
        try:
            while len(messages) < times:
                messages.append([f.decode("latin-1") for f in self.socket.recv_multipart()])
        except zmq.Again:
            pass
        return messages

    def count(self, times, timeout_ms=5000):
        """As recv, but gives their number and whether the numbers after the last space of each grew by one."""
        self.socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
        count, in_order, last = 0, True, None
        try:
            while count < times:
                number = int(self.socket.recv_multipart()[-1].rsplit(b" ", 1)[-1].rstrip(b"}"))
                in_order = in_order and (last is None or number == last + 1)
                last, count = number, count + 1
        except zmq.Again:
            pass
        return {"count": count, "in_order": in_order}


def main():
    peer = Peer()
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"ok": getattr(peer, order.pop("do"))(**order)}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
