//! Runs `upgrade.py` on real databases of PostgreSQL 15 and 17, where both are to be had: in `/usr/lib/postgresql`, or, as root, in a Debian root
//! named by `HZ_POSTGRES_ROOT` (the image's, unpacked).
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)] // a process is what this test is about

use std::path::{Path, PathBuf};
use std::process::Command;

fn both_in(root: &Path) -> bool {
    ["15", "17"].iter().all(|version| root.join("usr/lib/postgresql").join(version).join("bin/postgres").exists())
}

#[test]
fn the_script_of_the_pods_on_real_databases() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres");
    let root = std::env::var_os("HZ_POSTGRES_ROOT").map(PathBuf::from);
    let mut command = match &root {
        Some(root) => {
            assert!(both_in(root), "{} holds no PostgreSQL 15 and 17", root.display());
            let folder = root.join("tmp/upgrade-scripts");
            std::fs::create_dir_all(&folder).unwrap();
            for script in ["upgrade.py", "upgrade_test.py"] {
                std::fs::copy(scripts.join(script), folder.join(script)).unwrap();
            }
            // Processes and mounts of its own, and none is left behind.
            let inside = "mount -t proc proc \"$0/proc\"; mount --rbind /dev \"$0/dev\"; chroot --userspec=10002:10002 \"$0\" env HOME=/tmp LANG=C.UTF-8 \
                          python3 -W ignore /tmp/upgrade-scripts/upgrade_test.py";
            let mut command = Command::new("unshare");
            command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inside]).arg(root);
            command
        }
        None if both_in(Path::new("/")) => {
            let mut command = Command::new("python3");
            command.args(["-W", "ignore"]).arg(scripts.join("upgrade_test.py"));
            command
        }
        None => {
            eprintln!("skipped: PostgreSQL 15 and 17 are not both here; name a root that has them by HZ_POSTGRES_ROOT");
            return;
        }
    };
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}
