#!/bin/bash
# Called by every sentinel when the master has changed:
#   reconfigured.sh MASTER-NAME leader|observer STATE FROM-HOST FROM-PORT TO-HOST TO-PORT
# All of them label all pods, so that it is done whichever of them is lost. A failure is tried again by the sentinel.
set -uo pipefail
. /etc/hz/common.sh

new="${6%%.*}"
failed=0
label "$new" master || failed=1
for ((i = 0; i < REPLICAS; i++)); do
  pod="$INSTANCE-$i"
  # A pod that is gone needs no label.
  [[ "$pod" == "$new" ]] || label "$pod" replica || true
done
exit "$failed"
