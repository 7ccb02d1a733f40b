#!/usr/bin/env python3
"""Publishes documented messages, two frames each: topic `metrics.<service>`, and the JSON.

usage: publisher.py [ENDPOINT [COUNT [RATE]]]

ENDPOINT  where subscribers or a forwarder listen, default tcp://127.0.0.1:13000;
          with `@` in front the publisher binds there instead of connecting
COUNT     messages to send, default 100; 0 for ever
RATE      messages a second, default 100; 0 as fast as they go

Needs pyzmq.
"""

import json
import math
import sys
import time
from datetime import datetime, timezone

import zmq


def message(number):
    """The documented shape; seven metrics of one of ten services."""
    return {
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "service": f"org.plantd.Example{number % 10}",
        "metrics": {
            "message_count": number,
            "message_rate": 125.5,
            "queue_depth": number % 45,
            "connection_count": 12,
            "error_count": number // 1000,
            "response_time_ms": round(15 + 5 * math.sin(number / 50), 3),
            "uptime_seconds": round(time.monotonic(), 3),
        },
        "tags": {"environment": "example"},
    }


def main():
    arguments = sys.argv[1:]
    if any(argument in ("-h", "--help") for argument in arguments) or len(arguments) > 3:
        sys.exit(__doc__)
    endpoint, count, rate = (arguments + ["tcp://127.0.0.1:13000", "100", "100"][len(arguments) :])[:3]
    count, rate = int(count), float(rate)

    socket = zmq.Context.instance().socket(zmq.PUB)
    socket.linger = 5000  # milliseconds that the close at the end waits for what is still queued
    socket.set_hwm(100_000)
    if endpoint.startswith("@"):
        socket.bind(endpoint[1:])
    else:
        socket.connect(endpoint)
    time.sleep(0.5)  # a PUB socket drops what it sends before its subscribers are known

    began, sent = time.monotonic(), 0
    while count == 0 or sent < count:
        body = message(sent)
        socket.send_multipart([f"metrics.{body['service']}".encode(), json.dumps(body).encode()])
        sent += 1
        ahead = began + sent / rate - time.monotonic() if rate else 0
        if ahead > 0.001:
            time.sleep(ahead)
    seconds = time.monotonic() - began
    print(f"{sent} messages in {seconds:.2f} s to {endpoint}")
    socket.close()
    zmq.Context.instance().term()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
