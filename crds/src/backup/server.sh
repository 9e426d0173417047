# Serves backups of this copy. Called as `sh server.sh`.
#
# There may be no plan for backups yet: then it waits for one. The configuration and the certificates are a Secret
# of the plan, which is replaced as a whole when any of it changes; the server takes that up without a break.
FOLDER=/etc/pgbackrest

trap 'kill "$server" 2>/dev/null; exit 0' TERM INT
version() { readlink "$FOLDER/..data"; }

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
