"""The tables, and what machine they are of."""

import os
import platform
import time
from pathlib import Path
from statistics import median

import syncs
from systems.system import ALONE, run


def machine(directory):
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / (1 << 20)),
        "kernel": platform.release(),
        "filesystem": run("stat", "--file-system", "--format", "%T", directory).strip(),
    }


def text(results, systems):
    labels = {system.name: f"{system.label} {results['versions'][system.name]}" for system in systems}
    its = results["machine"]
    lines = [
        f"{its['date']}, {its['cores']} cores ({its['processor']}), {its['memory_gib']} GiB, {its['filesystem']}, "
        f"Linux {its['kernel']}; {results['took_s']} s",
        ", ".join(labels.values()),
    ]
    if results["proof"]:
        lines += ["", "Syncs with one event in flight, by strace; a quorum needs two an event:"]
        lines += [syncs.sentence(labels[name], proof) for name, proof in results["proof"].items()]
    for peer, turns in results["pairs"].items():
        lines += ["", f"Sillok / {labels[peer]}: medians of {len(turns[peer])} turns each, A B A B"]
        lines += table(results["tables"][peer])
        shares = [turn["others_share"] for both in turns.values() for turn in both]
        lines.append(f"Others' processes took {median(shares):.0%} of the CPU, {max(shares):.0%} in the worst turn.")
    if results["failover"]:
        lines += ["", "Longest gap between two acknowledgements after kill -9 of the leader, s:"]
        for name, gaps in results["failover"].items():
            each = ", ".join(f"{gap:.2f}" for gap in sorted(gaps))
            lines.append(f"  {labels[name]}: median {median(gaps):.2f} ({each})")
    return "\n".join(lines)


def compare(ours, theirs):
    """A row for each level. The ratio is the median of the turns' ratios: what the machine does to a turn, it does to
    both of its halves."""
    rows = []
    ours, theirs = ([turn["levels"] for turn in turns] for turns in (ours, theirs))
    for level in ours[0]:
        # Both ways of ours beside the one of theirs.
        their_level = level.removesuffix(ALONE)

        def middle(turns, level, key):
            return median(turn[level][key] for turn in turns)

        ratios = sorted(
            our[level]["events_per_second"] / their[their_level]["events_per_second"]
            for our, their in zip(ours, theirs)
        )
        rows.append({
            "level": level,
            **{f"{side}_{key}": middle(turns, at, key)
               for side, turns, at in (("our", ours, level), ("their", theirs, their_level))
               for key in ("events_per_second", "p50_us", "p99_us")},
            "ratio": median(ratios), "lowest": ratios[0], "highest": ratios[-1],
        })
    return rows


def table(rows):
    lines = ["| in flight | peer /s | p50 ms | p99 ms | Sillok /s | p50 ms | p99 ms | ratio | of the turns |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---|"]
    for row in rows:
        cells = [row["level"]]
        for side in ("their", "our"):
            cells.append(f"{row[side + '_events_per_second']:,.0f}")
            cells += [f"{row[side + key] / 1000:.2f}" for key in ("_p50_us", "_p99_us")]
        cells += [f"**{row['ratio']:.2f}**", f"{row['lowest']:.2f} to {row['highest']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
