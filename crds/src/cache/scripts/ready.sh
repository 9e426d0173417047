#!/bin/bash
# Whether the server of this pod answers.
. /etc/hz/common.sh
[[ "$(at_server 127.0.0.1 ping 2>&1)" == PONG ]]
