"""Runs upgrade.py on real databases of PostgreSQL 15 and 17. `python3 upgrade_test.py`, as a user who is called postgres;
`crds/tests/upgrade.rs` does so.

Patroni's store and the pods' annotations are kept by a stand-in of take_over.py in a file; everything else is the real thing. HZ_PROGRAMS
names the folder of PostgreSQL's versions.
"""

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.environ.get("HZ_PROGRAMS", "/usr/lib/postgresql")
STORE = '''
import json, os
def call(method, path, body=None):
    name = path.rsplit("/", 1)[1]
    file = os.environ["STORE"]
    said = json.load(open(file)) if os.path.exists(file) else {}
    notes = said.setdefault(name, {})
    for key, value in ((body or {}).get("metadata", {}).get("annotations") or {}).items():
        notes.pop(key, None) if value is None else notes.__setitem__(key, value)
    if method == "PATCH":
        json.dump(said, open(file + ".new", "w"))
        os.rename(file + ".new", file)
    return {"metadata": {"annotations": notes}}
'''
PATRONI = "#!/bin/sh\necho patroni is started\n"


class Copy:
    """A pod with its volume."""

    def __init__(self, base, name="records-0", port=18008):
        self.home, self.name, self.port = f"{base}/{name}", name, port
        self.volume, self.store = f"{self.home}/volume", f"{base}/store"
        os.makedirs(self.volume)
        for file, text in (("take_over.py", STORE), ("patroni", PATRONI)):
            with open(f"{self.home}/{file}", "w", encoding="utf-8") as out:
                out.write(text)
        os.chmod(f"{self.home}/patroni", 0o755)
        shutil.copy(f"{HERE}/upgrade.py", self.home)

    def environment(self, **more):
        return {**os.environ, "HZ_VOLUME": self.volume, "HZ_PROGRAMS": PROGRAMS, "HZ_SOCKETS": self.home, "HZ_PORT": str(self.port),
                "HZ_REST": f"http://127.0.0.1:{self.port}", "HZ_TASK_FILE": f"{self.home}/task.json", "STORE": self.store,
                "POD_NAME": self.name, "POD_NAMESPACE": "x", "PATH": f"{self.home}:{os.environ['PATH']}", **more}

    def begin(self, wanted, task=None):
        more = {"HZ_TASK": json.dumps(task)} if task else {}
        return subprocess.Popen([sys.executable, f"{self.home}/upgrade.py", "start", "records"], start_new_session=True,
                                env=self.environment(HZ_VERSION=wanted, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def start(self, wanted):
        process = self.begin(wanted)
        said, _ = process.communicate(timeout=60)
        assert "patroni is started" in said, said

    def attend(self):
        if os.path.exists("/tmp/upgrade-answered"):
            os.remove("/tmp/upgrade-answered")
        subprocess.run([sys.executable, f"{self.home}/upgrade.py", "attend"], env=self.environment(HZ_VERSION="15"), check=True)

    def task(self, **task):
        with open(f"{self.home}/task.json", "w", encoding="utf-8") as out:
            json.dump(task, out)

    def notes(self, object_name=None):
        said = json.load(open(self.store, encoding="utf-8")) if os.path.exists(self.store) else {}
        return said.get(object_name or self.name, {})

    def heard(self, key):
        return json.loads(self.notes().get(f"hz.hospital/{key}", "{}"))

    def ctl(self, version, *act):
        subprocess.run([f"{PROGRAMS}/{version}/bin/pg_ctl", "-D", f"{self.volume}/pgdata", "-w", "-l", f"{self.home}/log",
                        "-o", f"-c listen_addresses= -c unix_socket_directories={self.home}", *act], check=True, stdout=subprocess.DEVNULL)

    def sql(self, statement, database="postgres"):
        done = subprocess.run([f"{PROGRAMS}/17/bin/psql", "-XAtq", "-h", self.home, "-d", database, "-c", statement], check=True,
                              stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    def version(self):
        with open(f"{self.volume}/pgdata/PG_VERSION", encoding="utf-8") as file:
            return file.read().strip()

    def folders(self):
        return sorted(name for name in os.listdir(self.volume) if os.path.isdir(f"{self.volume}/{name}"))

    def make(self):
        """A database of version 15 as the platform makes it, with rows."""
        subprocess.run([f"{PROGRAMS}/15/bin/initdb", "-D", f"{self.volume}/pgdata", "-U", "postgres", "--encoding=UTF8", "--locale=C.UTF-8",
                        "--data-checksums", "--auth-local=peer"], check=True, stdout=subprocess.DEVNULL)
        # As Patroni writes it where every write waits for a second copy.
        with open(f"{self.volume}/pgdata/postgresql.conf", "a", encoding="utf-8") as out:
            out.write("synchronous_standby_names = '*'\n")
        self.ctl("15", "start")
        local = "SET synchronous_commit = local; "
        self.sql(local + "CREATE ROLE orthanc LOGIN PASSWORD 'secret'")
        subprocess.run([f"{PROGRAMS}/17/bin/psql", "-Xq", "-h", self.home, "-d", "postgres"], check=True, text=True,
                       input="SET synchronous_commit = local; CREATE DATABASE orthanc OWNER orthanc TEMPLATE template0 ENCODING 'UTF8';\n")
        self.sql(local + "CREATE EXTENSION pg_trgm; CREATE TABLE rows (n bigint PRIMARY KEY, t text); "
                 "CREATE INDEX ON rows USING gin (t gin_trgm_ops); INSERT INTO rows SELECT g, 'Müller ' || g FROM generate_series(1, 5000) g",
                 "orthanc")

    def rows(self):
        return int(self.sql("SELECT count(*) FROM rows", "orthanc"))


UPGRADE = {"id": "one", "do": "upgrade", "from": "15", "to": "17"}


class Upgrades(unittest.TestCase):
    def setUp(self):
        self.base = tempfile.mkdtemp(prefix="up", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.copy = Copy(self.base)
        self.copy.make()
        self.addCleanup(self.end)

    def end(self):
        subprocess.run(["pkill", "-9", "-f", self.base], check=False)
        time.sleep(0.5)

    def worked(self, copy, wanted, task, step="done", kill_after=()):
        """Runs a pod that is to do one thing to its end; before that it dies after each of these times."""
        for seconds in kill_after:
            process = copy.begin(wanted, task)
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
            # In a pod whatever it started dies along.
            subprocess.run(["pkill", "-9", "-f", self.base], check=False)
            time.sleep(0.5)
            process.communicate()
        process = copy.begin(wanted, task)
        until = time.monotonic() + 90
        while (copy.heard("task").get("id"), copy.heard("task").get("step")) not in ((task["id"], "done"), (task["id"], "failed")) and time.monotonic() < until:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate()
        self.assertEqual(copy.heard("task").get("step"), step, said)
        self.assertEqual(copy.version(), task["from"], "the data itself is touched only when the spec says so")
        return said

    def upgraded(self, **more):
        self.copy.ctl("15", "-m", "fast", "stop")
        self.worked(self.copy, "15", UPGRADE, **more)
        self.copy.start("17")

    def test_every_row_is_there_after_an_upgrade_and_again_after_the_way_back(self):
        self.upgraded()
        self.assertEqual(self.copy.heard("data"), {"version": "17", "kept": "15", "analyze": True})
        self.assertEqual(self.copy.folders(), ["pgdata", "pgdata-15"])
        self.copy.ctl("17", "start")
        self.assertEqual(self.copy.rows(), 5000)
        self.assertEqual(self.copy.sql("SELECT current_setting('server_version_num')::int / 10000"), "17")
        self.assertEqual(self.copy.sql("SELECT datlocprovider, datcollate FROM pg_database WHERE datname = 'orthanc'"), "c|C.UTF-8")
        system = self.copy.sql("SELECT system_identifier FROM pg_control_system()")
        self.assertEqual(self.copy.notes("records-config")["initialize"], system)
        self.copy.sql("DELETE FROM rows WHERE n > 10", "orthanc")
        self.copy.ctl("17", "-m", "fast", "stop")

        self.worked(self.copy, "17", {"id": "two", "do": "rollback", "from": "17", "to": "15"})
        self.copy.start("15")
        self.assertEqual(self.copy.heard("data"), {"version": "15"})
        self.copy.ctl("15", "start")
        self.assertEqual(self.copy.rows(), 5000)
        system = self.copy.sql("SELECT system_identifier FROM pg_control_system()")
        self.assertEqual(self.copy.notes("records-config")["initialize"], system)

    def test_a_pod_that_dies_at_any_moment_of_the_work_goes_on(self):
        self.upgraded(kill_after=(0.3, 1, 2, 3, 4.5, 6))
        self.copy.ctl("17", "start")
        self.assertEqual(self.copy.rows(), 5000)

    def test_a_machine_that_died_before_goes_through_its_log_first(self):
        self.copy.ctl("15", "-m", "immediate", "stop")
        self.worked(self.copy, "15", UPGRADE)
        self.copy.start("17")
        self.copy.ctl("17", "start")
        self.assertEqual(self.copy.rows(), 5000)

    def test_a_pod_that_dies_between_two_renames_finishes_them(self):
        self.copy.ctl("15", "-m", "fast", "stop")
        self.worked(self.copy, "15", UPGRADE)
        sys.path.insert(0, self.copy.home)
        for wanted, other, steps in (("17", "15", 2), ("15", "17", 2)):
            for stop_at in range(steps):
                # In a process of its own, which ends at the rename of this number.
                script = ("import upgrade, os\nmove, done = upgrade.move, [0]\n"
                          f"def dies(*a):\n    done[0] += 1\n    os._exit(9) if done[0] > {stop_at} else move(*a)\n"
                          f"upgrade.move = dies\nupgrade.settle('{wanted}')\n")
                subprocess.run([sys.executable, "-c", script], cwd=self.copy.home, check=False,
                               env=self.copy.environment(HZ_VERSION=wanted, PYTHONPATH=self.copy.home))
            self.copy.start(wanted)
            self.assertEqual(self.copy.version(), wanted)
            self.copy.ctl(wanted, "start")
            self.assertEqual(self.copy.rows(), 5000)
            self.copy.ctl(wanted, "-m", "fast", "stop")
            if wanted == "17":
                self.worked(self.copy, "17", {"id": "two", "do": "rollback", "from": "17", "to": "15"})

    def test_what_was_made_of_older_data_is_never_used(self):
        self.copy.ctl("15", "-m", "fast", "stop")
        self.worked(self.copy, "15", UPGRADE)
        # The upgrade is given up and somebody goes on writing.
        shutil.copy(f"{self.copy.volume}/upgrade.json", f"{self.base}/kept.json")
        self.copy.ctl("15", "start")
        self.copy.sql("SET synchronous_commit = local; INSERT INTO rows VALUES (6000, 'late')", "orthanc")
        self.copy.ctl("15", "-m", "fast", "stop")
        process = self.copy.begin("17")
        time.sleep(3)
        self.assertIsNone(process.poll(), "it waits")
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
        self.assertIn("version 17 was asked for", self.copy.heard("data")["held"])
        self.copy.start("15")
        self.assertEqual(self.copy.folders(), ["pgdata", "pgdata-17.superseded"])
        self.copy.ctl("15", "start")
        self.assertEqual(self.copy.rows(), 5001)

    def test_a_copy_gives_its_data_up_only_for_a_primary_that_leads_and_when_told_to(self):
        self.copy.ctl("15", "-m", "fast", "stop")
        process = self.copy.begin("17")
        now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        stale = {"leader": "records-1", "ttl": "20", "renewTime": "2020-01-01T00:00:00+00:00"}

        def put(config, leader):
            notes = json.load(open(self.copy.store, encoding="utf-8"))
            json.dump({**notes, "records-config": config, "records-leader": leader}, open(self.copy.store, "w", encoding="utf-8"))

        time.sleep(2.5)
        put({"initialize": "1"}, {**stale, "renewTime": now})
        time.sleep(3)
        self.assertIsNone(process.poll(), "nobody told it to")
        self.copy.task(id="one", do="follow", **{"from": "15"})
        put({"initialize": "1"}, stale)
        time.sleep(3)
        self.assertIsNone(process.poll(), "nobody leads")
        put({"initialize": "1"}, {**stale, "renewTime": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())})
        said, _ = process.communicate(timeout=20)
        self.assertIn("patroni is started", said)
        self.assertEqual(self.copy.folders(), ["pgdata-15.superseded"])

    def serve(self, paths):
        class Rest(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.path in paths else 503)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.copy.port), Rest)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(lambda: (server.shutdown(), server.server_close()))

    def test_statistics_are_renewed_and_the_old_data_goes_only_when_asked(self):
        self.upgraded()
        self.copy.ctl("17", "start")
        self.assertEqual(self.copy.sql("SELECT count(*) FROM pg_stats WHERE tablename = 'rows'", "orthanc"), "0")
        self.copy.task(id="three", do="finish", pod="records-1", **{"from": "15"})
        self.serve({"/primary", "/health"})
        self.copy.attend()
        self.assertEqual(self.copy.sql("SELECT count(*) FROM pg_stats WHERE tablename = 'rows'", "orthanc"), "2")
        self.assertEqual(self.copy.heard("data"), {"version": "17", "kept": "15"})
        self.copy.task(id="three", do="finish", pod="records-0", **{"from": "15"})
        self.copy.attend()
        self.assertEqual((self.copy.heard("task")["step"], self.copy.heard("data")), ("done", {"version": "17"}))
        self.assertEqual(self.copy.folders(), ["pgdata"])

    def test_a_rehearsal_on_the_live_database_finds_what_does_not_go_into_the_new_version(self):
        self.copy.task(**{**UPGRADE, "do": "check", "pod": "records-0"})
        self.copy.attend()
        self.assertEqual(self.copy.heard("task")["step"], "done", self.copy.heard("task"))
        self.assertEqual(self.copy.folders(), ["pgdata"])
        # Version 17 has it no more.
        self.copy.sql("SET synchronous_commit = local; CREATE EXTENSION adminpack", "orthanc")
        self.copy.attend()
        heard = self.copy.heard("task")
        self.assertEqual(heard["step"], "failed")
        self.assertIn("adminpack", heard["message"])
        self.assertEqual(self.copy.rows(), 5000)

    def test_what_pg_upgrade_refuses_is_told_and_the_old_data_is_whole(self):
        self.copy.sql("SET synchronous_commit = local; CREATE TABLE odd (o regproc)", "orthanc")
        self.copy.ctl("15", "-m", "fast", "stop")
        self.worked(self.copy, "15", UPGRADE, step="failed")
        message = self.copy.heard("task")["message"]
        self.assertIn("pg_upgrade --check failed", message)
        self.assertIn("odd.o", message)
        self.copy.start("15")
        self.copy.ctl("15", "start")
        self.assertEqual(self.copy.rows(), 5000)


if __name__ == "__main__":
    unittest.main(verbosity=2)
