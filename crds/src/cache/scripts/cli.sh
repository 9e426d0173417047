#!/bin/bash
# valkey-cli on the server of this pod, as the platform's user: cli.sh WORD...
. /etc/hz/common.sh
exec "${client[@]}" --user "$system" "$@"
