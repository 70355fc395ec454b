"""How much of the processors went to processes that are no part of the bench: figures of a busy machine are worth little."""

import os
import resource
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Others:
    """From its making on."""

    def __init__(self, system):
        self.system = system
        self.began, self.busy, self.own = time.monotonic(), busy_s(), own_s(system)

    def share(self):
        """0 to 1, of all cores. Interrupts belong to nobody and are left out."""
        foreign = (busy_s() - self.busy) - (own_s(self.system) - self.own)
        return max(0.0, foreign / ((time.monotonic() - self.began) * os.cpu_count()))


def busy_s():
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / TICKS


def own_s(system):
    """The nodes with their children, dead ones too, the load generators that have ended, and the bench itself."""
    total = 0.0
    for pids in system.processes().values():
        for pid in pids:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # It has ended; its parent's figures hold it.
            total += sum(map(int, fields[11:15])) / TICKS
    for whose in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF):
        usage = resource.getrusage(whose)
        total += usage.ru_utime + usage.ru_stime
    return total
