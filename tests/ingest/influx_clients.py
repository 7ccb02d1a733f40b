"""Writes through InfluxDB's own clients, and says how each of them took the answer.

usage: influx_clients.py ADDRESS: a line of JSON each
"""

import json
import logging
import sys

import influxdb
import influxdb.exceptions
import influxdb_client
import influxdb_client.rest
from influxdb_client.client.write_api import SYNCHRONOUS, WriteOptions

NOON_S = 1704110400
host, port = sys.argv[1].rsplit(":", 1)
logging.disable(logging.CRITICAL)


def tell(what, **said):
    print(json.dumps({"what": what, **said}))


def v1():
    for gzip in (False, True):
        client = influxdb.InfluxDBClient(host=host, port=int(port), username="u", password="p", database="d", gzip=gzip)
        tell("v1 ping", said=client.ping())
        client.create_database("d")
        points = [
            {
                "measurement": "a measurement, odd=yes",
                "tags": {"host name": "h,1=\"x\"", "zone": "é"},
                "time": NOON_S + at,
                "fields": {"float": at + 0.1, "int": at, "up": True, "te,xt": 'quotes " and \\ and\nlines', "odd key": -1e-7},
            }
            for at in range(3)
        ]
        name = "v1 gzip" if gzip else "v1"
        for point in points:
            point["tags"]["client"] = name
        tell(name, said=client.write_points(points, time_precision="s"))
    client = influxdb.InfluxDBClient(host=host, port=int(port))
    tell("v1 line", said=client.write_points(["line,client=v1\\ line v=1 1704110400000"], database="d", time_precision="ms", protocol="line"))
    try:
        client.write_points(["line,client=v1\\ bad v=1 1", "line v=x 1"], database="d", protocol="line")
    except influxdb.exceptions.InfluxDBClientError as error:
        tell("v1 bad", code=error.code, said=json.loads(error.content)["error"])


def v2():
    for gzip in (False, True):
        name = "v2 gzip" if gzip else "v2"
        with influxdb_client.InfluxDBClient(url=f"http://{host}:{port}", token="t", org="o", enable_gzip=gzip) as client:
            tell(name + " ping", said=client.ping(), version=client.version())
            writer = client.write_api(write_options=SYNCHRONOUS)
            points = [
                influxdb_client.Point("a measurement, odd=yes")
                .tag("host name", 'h,1="x"')
                .tag("client", name)
                .field("float", at + 0.1)
                .field("int", at)
                .field("up", True)
                .field("te,xt", 'quotes " and \\ and\nlines')
                .time(NOON_S + at, influxdb_client.WritePrecision.S)
                for at in range(3)
            ]
            writer.write(bucket="b", record=points, write_precision=influxdb_client.WritePrecision.S)
            tell(name)
    with influxdb_client.InfluxDBClient(url=f"http://{host}:{port}", token="t", org="o") as client:
        try:
            bad = ["line,client=v2\\ bad v=1 1", "line v=x 1"]
            client.write_api(write_options=SYNCHRONOUS).write(bucket="b", record=bad)
        except influxdb_client.rest.ApiException as error:
            tell("v2 bad", code=error.status, said=json.loads(error.body))
        # The batching writer, which sends again what it may: a bad body once, and the good lines of it are there.
        errors = []
        options = WriteOptions(batch_size=100, flush_interval=10_000, max_retries=2)
        with client.write_api(write_options=options, error_callback=lambda _, __, error: errors.append(error.status)) as writer:
            for at in range(250):
                writer.write(bucket="b", record=f"line,client=v2\\ batch v={at} {(NOON_S + at) * 10**9}")
            writer.write(bucket="b", record="line v=y 1")
        tell("v2 batch", errors=errors)


v1()
v2()
