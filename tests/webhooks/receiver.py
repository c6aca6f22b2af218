"""A merchant's server, built on the PyPI package `standardwebhooks`: it verifies what it gets with that package and
remembers what came of it. How it answers is set by `POST /control`; `GET /log` tells what it got."""

import datetime
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import standardwebhooks.webhooks as package

hooks = {}
log = []
lock = threading.Lock()
shift_s = 0


class Clock(datetime.datetime):
    """The package refuses what is older than five minutes: its time moves with that of the gateway."""

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=shift_s)


package.datetime = Clock


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with lock:
            self.answer(200, json.dumps(log))

    def do_POST(self):
        global shift_s
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/control":
            wanted = json.loads(body)
            with lock:
                shift_s = wanted.get("shift_s", shift_s)
                hooks.setdefault(wanted.get("hook"), {}).update(wanted)
            self.answer(200, "{}")
        else:
            self.hook(self.path.removeprefix("/"), body)

    def hook(self, name, body):
        with lock:
            hook = dict(hooks.get(name, {}))
        error = None
        try:
            package.Webhook(hook.get("secret", "whsec_MDA=")).verify(body, dict(self.headers))
        except Exception as refused:
            error = str(refused)
        entry = {"hook": name, "error": error, "headers": {k.lower(): v for k, v in self.headers.items()},
                 "text": body.decode(), "at": time.time(), "under_way": True}
        with lock:
            log.append(entry)
        time.sleep(hook.get("delay_ms", 0) / 1000)
        with lock:
            entry["under_way"] = False
        # As any receiver should: what cannot be verified is not taken.
        status = 401 if error and not hook.get("careless") else hook.get("status", 200)
        self.answer(status, hook.get("body", "taken"), hook.get("headers", {}))

    def answer(self, status, text, headers=None):
        data = text.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
