"""Called by Patroni as `take_over.py <action> <role> <scope>` when this pod's role may have changed.

Patroni labels its own pod only. A machine that has gone silent cannot take the label `primary` off its pod, and half
of all new connections would go there until Kubernetes gives the machine up. So the new primary takes it off for it.

Patroni keeps its own variables from what it calls, so the pod's name comes by others.
"""

import json
import os
import ssl
import sys
import time
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
ROLE = "hz.hospital/role"
SCOPE = "hz.hospital/patroni"


def call(method, path, body=None):
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    host = f"[{host}]" if ":" in host else host
    with open(f"{ACCOUNT}/token", encoding="ascii") as token:
        headers = {"Authorization": "Bearer " + token.read().strip()}
    if body is not None:
        headers["Content-Type"] = "application/merge-patch+json"
    request = urllib.request.Request(
        f"https://{host}:{os.environ['KUBERNETES_SERVICE_PORT']}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers=headers,
        method=method,
    )
    trust = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    with urllib.request.urlopen(request, timeout=5, context=trust) as answer:
        return json.load(answer)


def still_primary():
    """Asks Patroni itself, so that a call that was delayed does not undo a later one."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:8008/primary", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def relabel(scope, me):
    pods = f"/api/v1/namespaces/{os.environ['POD_NAMESPACE']}/pods"
    found = call("GET", f"{pods}?labelSelector={SCOPE}%3D{scope},{ROLE}%3Dprimary")
    for pod in found["items"]:
        name = pod["metadata"]["name"]
        if name != me:
            call("PATCH", f"{pods}/{name}", {"metadata": {"labels": {ROLE: "replica"}}})
            print(f"took the label of the primary off {name}", flush=True)


def main():
    _, _, role, scope = sys.argv
    if role not in ("primary", "master", "promoted"):
        return
    me = os.environ["POD_NAME"]
    deadline = time.monotonic() + 60
    # Patroni may call while the promotion is still under way.
    while time.monotonic() < deadline:
        try:
            if still_primary():
                relabel(scope, me)
                return
        except OSError as error:
            print(f"cannot reach the API server, trying again: {error}", file=sys.stderr, flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
