# Serves backups of this copy. Called as `sh server.sh`.
#
# There may be no plan for backups yet: then it waits for one. The configuration and the certificates are a Secret
# of the plan, which is replaced as a whole when any of it changes; the server takes that up without a break.
FOLDER=/etc/pgbackrest

trap 'kill "$server" "$attends" 2>/dev/null; exit 0' TERM INT
version() { readlink "$FOLDER/..data"; }

# What an upgrade leaves to be done beside PostgreSQL. Most of the time that is nothing.
attend() {
    while :; do
        for work in /etc/patroni/task.json /var/lib/postgresql/data/upgrade.json /var/lib/postgresql/data/*.superseded \
            /var/lib/postgresql/data/*.making; do
            [ ! -e "$work" ] || { python3 /etc/patroni/upgrade.py attend; break; }
        done
        sleep 3
    done
}
attend &
attends=$!

while :; do
    while [ ! -s "$FOLDER/pgbackrest.conf" ]; do
        sleep 2 &
        wait $!
    done
    taken=$(version)
    pgbackrest server &
    server=$!
    while kill -0 "$server" 2>/dev/null; do
        if [ "$(version)" != "$taken" ]; then
            taken=$(version)
            [ -s "$FOLDER/pgbackrest.conf" ] || { kill "$server"; break; }
            kill -HUP "$server"
        fi
        sleep 2 &
        wait $!
    done
    sleep 1 &
    wait $!
done
