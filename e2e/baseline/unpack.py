#!/usr/bin/env python3
"""Lay out a bundle as plain files for serial-bootstrap.sh: what an administrator without hzctl has on disk.

usage: unpack.py BUNDLE DIRECTORY

  DIRECTORY/root-ROLE/...      programs at their install paths
  DIRECTORY/debs/*.deb         packages for all hosts
  DIRECTORY/charts/*.tgz       charts
  DIRECTORY/images-ROLE.tar    an OCI layout that `ctr images import` takes
"""
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

ROLES = ("control-plane", "worker")


def main(bundle, out):
    stamp = os.path.join(out, "made-from")
    signature = f"{os.path.getsize(bundle)} {os.path.getmtime(bundle)}"
    if os.path.exists(stamp) and open(stamp).read() == signature:
        return
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(os.path.join(out, "charts"))
    os.makedirs(os.path.join(out, "debs"))
    with tarfile.open(bundle) as tar:
        members = {m.name.removeprefix("./"): m for m in tar.getmembers()}
        manifest = json.load(tar.extractfile(members["hz-bundle.json"]))
        index = json.load(tar.extractfile(members["index.json"]))

        def blob(digest):
            return tar.extractfile(members["blobs/" + digest.replace(":", "/")]).read()

        for component in manifest["components"]:
            for file in component.get("files", []):
                place(out, component, file, blob(file["blob"]))
        for role in ROLES:
            images(os.path.join(out, f"images-{role}.tar"), role, manifest, index, blob)
    with open(stamp, "w") as f:
        f.write(signature)


def place(out, component, file, compressed):
    content = subprocess.run(["zstd", "-dcq"], input=compressed, stdout=subprocess.PIPE, check=True).stdout
    kind = component["kind"]
    if kind in ("deb", "chart"):
        targets = [os.path.join(out, kind + "s", os.path.basename(file["path"]))]
    else:
        targets = [os.path.join(out, f"root-{role}", file["path"]) for role in component["roles"]]
    for target in targets:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as f:
            f.write(content)
        os.chmod(target, int(file["mode"], 8))


def images(path, role, manifest, index, blob):
    wanted = {c["manifest"]: c for c in manifest["components"] if c["kind"] == "image" and role in c["roles"]}
    entries = [m for m in index["manifests"] if m["digest"] in wanted]
    with tarfile.open(path, "w") as tar:
        def add(name, content):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))

        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
        written = set()
        for component in wanted.values():
            for descriptor in component["blobs"]:
                digest = descriptor["digest"]
                if digest not in written:
                    written.add(digest)
                    add("blobs/" + digest.replace(":", "/"), blob(digest))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
