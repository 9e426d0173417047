"""Patroni's bootstrap method `pgbackrest`: makes the first copy of a new instance from backups of another.

`restore.py restore [options of pgbackrest restore]` fetches the data. It works in a folder of its own, which becomes the
data directory only once it is whole: Patroni takes any data directory that is there for a database. A restore that was
interrupted goes on where it was.

`restore.py resume <scope>`, before Patroni starts, takes back what a pod that died over it has told the others.

`restore.py settle` forgets, once the database is up, where it was recovered from and to: copies made of it would go by it.
"""

import os
import shutil
import subprocess
import sys

CONFIGURATION = "/etc/pgbackrest-source/restore.conf"
DATA = os.environ.get("PGDATA", "/var/lib/postgresql/data/pgdata")
PARTIAL = DATA + ".restoring"
RECOVERY = ["restore_command", "recovery_target", "recovery_target_action", "recovery_target_lsn", "recovery_target_name",
            "recovery_target_time", "recovery_target_timeline", "recovery_target_xid", "recovery_target_inclusive"]


def restore(options):
    for leftover in [DATA + ".failed"] + [DATA] * (not os.path.exists(DATA + "/PG_VERSION")):
        shutil.rmtree(leftover, ignore_errors=True)
    os.makedirs(PARTIAL, mode=0o700, exist_ok=True)
    # While it recovers, the database reads the log of the instance that it comes from.
    fetch = f'pgbackrest --config={CONFIGURATION} --stanza=main --pg1-path={DATA} archive-get %f "%p"'
    subprocess.run(
        ["pgbackrest", f"--config={CONFIGURATION}", "--stanza=main", f"--pg1-path={PARTIAL}", "--delta",
         f"--recovery-option=restore_command={fetch}", *options, "restore"],
        check=True,
    )
    os.rename(PARTIAL, DATA)


def resume(scope):
    """Whoever bootstraps says so in Patroni's store, and every copy waits for it: also a pod that died meanwhile and came back, for
    ever. Only the pod that began has something that is half restored."""
    if not os.path.isdir(PARTIAL):
        return
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from take_over import call

    path = f"/api/v1/namespaces/{os.environ['POD_NAMESPACE']}/configmaps/{scope}-config"
    if (call("GET", path)["metadata"].get("annotations") or {}).get("initialize") == "":
        print("going on with the restore that was interrupted", flush=True)
        call("PATCH", path, {"metadata": {"annotations": {"initialize": None}}})


def settle(connection):
    import psycopg2

    session = psycopg2.connect(connection)
    session.autocommit = True  # ALTER SYSTEM takes no part in transactions
    with session.cursor() as cursor:
        for name in RECOVERY:
            cursor.execute(f"ALTER SYSTEM RESET {name}")
        cursor.execute("SELECT pg_reload_conf()")
    session.close()


if __name__ == "__main__":
    if sys.argv[1] == "settle":
        settle(sys.argv[2])
    elif sys.argv[1] == "resume":
        resume(sys.argv[2])
    else:
        restore(sys.argv[2:])
