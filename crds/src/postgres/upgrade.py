"""Keeps a copy's data folder and the version of PostgreSQL that the spec asks for together.

`upgrade.py start <scope>` runs before Patroni. Folders on the volume say all that has to be known, so that a pod may die at any point:

    pgdata                  the data
    pgdata-<version>        data of another version: made by pg_upgrade and not yet used, or kept of before an upgrade
    pgdata-<version>.making what pg_upgrade has not finished
    *.superseded            data that a copy gave up for that of the primary; it goes once the copy is back in step
    upgrade.json            what was made of what, and what is still to be done

`upgrade.py attend` runs beside PostgreSQL, in the container that serves backups: it rehearses an upgrade with the live schema, renews
statistics after one, and removes what is no longer wanted.

What the operator asks for comes by HZ_TASK (a pod that is to do nothing but this) and by task.json. The answer is an annotation.
"""

import datetime
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

VOLUME = os.environ.get("HZ_VOLUME", "/var/lib/postgresql/data")
DATA = f"{VOLUME}/pgdata"
STATE = f"{VOLUME}/upgrade.json"
REHEARSAL = f"{VOLUME}/rehearsal"
TASK = os.environ.get("HZ_TASK_FILE", "/etc/patroni/task.json")
PROGRAMS = os.environ.get("HZ_PROGRAMS", "/usr/lib/postgresql")
SOCKETS = os.environ.get("HZ_SOCKETS", "/var/run/postgresql")
REST = os.environ.get("HZ_REST", "http://127.0.0.1:8008")
ANSWERED = "/tmp/upgrade-answered"
# What a new, empty database and its first log take.
EMPTY = 96 << 20
QUIET = "-c listen_addresses= -c synchronous_standby_names= -c shared_buffers=16MB -c max_connections=20"


class Refused(Exception):
    """What a person has to hear."""


def program(version, name):
    return f"{PROGRAMS}/{version}/bin/{name}"


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def state():
    return json.loads(read(STATE) or "{}")


def note(**changes):
    """Changes what is written down; None takes a word away."""
    new = {key: value for key, value in {**state(), **changes}.items() if value is not None}
    if not new:
        if os.path.exists(STATE):
            os.remove(STATE)
    else:
        with open(STATE + ".new", "w", encoding="utf-8") as file:
            json.dump(new, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(STATE + ".new", STATE)
    sync()


def sync():
    folder = os.open(VOLUME, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def move(old, new):
    os.rename(old, new)
    sync()


def version_of(folder):
    return read(f"{folder}/PG_VERSION")


def folder_of(version):
    return f"{DATA}-{version}"


def control(folder):
    """What pg_controldata says, by the names that count here."""
    command = [program(version_of(folder), "pg_controldata"), "-D", folder]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"}).stdout
    return dict(map(str.strip, line.split(":", 1)) for line in said.splitlines() if ":" in line)


def identity(folder):
    """Changes whenever anybody wrote into it."""
    found = control(folder)
    return [found["Database system identifier"], found["Latest checkpoint location"]]


def kept():
    """Version of the data of before an upgrade, if it is there."""
    now, found = version_of(DATA), []
    for name in os.listdir(VOLUME):
        match = re.fullmatch(r"pgdata-([0-9]+)", name)
        if match and now and int(match[1]) < int(now) and version_of(f"{VOLUME}/{name}") == match[1]:
            found.append(match[1])
    return max(found, default=None, key=int)


def leftovers():
    return [f"{VOLUME}/{name}" for name in os.listdir(VOLUME) if name.endswith((".superseded", ".making", ".work"))]


# --- Told and heard


def call(method, path, body=None):
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import take_over

    return take_over.call(method, path, body)


def patiently(method, path, body=None):
    while True:
        try:
            return call(method, path, body)
        except urllib.error.HTTPError as error:
            if error.code in (404, 409):
                return {}
            why = error
        except OSError as error:
            why = error
        print(f"cannot reach the API server, trying again: {why}", file=sys.stderr, flush=True)
        time.sleep(2)


def annotate(key, value):
    """An annotation of this pod is how the operator hears."""
    text = None if value is None else json.dumps({name: part for name, part in value.items() if part is not None})
    path = f"/api/v1/namespaces/{os.environ['POD_NAMESPACE']}/pods/{os.environ['POD_NAME']}"
    patiently("PATCH", path, {"metadata": {"annotations": {f"hz.hospital/{key}": text}}})


def describe(held=None):
    annotate("data", {
        "version": version_of(DATA) or os.environ["HZ_VERSION"],
        "kept": kept(),
        "analyze": state().get("analyze"),
        "held": held,
    })


def answer(task, step, message=None):
    print(f"{task['do']}: {step} {message or ''}", flush=True)
    annotate("task", {"id": task["id"], "do": task["do"], "step": step, "message": message and message[:700]})


def store(scope, part):
    return f"/api/v1/namespaces/{os.environ['POD_NAMESPACE']}/configmaps/{scope}-{part}"


def adopt(scope):
    """Tells Patroni's store which database it is about from now on. Nobody leads meanwhile: the others wait."""
    system = control(DATA)["Database system identifier"]
    nothing = dict.fromkeys(["optime", "slots", "retain_slots", "leader", "failsafe"])
    patiently("PATCH", store(scope, "config"), {"metadata": {"annotations": {"initialize": system, "history": None}}})
    patiently("PATCH", store(scope, "leader"), {"metadata": {"annotations": nothing}})
    patiently("PATCH", store(scope, "sync"), {"metadata": {"annotations": {"leader": None, "sync_standby": None, "quorum": None}}})
    patiently("PATCH", store(scope, "failover"), {"metadata": {"annotations": {"leader": None, "member": None}}})
    print(f"Patroni's store is about {system} now", flush=True)
    note(adopt=None)


def superseded(scope):
    """The primary that leads now, if it has another database than ours."""
    own = control(DATA)["Database system identifier"]
    config = (call("GET", store(scope, "config"))["metadata"].get("annotations") or {})
    leader = (call("GET", store(scope, "leader"))["metadata"].get("annotations") or {})
    if config.get("initialize") in (None, "", own) or not leader.get("leader"):
        return None
    renewed = datetime.datetime.fromisoformat(leader.get("renewTime", "1970-01-01T00:00:00+00:00"))
    age = datetime.datetime.now(datetime.timezone.utc) - renewed
    alive = age.total_seconds() < float(leader.get("ttl", 20)) and leader["leader"] != os.environ["POD_NAME"]
    return leader["leader"] if alive else None


class Alive(http.server.BaseHTTPRequestHandler):
    """While Patroni does not run: alive, and not ready."""

    def do_GET(self):
        self.send_response(200 if self.path == "/liveness" else 503)
        self.end_headers()

    def log_message(self, *_):
        pass


def stay_alive():
    server = http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("HZ_PORT", "8008"))), Alive)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


