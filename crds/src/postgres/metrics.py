"""Serves the numbers of a copy: /metrics for Prometheus, /room for the operator.

The exporter runs below on a port that only this pod reaches and is started anew when it ends. This program never ends by
itself: a container that does takes its pod out of the Service, and numbers are not worth a database.
"""

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request

VOLUME = os.environ["HZ_VOLUME"]
PORT = int(os.environ["HZ_PORT"])
EXPORTER = "127.0.0.1:9188"
PROGRAM = os.environ.get("HZ_EXPORTER", "prometheus-postgres-exporter")


def room():
    """Bytes of the volume's file system, and those that PostgreSQL can still write."""
    of = os.statvfs(VOLUME)
    return {"size": of.f_frsize * of.f_blocks, "free": of.f_frsize * of.f_bavail}


def gauge(name, text, value):
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n{name} {value}\n"


def page():
    """What the exporter says, and the room. Without the exporter the rest is told all the same."""
    try:
        with urllib.request.urlopen(f"http://{EXPORTER}/metrics", timeout=8) as answer:
            told, up = answer.read().decode(), 1
    except OSError:
        told, up = "", 0
    if told and not told.endswith("\n"):
        told += "\n"
    of = room()
    told += gauge("hz_exporter_up", "1 while the exporter of PostgreSQL answers.", up)
    told += gauge("hz_volume_size_bytes", "Size of the file system of the copy's volume.", of["size"])
    told += gauge("hz_volume_free_bytes", "Room that is left for PostgreSQL on it.", of["free"])
    return told


class Handler(http.server.BaseHTTPRequestHandler):
    """Two pages."""

    timeout = 20

    def do_GET(self):
        try:
            if self.path == "/metrics":
                body, kind = page(), "text/plain; version=0.0.4; charset=utf-8"
            elif self.path == "/room":
                body, kind = json.dumps(room()), "application/json"
            else:
                return self.send_error(404)
        except OSError as error:
            return self.send_error(500, str(error))
        body = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """A question each few seconds is no news."""


def keep_exporting():
    """Runs the exporter for as long as this program runs."""
    while True:
        program = shutil.which(PROGRAM)
        if program is None:
            print(f"there is no {PROGRAM} in this image: only the room is told", file=sys.stderr, flush=True)
            time.sleep(3600)
            continue
        ended = subprocess.run(
            [
                program,
                f"--web.listen-address={EXPORTER}",
                "--collector.stat_wal_receiver",
                "--collector.long_running_transactions",
                "--log.level=warn",
            ],
            check=False,
        )
        print(f"the exporter ended with {ended.returncode}; again in 10 s", file=sys.stderr, flush=True)
        time.sleep(10)


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=keep_exporting, daemon=True).start()
    server = http.server.ThreadingHTTPServer(("", PORT), Handler)
    server.daemon_threads = True
    server.serve_forever()


main()
