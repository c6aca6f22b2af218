"""An OTLP collector, as far as a test needs one: decodes what it gets with the PyPI package `opentelemetry-proto` and
remembers the spans. `POST /control` sets how it answers (`status`, `delay_ms`); `GET /spans` tells what it got."""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

how = {"status": 200, "delay_ms": 0}
spans = []
refused = 0
lock = threading.Lock()


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def read(body):
    request = ExportTraceServiceRequest.FromString(body)
    for resource_spans in request.resource_spans:
        resource = attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield {
                    "trace": span.trace_id.hex(), "span": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                    "name": span.name, "kind": span.kind, "resource": resource, "attributes": attributes(span.attributes),
                    "status": span.status.code, "message": span.status.message, "events": len(span.events),
                    "ns": span.end_time_unix_nano - span.start_time_unix_nano, "start": span.start_time_unix_nano,
                    "links": [{"trace": link.trace_id.hex(), "span": link.span_id.hex()} for link in span.links],
                }


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with lock:
            self.answer(200, "application/json", json.dumps({"spans": spans, "refused": refused}).encode())

    def do_POST(self):
        global refused
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/control":
            with lock:
                how.update(json.loads(body))
            self.answer(200, "application/json", b"{}")
            return
        assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf", self.headers
        with lock:
            status, delay_ms = how["status"], how["delay_ms"]
        time.sleep(delay_ms / 1000)
        with lock:
            if status == 200:
                spans.extend(read(body))
            else:
                refused += 1
        self.answer(status, "application/x-protobuf", ExportTraceServiceResponse().SerializeToString())

    def answer(self, status, kind, data):
        try:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
