#!/usr/bin/env bash
# All layers of tests, cheapest first. Each layer's closing lines are added up; the last line is `N passed, N failed`.
# The first cause of a failure is printed again at the end. Everything is logged under target/test-logs/.
#
# JOURNEYS="up faults" runs these journeys only. HZ_TEST_MINUTES says how long all of it may take (82, for a CI that cuts a run
# after 90): journeys that have not ended by then fail, and what failed first is told instead of a run that was cut.
set -uo pipefail
cd "$(dirname "$0")/.."
logs=target/test-logs
mkdir -p "$logs"
passed=0 failed=0 first_cause=""
started=$SECONDS
minutes=${HZ_TEST_MINUTES:-82}
exec 3>&1 # where progress is shown, while a layer's talk goes to its log

count() { # log file: adds the closing lines of cargo's and our own runners
  local p f
  p=$(grep -oE '(^|[ .])[0-9]+ passed' "$1" | grep -oE '[0-9]+' | paste -sd+ - | bc)
  f=$(grep -oE '[0-9]+ failed' "$1" | grep -oE '[0-9]+' | paste -sd+ - | bc)
  passed=$((passed + ${p:-0}))
  failed=$((failed + ${f:-0}))
  [ "${f:-0}" -gt 0 ]
}

layer() { # name, command...: a layer without test counts is itself one test
  local name=$1 log="$logs/$1.log" at=$SECONDS status
  shift
  echo "==> $name"
  "$@" >"$log" 2>&1
  status=$?
  local before=$((passed + failed)) failed_before=$failed
  count "$log"
  if [ $((passed + failed)) -eq "$before" ]; then
    [ $status -eq 0 ] && passed=$((passed + 1)) || failed=$((failed + 1))
  elif [ $status -ne 0 ] && [ $failed -eq $failed_before ]; then
    failed=$((failed + 1)) # it broke without a failing test: that counts
  fi
  if [ $status -ne 0 ]; then
    local cause
    cause=$(grep -m1 -A12 -E '^(error|Error|FAILED|thread .* panicked|---- .* stdout ----|Diff in)|first cause' "$log" || tail -n 20 "$log")
    echo "    FAILED after $((SECONDS - at)) s; log: $log"
    echo "$cause" | sed 's/^/    | /'
    [ -n "$first_cause" ] || first_cause="$name: $cause"
  else
    echo "    ok, $((SECONDS - at)) s"
  fi
  return $status
}

# A build of the whole workspace hides what a crate forgot to ask for: each is checked, and linted, by itself.
clippy_each_crate_alone() {
  local crate
  for crate in hz-crds hz-bundle hz-operator hz-netguard hzctl hz-e2e hz-appointments; do
    echo "$crate" >&2
    cargo clippy --quiet --package "$crate" --all-targets -- -D warnings || return 1
  done
  # The one that must not know an API client: a workspace build would hide it.
  if cargo tree --quiet --package hz-crds --edges normal | grep -qE ' (kube-client|tokio) '; then
    echo "error: hz-crds depends on an API client or a runtime; it must stay pure" >&2
    return 1
  fi
}

# Shows the lines of interest as they come; all of them go on to the log.
shown() { tee >(grep --line-buffered -E "$1" | sed -u -E 's/^(.{1,200}).*/    \1/' >&3); }

# Tests that want PostgreSQL 17 and a new PgBouncer get those of the bundle, which Debian 12 does not have.
images=
unpack_images() {
  images=$(mktemp -d) && chmod 755 "$images" || return 1
  scripts/unpack-image.py "$1" postgres "$images/postgres" && scripts/unpack-image.py "$1" pgbouncer "$images/pgbouncer" || return 1
  local root=$images/pgbouncer
  printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' \
    "$root/usr/lib64/ld-linux-x86-64.so.2" "$root/usr/lib/x86_64-linux-gnu" "$root/usr/sbin/pgbouncer" >"$images/pgbouncer.sh"
  chmod 755 "$images/pgbouncer.sh"
  "$images/pgbouncer.sh" --version
}
# Made here, and nothing is mounted in it but by processes with mounts of their own.
trap '[ -z "$images" ] || rm -rf --one-file-system "$images"' EXIT

unit_and_api() {
  cargo test --workspace --no-fail-fast 2>&1 | shown '^(test result:|     Running |test .* FAILED$)'
  return "${PIPESTATUS[0]}"
}

# The journeys keep to their time by themselves. Should they not, they are ended from here, and the lab is taken down all the same.
journeys() {
  local left=$((minutes - (SECONDS - started) / 60)) status args=() name
  [ $left -ge 10 ] || left=10
  for name in ${JOURNEYS:-}; do args+=(--journey "$name"); done
  timeout --signal=TERM --kill-after=60s $((left + 4))m \
    dist/hz-e2e test --minutes $left "${args[@]}" 2>&1 | shown '^(==> |journey )'
  status=${PIPESTATUS[0]}
  if [ "$status" -eq 124 ] || [ "$status" -ge 128 ]; then
    echo "error: the journeys did not end within $((left + 4)) minutes, or were ended (status $status); the one that was under way" \
      "is the last \`==>\` above"
    dist/hz-e2e lab down || true
  fi
  return "$status"
}

export PATH="$HOME/.cargo/bin:$PATH" CARGO_TERM_COLOR=never
command -v bc >/dev/null || { apt-get update -qq; apt-get install -qq -y bc >/dev/null; }

finish() {
  [ -z "$first_cause" ] || printf '\nfirst cause: %s\n' "$first_cause"
  printf '\n%d minutes\n%d passed, %d failed\n' $(((SECONDS - started) / 60)) "$passed" "$failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

layer deps scripts/install-build-deps.sh || { finish; exit 1; }
layer fmt cargo fmt --all --check
layer clippy-each-crate-alone clippy_each_crate_alone
if layer hzctl scripts/build-hzctl.sh && layer bundle make --no-print-directory bundle; then
  bundle_built=yes
else
  bundle_built=no
fi
if [ $bundle_built = yes ] && layer images unpack_images dist/hz-bundle-*-amd64.tar; then
  export HZ_POSTGRES_ROOT=$images/postgres HZ_PGBOUNCER=$images/pgbouncer.sh
fi
layer unit-and-api unit_and_api
if [ $bundle_built = yes ]; then
  layer journeys journeys
else
  echo "==> journeys: not run, the bundle was not built"
  failed=$((failed + 1))
fi
finish
