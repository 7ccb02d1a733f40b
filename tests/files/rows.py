"""Reads files of a storage directory with nothing but json, csv, gzip and pyarrow, and prints one line
per sample: [time in nanoseconds, service, metric, value as hexadecimal bits, [[tag, value], ...]].

usage: rows.py FILE...
"""

import csv
import datetime
import gzip
import io
import json
import os
import struct
import sys


def nanoseconds(text):
    assert text.endswith("Z"), text
    whole, _, fraction = text[:-1].partition(".")
    assert len(fraction) in (0, 3, 6, 9), text
    since = datetime.datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S") - datetime.datetime(1970, 1, 1)
    return (since.days * 86400 + since.seconds) * 10**9 + int(fraction.ljust(9, "0") or "0")


def text_of(path):
    with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as file:
        return file.read().decode("utf-8")


def json_rows(path):
    for line in text_of(path).split("\n")[:-1]:
        message = json.loads(line)
        for metric, value in message["metrics"].items():
            assert isinstance(value, float), line
            yield nanoseconds(message["timestamp"]), message["service"], metric, value, message.get("tags", {})


def csv_rows(path):
    # newline="" leaves line ends inside quoted fields as they are, as the csv module asks.
    for row in csv.DictReader(io.StringIO(text_of(path), newline=""), strict=True):
        tags = json.loads(row["tags"]) if row["tags"] else {}
        yield nanoseconds(row["time"]), row["service"], row["metric"], float(row["value"]), tags


def parquet_rows(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open(path, "rb") as file:
        table = pq.read_table(file, use_threads=False)
    assert table.schema.field("time").type == pa.timestamp("ns", tz="UTC"), table.schema
    assert table.schema.field("value").type == pa.float64(), table.schema
    for name in ("service", "metric", "tags"):
        assert table.schema.field(name).type == pa.string(), table.schema
    assert not any(field.nullable for field in table.schema), table.schema
    columns = [table.column("time").cast(pa.int64()).to_pylist()]
    columns += [table.column(name).to_pylist() for name in ("service", "metric", "value", "tags")]
    rows = list(zip(*columns))
    key = lambda row: (row[1].encode(), row[2].encode(), row[4].encode(), row[0])
    assert rows == sorted(rows, key=key), "rows are not sorted by series and time"
    for time, service, metric, value, tags in rows:
        yield time, service, metric, value, json.loads(tags) if tags else {}


def rows_of(path):
    if path.endswith(".parquet"):
        return parquet_rows(path)
    return csv_rows(path) if ".csv" in path else json_rows(path)


for path in sys.argv[1:]:
    for time, service, metric, value, tags in rows_of(path):
        bits = struct.pack(">d", value).hex()
        print(json.dumps([time, service, metric, bits, sorted(tags.items())]))

# pyarrow's thread pools can abort the interpreter while it takes itself down, after all was said.
sys.stdout.flush()
os._exit(0)
