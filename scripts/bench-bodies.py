#!/usr/bin/env python3
"""Writes request bodies for scripts/bench-http: 40 batches of 100 hosts with 10 metrics each.

usage: bench-bodies.py FOLDER

1,000 hosts make 10,000 series; each host stands in four bodies, with other values. The messages carry no
time: the receiver's arrival time stands for it.
"""

import json
import pathlib
import random
import sys

METRICS = [
    "cpu_usage_percent",
    "memory_usage_bytes",
    "memory_usage_percent",
    "disk_usage_bytes",
    "disk_usage_percent",
    "network_rx_bytes",
    "network_tx_bytes",
    "load_average_1m",
    "load_average_5m",
    "load_average_15m",
]


def message(host):
    return {
        "service": "system",
        "metrics": {name: round(random.lognormvariate(3, 1.2), 3) for name in METRICS},
        "tags": {"host": f"server-{host:04d}", "environment": "production", "location": f"rack-{host % 40}"},
    }


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    random.seed(7)
    for number in range(40):
        first = number % 10 * 100
        body = json.dumps({"metrics": [message(host) for host in range(first, first + 100)]})
        (folder / f"{number:02d}").write_text(body)


if __name__ == "__main__":
    main()
