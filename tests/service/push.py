"""Real clients of OTLP and StatsD against the service, which is asked for what they were given.

    push.py otlp API             the OpenTelemetry SDK and its OTLP exporter over HTTP
    push.py statsd API ADDRESS   the modules statsd and datadog
"""

import json
import math
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def get(api, path, **parameters):
    query = urllib.parse.urlencode(parameters, doseq=True)
    with urllib.request.urlopen(f"{api}{path}?{query}", timeout=30) as answer:
        return json.load(answer)


def latest(api, service, metric):
    """{tags: newest value} of a metric."""
    found = {}
    # Newest first.
    for message in get(api, "/api/v1/metrics", service=service, metric=metric, limit=10000)["metrics"]:
        tags = frozenset(message.get("tags", {}).items())
        found.setdefault(tags, message["metrics"][metric])
    return found


def rejected(api):
    return get(api, "/api/v1/rejected")["total"]


def wait_until(what, look):
    end = time.monotonic() + 60
    while not look():
        assert time.monotonic() < end, f"waited too long: {what}"
        time.sleep(0.02)


def without_le(found):
    return {dict(tags)["le"]: value for tags, value in found.items()}


def otlp(api):
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
    from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExportResult, PeriodicExportingMetricReader
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.metrics import Observation

    results = []

    class Watched(OTLPMetricExporter):
        def export(self, *arguments, **named):
            results.append(super().export(*arguments, **named))
            return results[-1]

    def provider(service, compression, temporality):
        exporter = Watched(endpoint=f"{api}/v1/metrics", compression=compression, preferred_temporality=temporality)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
        resource = Resource.create({"service.name": service, "service.instance.id": "i1", "host.name": "h1", "cores": 2, "on": True, "list": ["a", "b"]})
        view = View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation())
        return MeterProvider(resource=resource, metric_readers=[reader], views=[view])

    cumulative = provider("py.cumulative", Compression.Gzip, {})
    meter = cumulative.get_meter("tests")
    requests = meter.create_counter("http.requests", unit="1")
    active = meter.create_up_down_counter("http.active")
    duration = meter.create_histogram("http.duration", unit="s", explicit_bucket_boundaries_advisory=[0.005, 0.5, 10.0])
    size = meter.create_histogram("size")
    meter.create_observable_gauge("temperature", callbacks=[lambda _: [Observation(21.5, {"room": "a"}), Observation(-3, {"room": "b"})]])
    sizes = [0.0, 0.3, 1.5, 1.5, 2.0, 700.25, 1e6]
    for _ in range(2):
        requests.add(3, {"route": "/", "code": 200})
        requests.add(1, {"route": "/x", "code": 404})
        active.add(5)
        active.add(-2)
        for seconds in [0.001, 0.005, 0.4, 3, 70]:
            duration.record(seconds)
        for value in sizes:
            size.record(value)
        assert cumulative.force_flush()

    delta = provider("py.delta", Compression.NoCompression, {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA})
    steps = delta.get_meter("tests").create_counter("steps")
    for step in [4, 6]:
        steps.add(step)
        assert delta.force_flush()
    assert results == [MetricExportResult.SUCCESS] * 4, results
    cumulative.shutdown()
    delta.shutdown()

    of_resource = {("service.instance.id", "i1"), ("host.name", "h1"), ("cores", "2"), ("on", "true"), ("list", '["a","b"]')}

    def of(metric, service="py.cumulative"):
        found = latest(api, service, metric)
        assert found and all(of_resource <= tags for tags in found), (metric, found)
        return {tags - of_resource: value for tags, value in found.items()}

    wait_until("all of it can be read", lambda: latest(api, "py.delta", "steps"))
    assert of("http.requests") == {frozenset({("route", "/"), ("code", "200")}): 6, frozenset({("route", "/x"), ("code", "404")}): 2}, of("http.requests")
    nobody = frozenset()
    assert of("http.active") == {nobody: 6}
    assert of("temperature") == {frozenset({("room", "a")}): 21.5, frozenset({("room", "b")}): -3}
    assert of("http.duration_count") == {nobody: 10}
    assert abs(of("http.duration_sum")[nobody] - 2 * 73.406) < 1e-9
    assert (of("http.duration_min"), of("http.duration_max")) == ({nobody: 0.001}, {nobody: 70})
    assert without_le(of("http.duration_bucket")) == {"0.005": 4, "0.5": 6, "10": 8, "+Inf": 10}
    assert of("size_count") == {nobody: 2 * len(sizes)}
    buckets = {float(bound.replace("+Inf", "inf")): value for bound, value in without_le(of("size_bucket")).items()}
    assert buckets[math.inf] == 2 * len(sizes) and buckets[0.0] == 2, buckets
    for bound, count in buckets.items():
        # A value at a bound itself may fall on either side of it by rounding.
        below = 2 * sum(value <= bound * (1 - 1e-9) for value in sizes)
        near = 2 * sum(value <= bound * (1 + 1e-9) for value in sizes)
        assert below <= count <= near or bound == 0, (bound, count, below, near)
    total = get(api, "/api/v1/metrics", service="py.delta", metric="steps")["metrics"]
    assert sorted(message["metrics"]["steps"] for message in total) == [4, 6], total
    assert rejected(api) == 0
    answers(api)


