"""Runs every code block of the README as a newcomer would, in order, at the root of the tree, and holds what it shows against
what is really printed.

usage: readme.py README.md [DATA_DIR]   (DATA_DIR: the data set's folder, for the journey)

A block of sh is run with `bash -euo pipefail`; a block of text behind it shows what it prints: each of its lines must come, in
that order, in what was printed. A comment above a block says otherwise:
    <!-- ci: background PATTERN -->   sh: at a terminal of its own, left running; goes on once it has printed PATTERN
    <!-- ci: elsewhere WHERE -->      sh: run by another step of .ci/run, named here
    <!-- ci: the leader is killed at its first line -->   python: as it says
    <!-- ci: after key N: COMMAND --> text: what COMMAND prints once key N was pressed at that terminal (and again afterwards)
    <!-- ci: while no site answers --> text: what the command in its first line, `$ …`, prints while every node stands still
    <!-- ci: picture -->              text: nobody prints it
"""
import fcntl
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

ROOT = pathlib.Path(sys.argv[1]).resolve().parent
TEXT = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- ci: (?P<directive>[^\n]*?) -->\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S)
SILLOK = ROOT / "target/release/sillok"
SITES = ["chungju", "seongju", "jeonju"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("SILLOK_")}
ENVIRONMENT["PATH"] = f"{SILLOK.parent}:{ENVIRONMENT['PATH']}"
STARTED_WITHIN = 5.0

# What differs from run to run and says nothing.
MASKS = [
    (r"\x1b\[[0-9;?]*[a-zA-Z]", ""),
    (r"\b[0-9a-f]{12,}\b", "HEX"),
    (r"--retry-key [0-9a-hjkmnp-tv-z]{26}$", "--retry-key KEY"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"\bposition [\d,]+", "position N"),
    (r"\bon disk at [^\n]*", "on disk at SITES"),
    (r"\bread at \w+", "read at SITE"),
    (r"\b\d+(\.\d+)? (ms|s)\b", "SPAN"),
    (r"the outcome is unknown \([^)]*\)", "the outcome is unknown (WHY)"),
    (r"\b(now|SPAN ago)\b", "WHEN"),
    (r" +leads$", ""),
    (r"[ \t]+", " "),
]


def masked(text):
    text = text.replace("\r", "\n")  # a terminal's line breaks
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text, flags=re.M)
    return [line.strip() for line in text.split("\n") if line.strip()]


def first_missing(shown, printed):
    """The first line of `shown` that does not come, in order, in `printed`."""
    rest = iter(masked(printed))
    return next((line for line in masked(shown) if line not in rest), None)


def expect(shown, printed, where):
    missing = first_missing(shown, printed)
    if missing is not None:
        sys.exit(f"README:{where} shows a line that was not printed:\n  {missing}\nprinted:\n{printed}")