# --- Making data of another version


def size(folder):
    total = 0
    for path, folders, files in os.walk(folder):
        if os.path.basename(path) == "pg_wal":
            folders.clear()
            continue
        for name in files:
            try:
                total += os.lstat(f"{path}/{name}").st_blocks * 512
            except FileNotFoundError:
                pass
    return total


def room():
    """Refuses when the copy would not fit beside the data."""
    needed, disk = size(DATA) + EMPTY, os.statvfs(VOLUME)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise Refused(f"the volume of {os.environ['POD_NAME']} has {free >> 20} Mi free, and a second copy of the data takes "
                      f"{needed >> 20} Mi; give it more room with an Expand first")


def run(command, what, **more):
    """Runs it and shows what it says. A failure says what it said last."""
    print("+", " ".join(command), flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise Refused(f"{what} failed: {last_words(done.stdout)}")
    return done.stdout


def last_words(said):
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    problems = [line for line in lines if re.search(r"fatal|error|failure|could not|must |cannot|contains", line, re.I)]
    words = " ".join(problems[-4:] or lines[-4:])
    # pg_upgrade writes what it stumbled over into files.
    for path in re.findall(r"(/\S+\.(?:txt|log))", said)[-1:]:
        words += " " + " ".join(read(path).splitlines()[-6:])
    return words


def empty(version, folder, like):
    shutil.rmtree(folder, ignore_errors=True)
    sums = ["--data-checksums"] if like.get("Data page checksum version") not in (None, "0") else []
    segment = int(like.get("Bytes per WAL segment", 16 << 20)) >> 20
    run([program(version, "initdb"), "-D", folder, "-U", "postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--auth-local=peer",
         "--auth-host=reject", f"--wal-segsize={segment}", "--no-sync", *sums], f"making an empty database of version {version}")


def sockets(name):
    """A folder of its own: what a pod that died left behind in a shared one would look like a server that runs."""
    folder = f"/tmp/upgrade-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, mode=0o700)
    return folder


def stopped(folder):
    """pg_upgrade wants a database that was stopped well. One whose machine died first goes through its log."""
    if os.path.exists(f"{folder}/standby.signal"):
        raise Refused(f"{os.environ['POD_NAME']} is a copy and was not the primary")
    if control(folder)["Database cluster state"] == "shut down":
        return
    version, log, socket = version_of(folder), "/tmp/recovery.log", sockets("recovery")
    for act in ("start", "stop"):
        more = ["-l", log, "-o", f"{QUIET} -c unix_socket_directories={socket}"] if act == "start" else ["-m", "fast"]
        run([program(version, "pg_ctl"), "-D", folder, "-w", "-t", "3600", *more, act], f"pg_ctl {act}")
    found = control(folder)["Database cluster state"]
    if found != "shut down":
        raise Refused(f"the database of version {version} does not stop: it is {found}")


def make(task):
    """Makes data of the new version beside the old, which is only read."""
    old, new = version_of(DATA), task["to"]
    made = state().get("made")
    if made and made["to"] == new and version_of(folder_of(new)) == new and made["source"] == identity(DATA):
        return
    for leftover in (folder_of(new), folder_of(new) + ".making", REHEARSAL):
        # Made of what the data was at another time; never data that anybody wrote to.
        shutil.rmtree(leftover, ignore_errors=True)
    note(made=None)
    stopped(DATA)
    room()
    making = folder_of(new) + ".making"
    empty(new, making, control(DATA))
    work_in = f"{VOLUME}/upgrade.work"
    shutil.rmtree(work_in, ignore_errors=True)
    os.makedirs(work_in)
    common = [program(new, "pg_upgrade"), "-b", f"{PROGRAMS}/{old}/bin", "-B", f"{PROGRAMS}/{new}/bin", "-d", DATA, "-D", making,
              "-U", "postgres", "--socketdir", sockets("work"), "-o", QUIET, "-O", QUIET]
    run([*common, "--check"], "pg_upgrade --check", cwd=work_in)
    answer(task, "working", f"pg_upgrade copies the data of version {old} into version {new}")
    run([*common, "--copy"], "pg_upgrade", cwd=work_in)
    shutil.rmtree(work_in, ignore_errors=True)
    note(made={"from": old, "to": new, "source": identity(DATA)})
    move(making, folder_of(new))


def prepare_way_back(task):
    wanted = task["to"]
    if version_of(folder_of(wanted)) != wanted:
        raise Refused(f"{os.environ['POD_NAME']} holds no data of version {wanted}; it has {version_of(DATA) or 'nothing'}")
    note(back=wanted)


def work(task):
    """A pod that is to do nothing but this, and waits to be taken away."""
    stay_alive()
    try:
        describe()
        answer(task, "working", "begins")
        {"upgrade": make, "rollback": prepare_way_back}[task["do"]](task)
        answer(task, "done")
    except (Refused, OSError, subprocess.SubprocessError) as problem:
        answer(task, "failed", str(problem))
    while True:
        time.sleep(60)


# --- Starting


def settle(wanted):
    """Makes the data of the wanted version the data, where that was prepared. True unless the data is of another version."""
    made, back = state().get("made") or {}, state().get("back")
    target, now = folder_of(wanted), version_of(DATA)
    if now not in ("", wanted) and version_of(target) == wanted:
        if made.get("to") == wanted and made["source"] == identity(DATA):
            note(adopt=wanted, analyze=True, back=None)
            move(DATA, folder_of(now))
        elif back == wanted:
            # Whoever asked for the way back said that what was written since may go.
            note(adopt=wanted, analyze=None, made=None)
            put_aside(DATA, now)
    if not os.path.exists(DATA) and state().get("adopt") == wanted and version_of(target) == wanted:
        move(target, DATA)
    now = version_of(DATA)
    if now == wanted:
        if state().get("back") or state().get("made"):
            note(back=None, made=None)
        # Made by pg_upgrade and never used: the upgrade was given up.
        for name in os.listdir(VOLUME):
            match = re.fullmatch(r"pgdata-([0-9]+)", name)
            if match and int(match[1]) > int(now):
                put_aside(f"{VOLUME}/{name}", match[1])
    return now in ("", wanted)


def put_aside(folder, version):
    shutil.rmtree(f"{DATA}-{version}.superseded", ignore_errors=True)
    move(folder, f"{DATA}-{version}.superseded")


def start(scope):
    wanted = os.environ["HZ_VERSION"]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    task = json.loads(os.environ.get("HZ_TASK") or "{}")
    # What was asked before it was taken for done may have been done and acted on since.
    if task and version_of(DATA) == task["from"]:
        work(task)
    if not settle(wanted):
        hold(scope, wanted)
    prepared = state().get("adopt")
    if prepared and prepared == version_of(DATA):
        adopt(scope)
    elif prepared:
        note(adopt=None)
    describe()
    os.execvp("patroni", ["patroni", "/etc/patroni/patroni.yml"])


def hold(scope, wanted):
    """The data is of another version. It is left alone, unless an operation says that the primary's takes its place."""
    server, now = stay_alive(), version_of(DATA)
    describe(f"its volume holds data of PostgreSQL {now}, and version {wanted} was asked for; the data is not touched. An instance of "
             f"version {now} takes it over, and a DataOperation with action Upgrade brings it to another version")
    while True:
        task = json.loads(read(TASK) or "{}")
        try:
            leader = superseded(scope) if task.get("do") == "follow" and task.get("from") == now else None
        except OSError as error:
            print(f"cannot reach the API server, trying again: {error}", file=sys.stderr, flush=True)
            leader = None
        if leader:
            break
        time.sleep(2)
    print(f"{leader} leads with version {wanted}; the data of version {now} is put aside", flush=True)
    put_aside(DATA, now)
    note(made=None, back=None, adopt=None, analyze=None)
    server.shutdown()
    server.server_close()


# --- Beside PostgreSQL


def is_up(path):
    try:
        with urllib.request.urlopen(f"{REST}{path}", timeout=3) as said:
            return said.status == 200
    except OSError:
        return False


def rehearse(task):
    """Loads the schema of the live database, which is only read, into an empty one of the new version."""
    new, old = task["to"], version_of(DATA)
    room()
    shutil.rmtree(REHEARSAL, ignore_errors=True)
    folder, socket, schema = f"{REHEARSAL}/data", sockets("rehearsal"), f"{REHEARSAL}/schema.sql"
    os.makedirs(REHEARSAL, mode=0o700)
    ctl = [program(new, "pg_ctl"), "-D", folder, "-w", "-t", "120"]
    try:
        prepared = run([program(new, "psql"), "-XAtq", "-h", SOCKETS, "-d", "postgres", "-c", "SELECT gid FROM pg_prepared_xacts"],
                       "asking for prepared transactions")
        if prepared.strip():
            raise Refused(f"there are prepared transactions, which no upgrade takes along: {' '.join(prepared.split())}")
        run([program(new, "pg_dumpall"), "-h", SOCKETS, "--schema-only", "-f", schema], f"reading the schema of version {old}")
        empty(new, folder, control(DATA))
        run([*ctl, "-l", f"{REHEARSAL}/log", "-o", f"{QUIET} -c unix_socket_directories={socket} -c port=50432", "start"],
            f"starting an empty database of version {new}")
        # The superuser is there already; everything else has to go in without a word.
        filtered = re.sub(r"(?m)^CREATE ROLE postgres;$", "", read(schema))
        done = subprocess.run([program(new, "psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-h", socket, "-p", "50432", "-d", "postgres"],
                              input=filtered, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise Refused(f"the schema does not go into version {new}: {last_words(done.stderr)}")
    finally:
        subprocess.run([*ctl, "-m", "immediate", "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(REHEARSAL, ignore_errors=True)


def analyze():
    if not is_up("/primary"):
        return
    version = version_of(DATA)
    run([program(version, "vacuumdb"), "-h", SOCKETS, "-U", "postgres", "--all", "--analyze-in-stages"], "renewing statistics")
    note(analyze=None)
    describe()


def finish(task):
    """Throws the data of before the upgrade away."""
    old = task["from"]
    if old != version_of(DATA) and is_up("/health"):
        shutil.rmtree(folder_of(old), ignore_errors=True)
        shutil.rmtree(f"{folder_of(old)}.superseded", ignore_errors=True)
        describe()
        answer(task, "done")


def attend():
    task = json.loads(read(TASK) or "{}")
    mine = task.get("pod") == os.environ["POD_NAME"] and read(ANSWERED) != task["id"]
    try:
        if mine and task["do"] == "check":
            answer(task, "working", "the schema is loaded into the new version, for a trial")
            rehearse(task)
            answer(task, "done")
        elif mine and task["do"] == "finish":
            finish(task)
    except (Refused, OSError, subprocess.SubprocessError) as problem:
        answer(task, "failed", str(problem))
    if mine and task["do"] in ("check", "finish"):
        with open(ANSWERED, "w", encoding="utf-8") as file:
            file.write(task["id"])
    try:
        if state().get("analyze"):
            analyze()
        if leftovers() and (is_up("/primary") or is_up("/replica")):
            for folder in leftovers():
                shutil.rmtree(folder, ignore_errors=True)
            describe()
    except (Refused, OSError, subprocess.SubprocessError) as problem:
        print(problem, file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "attend":
        attend()
    else:
        start(sys.argv[2])