def answers(api):
    """What is answered, read by the schema's own classes; and their JSON."""
    from google.protobuf.json_format import MessageToJson, Parse
    from google.rpc.status_pb2 import Status
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse

    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    attribute = of_resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = "py.json"
    metrics = of_resource.scope_metrics.add().metrics
    metric = metrics.add(name="big")
    metric.sum.aggregation_temporality = 2
    point = metric.sum.data_points.add(as_int=2**53, time_unix_nano=time.time_ns())
    point.attributes.add(key="bytes").value.bytes_value = b"\x00\xff"
    histogram = metrics.add(name="h").histogram.data_points.add(count=3, time_unix_nano=time.time_ns())
    histogram.bucket_counts.extend([1, 2])
    histogram.explicit_bounds.append(0.5)
    metrics.add(name="bad").gauge.data_points.add(as_double=math.inf)
    metrics.add(name="none").gauge.data_points.add(flags=1)

    def post(body, media):
        wanted = urllib.request.Request(f"{api}/v1/metrics", body, {"content-type": media})
        try:
            answer = urllib.request.urlopen(wanted, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        assert answer.headers["content-type"] == media
        return answer.status, answer.read()

    text = MessageToJson(request, use_integers_for_enums=True)
    for body, media, read in [
        (text.encode(), "application/json", lambda body, into: Parse(body, into)),
        (request.SerializeToString(), "application/x-protobuf", lambda body, into: into.FromString(body)),
    ]:
        status, answer = post(body, media)
        partial = read(answer, ExportMetricsServiceResponse()).partial_success
        assert (status, partial.rejected_data_points) == (200, 1), answer
        assert partial.error_message == "bad: expected a finite value: inf", partial
        status, answer = post(body[:-3], media)
        told = read(answer, Status())
        assert (status, told.code) == (400, 3) and told.message, told
    wait_until("it can be read", lambda: latest(api, "py.json", "big"))
    assert latest(api, "py.json", "big") == {frozenset({("bytes", "AP8=")}): 2**53}
    assert without_le(latest(api, "py.json", "h_bucket")) == {"0.5": 1, "+Inf": 3}


def statsd(api, address):
    import statsd as plain
    from datadog.dogstatsd import DogStatsd

    host, port = address.rsplit(":", 1)
    lines = lambda: get(api, "/status")["statsd"]["lines"]
    intervals = lambda: get(api, "/status")["statsd"]["intervals"]

    client = plain.StatsClient(host, int(port), prefix="app")
    client.incr("hits")
    client.incr("hits", 4)
    client.gauge("depth", 10)
    client.gauge("depth", -3, delta=True)
    client.timing("took", 320)
    client.timing("took", 80.5)
    client.set("users", "ann")
    client.set("users", "bob")
    client.set("users", "ann")
    with client.pipeline() as pipe:
        pipe.incr("packed", 2)
        pipe.incr("packed", 3)
    client.close()

    dog = DogStatsd(host=host, port=int(port), namespace="dog", constant_tags=["service:shop", "env:test"], disable_telemetry=True, disable_buffering=True)
    dog.increment("hits", 2, tags=["b:2", "a:1"])
    dog.increment("hits", 3, tags=["a:1", "b:2"])
    dog.gauge("load", 0.5, tags=["canary"])
    dog.histogram("size", 7)
    dog.distribution("size", 9)
    dog.timing("took", 12)
    dog.set("users", 5)
    dog.event("title", "text\nwith lines", tags=["a:b"])
    dog.service_check("check", 0)
    dog.flush()
    wait_until("all lines are read", lambda: lines() >= 20)
    ended = intervals()
    wait_until("an interval ends", lambda: intervals() > ended + 1)

    def value(service, metric, **tags):
        found = latest(api, service, metric)
        return found.get(frozenset(tags.items()), found)

    assert value("statsd", "app.hits") == 5
    assert value("statsd", "app.depth") == 7
    assert value("statsd", "app.packed") == 5
    assert value("statsd", "app.users") == 2
    assert value("statsd", "app.took_count") == 2
    took = get(api, "/api/v1/metrics", service="statsd", metric="app.took")["metrics"]
    assert sorted(message["metrics"]["app.took"] for message in took) == [80.5, 320], took
    assert value("shop", "dog.hits", env="test", a="1", b="2") == 5
    assert value("shop", "dog.load", env="test", canary="true") == 0.5
    assert value("shop", "dog.size_count", env="test") == 2
    assert value("shop", "dog.took", env="test") == 12
    assert value("shop", "dog.users", env="test") == 1
    status = get(api, "/status")["statsd"]
    assert (status["lines"], status["skipped"]) == (20, 2), status
    assert rejected(api) == 0, get(api, "/api/v1/rejected")


if __name__ == "__main__":
    {"otlp": otlp, "statsd": statsd}[sys.argv[1]](*sys.argv[2:])
