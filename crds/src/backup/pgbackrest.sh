# PostgreSQL's archive_command: `sh pgbackrest.sh <path of the segment>`.
#
# Without a plan for backups nobody wants the log, and keeping it would fill the disk.
[ -s /etc/pgbackrest/pgbackrest.conf ] || exit 0
exec pgbackrest --stanza=main archive-push "$1"
