"""What is common to the systems under load: processes, ports, the load generator."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
LOAD = HERE / "load/target/release/load"
NODES = ("n1", "n2", "n3")
READY_WITHIN_S = 60
# After a level: each call by itself, where the client would let them travel together.
ALONE = ", each alone"


class Failure(Exception):
    """Ends the run with one line."""


# Below the ephemeral range, so that no outgoing connection takes one first.
_next_port = 21000


def free_port():
    """A port of loopback that nobody listens on, never given out before."""
    global _next_port
    while _next_port < 32000:
        _next_port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", _next_port))
            except OSError:
                continue
        return _next_port
    raise Failure("no free port between 21000 and 32000")


class Node:
    """One process, which ends with this one, and its log."""

    def __init__(self, name, command, log, endpoint, user=None):
        self.name, self.endpoint, self.log = name, endpoint, log
        self.command = ["setpriv", "--pdeathsig", "KILL"]
        if user:
            self.command += ["--reuid", user, "--regid", user, "--init-groups"]
        self.command += [str(word) for word in command]
        self.start()

    def start(self):
        # A session of its own: Ctrl-C is for the bench, which ends everything in order.
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        """kill -9, and waits for the end."""
        self.process.kill()
        self.process.wait()

    def check(self):
        if self.process.poll() is not None:
            words = Path(self.log).read_text(errors="replace").splitlines()[-5:]
            raise Failure(f"{self.name} has ended with {self.process.returncode}:\n  " + "\n  ".join(words))


class System:
    """A cluster of three nodes in a directory of its own, blank at every start. Use as a context."""

    name = label = load = None
    # What an acknowledgement promises.
    synced = True
    levels = (1, 64, 256, 1024)
    # Of the client, at most; PostgreSQL's has one for each write in flight anyway.
    connections = 4
    # Its client can also be told to send each call by itself.
    alone = False
    streams = False
    fails_over = True
    owner = None

    def __init__(self, base):
        self.base = base

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=self.base))
        self.nodes = []
        try:
            if self.owner:
                shutil.chown(self.dir, self.owner)
            self.launch()
            self.leader = self.prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.end()
        shutil.rmtree(self.dir, ignore_errors=True)

    def launch(self):
        """Starts the nodes, and adds each to `self.nodes` as soon as it runs."""
        raise NotImplementedError

    def end(self):
        for node in self.nodes:
            node.kill()

    def add(self, name, command, endpoint):
        self.nodes.append(Node(name, command, self.dir / f"{name}.log", endpoint, self.owner))

    def prepare(self):
        """Waits until the cluster is whole; gives the node that leads."""
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            for node in self.nodes:
                node.check()
            tried = subprocess.run(
                self.load_command("prepare", [node.endpoint for node in self.nodes]),
                capture_output=True, text=True, timeout=READY_WITHIN_S,
            )
            if tried.returncode == 0:
                leader = json.loads(tried.stdout)["leader"]
                return next(node for node in self.nodes if leader in (node.name, node.endpoint))
            if time.monotonic() > deadline:
                raise Failure(f"{self.label} was not ready within {READY_WITHIN_S} s: {tried.stderr.strip()}")
            time.sleep(0.1)

    def load_command(self, mode, endpoints, **options):
        words = [str(LOAD), self.load, "--mode", mode, "--endpoints", ",".join(endpoints)]
        for name, value in options.items():
            words += ["--" + name.replace("_", "-"), str(value)]
        return words

    def endpoints(self):
        """The leader's first."""
        return [node.endpoint for node in sorted(self.nodes, key=lambda node: node is not self.leader)]

    def measure(self, mode, **options):
        """One run of the load generator; its report."""
        command = self.load_command(mode, self.endpoints(), **options)
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise Failure(f"the load on {self.label} failed: {done.stderr.strip()}")
        report = json.loads(done.stdout)
        if report.get("failed"):
            raise Failure(f"{report['failed']} writes to {self.label} failed, the first: {report['first_failure']}")
        return report

    def failover(self, writers=8, before_s=1.0):
        """Seconds: the longest gap between two acknowledgements when the leader is killed."""
        command = self.load_command("failover", self.endpoints(), in_flight=writers, connections=writers)
        load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            if load.stdout.readline().strip() != "writing":
                raise Failure(f"no write to {self.label} was acknowledged")
            time.sleep(before_s)
            self.leader.kill()
            load.stdin.write("killed\n")
            load.stdin.flush()
            report = load.stdout.readline()
            if load.wait(timeout=60) != 0:
                raise Failure(f"writes to {self.label} did not go on after the leader was killed")
            return json.loads(report)["longest_gap_s"]
        finally:
            load.kill()
            load.wait()

    def processes(self):
        """Process ids of each node, children included: name → list."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    stat = Path(f"/proc/{entry}/stat").read_text()
                except OSError:
                    continue  # It has ended meanwhile.
                parents.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))

        def tree(pid):
            return [pid] + [below for child in parents.get(pid, []) for below in tree(child)]

        return {node.name: tree(node.pid) for node in self.nodes}


def run(*command, user=None):
    """A command that must succeed; its output."""
    words = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user else []
    done = subprocess.run([*words, *map(str, command)], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def end_by_signals():
    """SIGTERM and SIGHUP end the run as Ctrl-C does: through every `finally`."""
    def interrupt(number, _):
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