class Terminal:
    """A process at a terminal of its own, with somebody who reads and presses keys."""

    def __init__(self, command):
        self.process_id, self.terminal = pty.fork()
        if self.process_id == 0:
            os.chdir(ROOT)
            os.execvpe("bash", ["bash", "-euo", "pipefail", "-c", "exec " + command], ENVIRONMENT)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.printed = b""
        self.news = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            try:
                more = os.read(self.terminal, 65536)
            except OSError:  # the last process at the terminal has ended
                more = b""
            with self.news:
                self.printed += more
                self.ended = not more
                self.news.notify_all()
            if not more:
                return

    ended = False

    def text(self, since=0):
        return self.printed[since:].decode(errors="replace")

    def wait_for(self, pattern, since=0, seconds=60):
        found = lambda: re.search(pattern, self.text(since))
        with self.news:
            self.news.wait_for(lambda: found() or self.ended, timeout=seconds)
        if not found():
            sys.exit(f"never printed {pattern!r}:\n{self.text()}")

    def press(self, key, pattern):
        """Waits for what the key is to bring."""
        since = len(self.printed)
        os.write(self.terminal, key.encode())
        self.wait_for(pattern, since)

    def kill_site(self, number):
        self.press(str(number), f"{SITES[number - 1]} is killed")

    def start_site(self, number):
        self.press(str(number), f"{SITES[number - 1]} is up")

    def wait(self, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended, status = os.waitpid(self.process_id, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.kill(self.process_id, signal.SIGKILL)
        sys.exit(f"did not end within {seconds} s:\n{self.text()[-2000:]}")


def run(body):
    """A block, or one command; its output is shown and given."""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", body], cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    printed = done.stdout.decode(errors="replace")
    print(printed, end="", flush=True)
    return done.returncode, printed


def cluster_json(*words):
    done = subprocess.run([SILLOK, *words, "--output", "json"], cwd=ROOT, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def node_processes():
    """Every node of this tree's `sillok dev`, by the configuration it runs with."""
    configs = {str(ROOT / "sillok-data" / site / "node.toml").encode() for site in SITES}
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and configs & set((entry / "cmdline").read_bytes().split(b"\0")):
                found.append(int(entry.name))
        except OSError:
            pass  # it ended meanwhile
    return found


def while_no_site_answers(body, where):
    command, shown = body.split("\n", 1)
    nodes = node_processes()
    assert len(nodes) == 3 and command.startswith("$ "), (nodes, command)
    for node in nodes:
        os.kill(node, signal.SIGSTOP)
    try:
        code, printed = run(command.removeprefix("$ "))
    finally:
        for node in nodes:
            os.kill(node, signal.SIGCONT)
    if code != 3:
        sys.exit(f"README:{where}: exit code {code} where the outcome is unknown (3)")
    expect(shown, printed, where)


def after_key(terminal, directive, body, where):
    key, command = re.fullmatch(r"after key (\d): (.*)", directive).groups()
    terminal.kill_site(int(key))
    deadline = time.monotonic() + 30
    while True:  # the others notice it a moment later
        _, printed = run(command)
        if first_missing(body, printed) is None:
            break
        if time.monotonic() > deadline:
            expect(body, printed, where)
        time.sleep(0.1)
    terminal.start_site(int(key))


def leader_killed_at_first_line(terminal, body):
    leader = next(node["node"]["site"] for node in cluster_json("cluster", "status")["nodes"] if node.get("leader"))
    number = SITES.index(leader) + 1
    client = subprocess.Popen([sys.executable, "-"], cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)
    client.stdin.write(body)
    client.stdin.close()
    printed = client.stdout.readline()
    terminal.kill_site(number)
    print(printed, f"(the leader at {leader} is killed)", sep="", flush=True)
    printed += client.stdout.read()
    if client.wait(timeout=60) != 0:
        sys.exit(f"the Python client did not survive the leader: {printed}")
    print(printed.split("\n", 1)[1], end="", flush=True)
    terminal.start_site(number)
    return printed


def until_written(began, words):
    """Seconds until the cluster in the current directory has taken a write."""
    while subprocess.run([SILLOK, *words], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        if time.monotonic() - began > 60:
            sys.exit("not writable within a minute")
        time.sleep(0.02)
    return time.monotonic() - began


def starts():
    """From nothing to the first write, Ctrl-C, and from what is there to the next write."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="sillok-starts-") as scratch:
        os.chdir(scratch)
        for words in (["channel", "open", "first", "--name", "처음"], ["friend", "add", "first", "guest-1"]):
            began = time.monotonic()
            with open("dev.out", "wb") as out:
                dev = subprocess.Popen([SILLOK, "dev"], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            try:
                took = until_written(began, [*words, "--retry-key", words[1], "--timeout", "1s"])
                print(f"started and written after {took:.2f} s: {' '.join(words)}", flush=True)
                if took > STARTED_WITHIN:
                    sys.exit(f"`sillok dev` took {took:.1f} s until it was writable; {STARTED_WITHIN} s are promised")
                dev.send_signal(signal.SIGINT)
                if dev.wait(timeout=30) != 0:
                    sys.exit(f"Ctrl-C ended `sillok dev` with {dev.returncode}: {pathlib.Path('dev.out').read_text()}")
            finally:
                if dev.poll() is None:
                    dev.kill()
        os.chdir(before)


def main():
    for left in ("sillok-data", "tea-house.jsonl"):
        if (ROOT / left).exists():
            sys.exit(f"{left} is in the way: these blocks are run as in a fresh clone; move it away first")
    starts()
    counted = {"run": 0, "shown": 0, "elsewhere": 0}
    terminal, printed = None, ""
    try:
        for match in BLOCK.finditer(TEXT):
            directive, language, body = match["directive"] or "", match["language"], match["body"]
            where = TEXT.count("\n", 0, match.start("body")) + 1
            if directive == "picture":
                continue
            if directive.startswith("elsewhere"):
                counted["elsewhere"] += 1
                continue
            print(f"--- README:{where}\n{body}---", flush=True)
            if language == "text":
                counted["shown"] += 1
                if directive.startswith("after key"):
                    after_key(terminal, directive, body, where)
                elif directive == "while no site answers":
                    while_no_site_answers(body, where)
                else:
                    expect(body, printed, where)
            elif directive.startswith("background"):
                terminal = Terminal(body)
                terminal.wait_for(directive.removeprefix("background").strip(), seconds=1800)
                printed = terminal.text()
                counted["run"] += 1
            elif language == "python":
                example = (ROOT / "examples/python/shop.py").read_text(encoding="utf-8")
                if body != example:
                    sys.exit(f"README:{where} is not examples/python/shop.py")
                printed = leader_killed_at_first_line(terminal, body)
                counted["run"] += 1
            elif language == "sh":
                code, printed = run(body)
                if code:
                    sys.exit(f"README:{where} ended with {code}")
                counted["run"] += 1
            else:
                sys.exit(f"README:{where}: what is to be done with a block of {language}?")

        # The same cluster: a real shop's year, then Python by reflection alone, across a leader kill.
        journey = dict(ENVIRONMENT, SILLOK_ENDPOINTS=",".join(json.loads((ROOT / "sillok-data/endpoints.json").read_text())["endpoints"]))
        if len(sys.argv) > 2:
            journey["SILLOK_DATA_DIR"] = sys.argv[2]
        subprocess.run([ROOT / ".ci/journey", SILLOK], cwd=ROOT, check=True, env=journey)
        subprocess.run([sys.executable, ROOT / "tests/python/scenario.py", "sillok-data/endpoints.json"], cwd=ROOT, check=True,
                       env=ENVIRONMENT)
        terminal.press("\x03", "stopped; every acknowledged event is kept")
        if terminal.wait() != 0:
            sys.exit(f"Ctrl-C did not end it well:\n{terminal.text()[-2000:]}")
        terminal = None
    finally:
        if terminal is not None:
            # The nodes end with it.
            os.kill(terminal.process_id, signal.SIGKILL)
        shutil.rmtree(ROOT / "sillok-data", ignore_errors=True)
        (ROOT / "tea-house.jsonl").unlink(missing_ok=True)
    if counted["run"] < 7 or counted["shown"] < 8:
        sys.exit(f"only {counted}: is the README still the README?")
    print(f"README: {counted['run']} blocks run here, {counted['shown']} shown as they are printed, {counted['elsewhere']} in other steps")


main()
