"""PostgreSQL: a primary and two standbys; a commit waits for its own disk and for that of any one standby."""

import os
import subprocess
import time
from pathlib import Path

from .system import NODES, READY_WITHIN_S, Failure, System, free_port, run

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 300
fsync = on
synchronous_commit = on
synchronous_standby_names = 'ANY 1 (n2, n3)'
"""


class Postgres(System):
    name, label, load = "postgres", "PostgreSQL", "postgres"
    # A connection is a process: 1,024 of them would measure the scheduler.
    levels = (1, 64, 256)
    # Nothing in it promotes a standby by itself.
    fails_over = False
    # It refuses to run as root.
    owner = "postgres" if os.geteuid() == 0 else None

    @staticmethod
    def program(name):
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        if not versions:
            raise Failure("PostgreSQL is not installed")
        return versions[-1] / name

    @classmethod
    def version(cls):
        return run(cls.program("postgres"), "--version").split()[2]

    def launch(self):
        primary, *standbys = NODES
        data = self.dir / primary
        # What is made here is measured only once it is written again: no need to sync it.
        run(self.program("initdb"), "--pgdata", data, "--username", "bench", "--auth", "trust", "--no-sync",
            user=self.owner)
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(SETTINGS)
        self.begin(primary)
        port = self.nodes[0].endpoint.rsplit(":", 1)[1]
        self.wait_for(port)
        for name in standbys:
            run(self.program("pg_basebackup"), "--pgdata", self.dir / name, "--checkpoint", "fast", "--no-sync",
                "--write-recovery-conf", "--dbname",
                f"host=127.0.0.1 port={port} user=bench application_name={name}", user=self.owner)
            self.begin(name)

    def begin(self, name):
        port = free_port()
        self.add(name, [self.program("postgres"), "-D", self.dir / name, "-c", f"port={port}"], f"127.0.0.1:{port}")

    def wait_for(self, port):
        deadline = time.monotonic() + READY_WITHIN_S
        ready = [self.program("pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", port]
        while subprocess.run(ready).returncode != 0:
            self.nodes[0].check()
            if time.monotonic() > deadline:
                raise Failure(f"PostgreSQL was not ready within {READY_WITHIN_S} s")
            time.sleep(0.1)

    def end(self):
        # The postmaster's death ends its children, but not at once; a stop by SIGQUIT waits for them.
        for node in self.nodes:
            node.process.send_signal(3)
        for node in self.nodes:
            try:
                node.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                node.kill()
