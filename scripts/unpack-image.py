#!/usr/bin/env python3
"""Unpacks an image of the bundle into a folder, for tests that want the very programs that hospitals run.

usage: unpack-image.py BUNDLE.tar IMAGE FOLDER     IMAGE as in hz.hospital/IMAGE:VERSION
"""

import json
import os
import subprocess
import sys
import tarfile


def main(bundle, image, folder):
    os.makedirs(folder, mode=0o755)
    with tarfile.open(bundle) as tar:

        def blob(digest):
            return tar.extractfile("blobs/" + digest.replace(":", "/"))

        names = {}
        for entry in json.load(tar.extractfile("index.json"))["manifests"]:
            name = entry.get("annotations", {}).get("io.containerd.image.name", "")
            names[name.rpartition("/")[2].partition(":")[0]] = entry["digest"]
        if image not in names:
            sys.exit(f"error: {bundle} has no image {image}; it has {', '.join(sorted(filter(None, names)))}")
        for layer in json.load(blob(names[image]))["layers"]:
            packed = {"zstd": "--zstd", "gzip": "--gzip"}.get(layer["mediaType"].rpartition("+")[2])
            command = ["tar", "--extract", "--directory", folder, "--same-permissions", *filter(None, [packed])]
            with subprocess.Popen(command, stdin=subprocess.PIPE) as unpacking:
                with blob(layer["digest"]) as data:
                    while chunk := data.read(1 << 20):
                        unpacking.stdin.write(chunk)
                unpacking.stdin.close()
                if unpacking.wait() != 0:
                    sys.exit(f"error: a layer of {image} could not be unpacked into {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__.strip())
    main(*sys.argv[1:])
