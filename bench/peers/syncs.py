"""What a system syncs: `strace` counts the calls of every process while a known number of writes is acknowledged."""

import signal
import subprocess
from pathlib import Path

from systems.system import Failure

# The last one starts writing and promises nothing: it is shown and not counted.
CALLS = ("fsync", "fdatasync", "sync_file_range")
COUNTED = ("fsync", "fdatasync")
WRITES = 200
# Of three nodes.
QUORUM = 2


def count(system):
    """Syncs of each node while `WRITES` events are acknowledged one after the other. One in flight, so no two can share
    a sync: whatever acknowledges only what a quorum has synced makes at least two for each."""
    # Caches, connections and first segments are no part of it.
    system.measure("count", count=WRITES)
    tracers = {}
    try:
        for node, pids in system.processes().items():
            out = system.dir / f"{node}.strace"
            command = ["strace", "-f", "-c", "-o", str(out), "-e", "trace=" + ",".join(CALLS)]
            for pid in pids:
                command += ["-p", str(pid)]
            tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                      start_new_session=True)
            tracers[node] = (tracer, out)
            for _ in pids:
                # "Process N attached" for each, or why not. One that has ended since (PostgreSQL has workers that come and go)
                # syncs nothing.
                line = tracer.stderr.readline()
                if "attached" not in line and "No such process" not in line:
                    raise Failure(f"strace cannot attach to {system.label}: {line.strip()}; --without proof leaves it out")
        acknowledged = system.measure("count", count=WRITES)["acknowledged"]
    finally:
        for tracer, _ in tracers.values():
            tracer.send_signal(signal.SIGINT)
            # Takes what it still has to say, so that it cannot wait for that.
            tracer.communicate()
    nodes = {node: summary(out) for node, (_, out) in tracers.items()}
    syncs = sum(calls.get(call, 0) for calls in nodes.values() for call in COUNTED)
    if system.synced and syncs < QUORUM * acknowledged:
        raise Failure(f"{system.label} made {syncs} syncs for {acknowledged} events: a quorum of {QUORUM} needs more")
    return {"acknowledged": acknowledged, "syncs": syncs, "nodes": nodes, "leader": system.leader.name}


def summary(path):
    """The counts in a table of `strace -c`."""
    counts = {}
    for line in Path(path).read_text().splitlines():
        words = line.split()
        if words and words[-1] in CALLS:
            counts[words[-1]] = int(words[3])
    return counts


def sentence(label, proof):
    """For a person."""
    nodes = []
    for node, calls in sorted(proof["nodes"].items(), key=lambda item: item[0] != proof["leader"]):
        what = " + ".join(f"{count} {call}" for call, count in sorted(calls.items())) or "nothing"
        nodes.append(f"{'leader' if node == proof['leader'] else node} {what}")
    each = proof["syncs"] / proof["acknowledged"]
    return f"{label}: {each:.2f} syncs an event ({', '.join(nodes)}; {proof['acknowledged']} events)"
