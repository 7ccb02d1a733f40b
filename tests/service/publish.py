"""A libzmq publisher of documented messages, and an independent recomputation of what the service makes of them.

    publish.py check FRONTEND API COUNT   publishes COUNT messages, compares every window with the aggregate API
    publish.py hostile FRONTEND           sends what nobody should send; prints how many rejects that makes at least
"""

import json
import math
import random
import sys
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from datetime import datetime, timezone

import zmq

SERVICES = 1000
# Windows of an earlier run in the same service are not ours.
PREFIX = f"org.plantd.Service{time.time_ns()}."
WINDOW_S = 10
SPAN_S = 20
METRICS = ["message_count", "message_rate", "queue_depth", "connection_count", "error_count", "response_time_ms", "uptime_seconds"]
# Messages under way at a time: below the high-water mark of 1,000, at which PUB drops.
UNDER_WAY = 500


def connect(frontend):
    """An XPUB socket: a PUB that can be asked whether its subscribers are there."""
    socket = zmq.Context.instance().socket(zmq.XPUB)
    socket.setsockopt(zmq.LINGER, 5000)
    socket.connect(frontend)
    wanted = {b"\x01metrics.", b"\x01org.plantd."}
    socket.setsockopt(zmq.RCVTIMEO, 20000)
    while wanted:
        wanted.discard(socket.recv())
    return socket


def get(api, path, **parameters):
    url = f"{api}{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def rfc3339(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def messages(count, start):
    """Messages in the order of their event times, every service in turn."""
    chance = random.Random(7)
    for n in range(count):
        service = f"{PREFIX}{n % SERVICES:03}"
        at = start + int(n * SPAN_S * 1_000_000 / count) / 1_000_000
        values = [float(n), chance.random(), -chance.expovariate(0.01), chance.gauss(0, 1e6), 0.0, math.exp(chance.gauss(3, 1.5)), n * 0.1]
        yield service, at, dict(zip(METRICS, values))


def send(socket, n, service, at, metrics):
    payload = json.dumps({"timestamp": rfc3339(at), "service": service, "metrics": metrics}).encode()
    if n % 2:
        socket.send(b"org.plantd.Metric" + payload)
    else:
        socket.send_multipart([b"metrics." + service.encode(), payload])


def processed(api):
    return get(api, "/status")["metrics_processed"]


def wait_for(api, before, count):
    end = time.monotonic() + 60
    while (now := processed(api) - before) < count:
        assert time.monotonic() < end, f"{now} of {count} messages came"
        time.sleep(0.005)
    assert now == count or count == 0, f"{now} messages came, {count} were sent"


def p99(values):
    """By linear interpolation, as numpy does."""
    values = sorted(values)
    rank = 0.99 * (len(values) - 1)
    low = values[int(rank)]
    return low + (values[min(int(rank) + 1, len(values) - 1)] - low) * (rank % 1)


def compare(told, expected, name):
    """Compares the series of one answer, five functions each, with {key: {window: values}}."""
    found = defaultdict(dict)
    bounds = {}
    for series in told:
        key = series["service"] or ""
        bounds[key] = max(bounds.get(key, 0), series["error_bound"])
        for point in series["points"]:
            found[key, point["start"]][series["func"]] = (point["value"], point["count"])
    assert set(found) == {(key, start) for key in expected for start in expected[key]}, f"{name}: other windows"
    for (key, start), functions in found.items():
        values = expected[key][start]
        exact = {"count": len(values), "min": min(values), "max": max(values)}
        for func, value in exact.items():
            assert functions[func] == (value, len(values)), f"{name} {key} {start} {func}: {functions[func]}, expected {value}"
        # A sum of both signs may cancel: it is right relative to what was added.
        total, size = math.fsum(values), math.fsum(map(abs, values))
        assert abs(functions["sum"][0] - total) <= 1e-9 * size, f"{name} {key} {start} sum: {functions['sum']}, expected {total}"
        quantile = p99(values)
        bound = bounds[key] * 1.000001 * abs(quantile) + 1e-12 * abs(quantile)
        assert abs(functions["p99"][0] - quantile) <= bound, f"{name} {key} {start} p99: {functions['p99']}, expected {quantile}"
    return len(found), max(bounds.values())


def check(frontend, api, count):
    before = processed(api)
    samples_before = get(api, "/status")["samples_processed"]
    socket = connect(frontend)
    start = (int(time.time()) // WINDOW_S - 6) * WINDOW_S
    single = {metric: defaultdict(lambda: defaultdict(list)) for metric in METRICS}
    pooled = {metric: {"": defaultdict(list)} for metric in METRICS}
    for n, (service, at, metrics) in enumerate(messages(count, start)):
        send(socket, n, service, at, metrics)
        window = datetime.fromtimestamp(at // WINDOW_S * WINDOW_S, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        for metric, value in metrics.items():
            single[metric][service][window].append(value)
            pooled[metric][""][window].append(value)
        if (n + 1) % UNDER_WAY == 0:
            wait_for(api, before, n + 1)
    wait_for(api, before, count)
    end = time.monotonic() + 60
    while get(api, "/status")["samples_processed"] - samples_before < count * len(METRICS):
        assert time.monotonic() < end, "the samples are not in the windows"
        time.sleep(0.01)
    windows, bound = 0, 0
    for metric in METRICS:
        asked = {"metric": metric, "service": PREFIX + "*", "interval": "10s", "func": "count,sum,min,max,p99", "start": rfc3339(start), "end": rfc3339(start + SPAN_S)}
        one = compare(get(api, "/api/v1/metrics/aggregate", **asked)["series"], single[metric], metric)
        all_in_one = compare(get(api, "/api/v1/metrics/aggregate", by="", **asked)["series"], pooled[metric], metric)
        windows += one[0] + all_in_one[0]
        bound = max(bound, one[1], all_in_one[1])
    assert bound <= 0.01, bound
    print(f"{count} messages, {windows} windows compared, largest error bound {bound}")


def hostile(frontend):
    socket = connect(frontend)
    good = b'{"service":"a","metrics":{"m":1}}'
    payloads = [
        good[:20], b"", b"{", b"[" * 200_000, b"[" * 200_000 + b"]" * 200_000, b'{"metrics":' * 200_000,
        b'{"service":"a","metrics":{"m":' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
        bytes(range(256)) * 40, b"\x00" * 10_000, b'{"service":"\xff\xfe","metrics":{"m":1}}',
        b'{"service":7,"metrics":{"m":1}}', b'{"service":"a","metrics":[1,2]}', b'{"service":"a","metrics":{"m":"x"}}',
        b'{"service":"a","metrics":{"m":1},"timestamp":[]}', b"17", b"null", b'"text"', b" " * 1_000_000,
    ]
    for payload in payloads:
        socket.send_multipart([b"metrics.hostile", payload])
    socket.send_multipart([b"metrics.\xff\xfe\x00", good])
    # More frames than two, and an envelope without JSON: the bus leaves them out or the decoder does.
    socket.send_multipart([b"metrics.a", good, good])
    socket.send(b"org.plantd.Metric")
    print(len(payloads), flush=True)
    for _ in range(3):
        large = zmq.Context.instance().socket(zmq.PUB)
        large.setsockopt(zmq.LINGER, 2000)
        large.connect(frontend)
        time.sleep(0.3)
        large.send_multipart([b"metrics.large", b"[" * 100_000_000])
        large.close()
    socket.close()


if __name__ == "__main__":
    if sys.argv[1] == "check":
        check(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        hostile(sys.argv[2])
