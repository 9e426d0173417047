"""Makes one backup with pgBackRest and says what came of it, as JSON, in the container's termination message.

The backup carries the name of its object, so that a Job that was interrupted after its work was done does it only once.
"""

import json
import os
import subprocess
import sys
import time

PGBACKREST = ["pgbackrest", "--config=/etc/pgbackrest/job.conf", "--stanza=main"]
NAME = os.environ["BACKUP_NAME"]
# The copies hear of a new plan, or of new certificates, within about a minute and a half.
COPIES_HEAR_WITHIN = 240


def say(result):
    with open("/dev/termination-log", "w", encoding="utf-8") as log:
        log.write(json.dumps(result)[:4000])


def run(*arguments):
    """Runs pgBackRest, shows what it says, and returns whether it went well and its last error."""
    process = subprocess.Popen(PGBACKREST + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    error = []
    for line in process.stdout:
        print(line, end="", flush=True)
        if "ERROR:" in line:
            error = [line.split("ERROR:", 1)[1].strip()]
        elif error and line.startswith(" " * 20):
            error.append(line.strip())
        elif error and "INFO:" not in line:
            error.append(line.strip())
    return process.wait() == 0, " ".join(error)[:1500]


def stanza():
    output = subprocess.run(PGBACKREST + ["--output=json", "info"], stdout=subprocess.PIPE, check=True, text=True).stdout
    # Messages about the way may stand before the answer.
    return json.loads(output[output.index("[") :])[0]


def made(backups):
    """The backup that carries our name, if it is there."""
    for backup in backups:
        if (backup.get("annotation") or {}).get("hz.hospital/backup") == NAME and not backup.get("error"):
            return backup
    return None


def report(backups, own):
    say({
        "label": own["label"],
        "start": own["timestamp"]["start"],
        "stop": own["timestamp"]["stop"],
        "size": own["info"]["size"],
        "stored": own["info"]["repository"]["delta"],
        "oldest": backups[0]["label"],
    })


def main():
    until = time.monotonic() + COPIES_HEAR_WITHIN
    while True:
        well, error = run("stanza-create")
        if not well and "stanza-upgrade" in error and os.environ.get("DATABASE_UPGRADED") == "true":
            # It was upgraded, or went back. Any other database than the one that the store knows is refused.
            well, error = run("stanza-upgrade")
        if well:
            break
        if time.monotonic() > until:
            say({"error": error})
            return 1
        time.sleep(5)
    own = made(stanza()["backup"])
    if own is None:
        well, error = run(f"--type={os.environ['BACKUP_TYPE']}", f"--annotation=hz.hospital/backup={NAME}", "backup")
        own = made(stanza()["backup"])
        if own is None:
            say({"error": error or "pgBackRest said nothing"})
            return 1
        if not well:
            # The backup is whole; what failed is what came after it: removing old ones.
            print("the backup is complete:", error, flush=True)
    report(stanza()["backup"], own)
    return 0


if __name__ == "__main__":
    sys.exit(main())
