"""Runs programs at once and tells what memory they took.

memory.py LIMIT_MIB COMMANDS     COMMANDS is a JSON file: a list of argument lists
Prints one JSON line: {"within": true, "how": "...", "peakMib": 200, "codes": [0], "errors": ["..."], ...}

The programs run in a memory control group of that limit, made for them, wherever one can be made: below the group that
DMG_TEST_CGROUP names, else below the root of version 1's memory controller or of version 2's tree. Then the kernel
judges: within is that it had to kill nobody. Files' pages in memory count there too, but the kernel takes them back when
room is needed ("reclaims"); what it cannot take back is sampled ("peakMib"), and "chargedMib" is the highest of all.

Where no group can be made, what the programs hold is sampled, anonymous and shared memory of all of them together, and
their highest resident memory is asked of the kernel; the caller says so.
"""

import json
import os
import resource
import subprocess
import sys
import time


def anonymous(process):
    """MiB of a process that are not a file's, which the kernel could not take back."""
    try:
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return 0.0
    return sum(int(fields.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


def number(path, name):
    """The number in a file, or behind a name in it."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return 0
    if name is None:
        return int(text)
    return next((int(line.split()[1]) for line in text.splitlines() if line.split()[0] == name), 0)


class Group:
    """A control group with a limit."""

    # For each version: the limit, what forbids swap, the highest charge, how often the limit was met, how often a
    # process was killed for it.
    VERSIONS = {
        "memory.limit_in_bytes": {
            "swap": ("memory.memsw.limit_in_bytes", None),
            "charged": "memory.max_usage_in_bytes",
            "met": ("memory.memsw.failcnt", None),
            "killed": ("memory.oom_control", "oom_kill"),
        },
        "memory.max": {
            "swap": ("memory.swap.max", 0),
            "charged": "memory.peak",
            "met": ("memory.events", "max"),
            "killed": ("memory.events", "oom_kill"),
        },
    }

    def __init__(self, parent, limit):
        self.path = f"{parent}/dmg-memory-{os.getpid()}"
        os.mkdir(self.path)
        for name, files in self.VERSIONS.items():
            if os.path.exists(f"{self.path}/{name}"):
                self.files = files
                self.write(name, limit << 20)
                swap, most = files["swap"]
                if os.path.exists(f"{self.path}/{swap}"):
                    self.write(swap, limit << 20 if most is None else most)
                return
        os.rmdir(self.path)
        raise OSError(f"{parent} is no memory control group")

    def write(self, name, value):
        """Writes one of its files."""
        with open(f"{self.path}/{name}", "w", encoding="utf-8") as file:
            file.write(str(value))

    def enter(self):
        """Moves this process into it."""
        self.write("cgroup.procs", os.getpid())

    def answer(self):
        """What it has to tell in the end."""
        met, killed = (number(f"{self.path}/{self.files[what][0]}", self.files[what][1]) for what in ("met", "killed"))
        # Version 1 counts where a limit was met first: with swap or without.
        met += number(f"{self.path}/memory.failcnt", None)
        charged = number(f"{self.path}/{self.files['charged']}", None) >> 20
        return {"how": "control group", "within": killed == 0, "chargedMib": charged, "reclaims": met, "killed": killed}


def group(limit):
    """A group of that limit, if one can be made."""
    named = os.environ.get("DMG_TEST_CGROUP")
    for parent in [named] if named else ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]:
        try:
            return Group(parent, limit)
        except OSError as error:
            if named:
                raise SystemExit(f"{named} is no memory control group of ours: {error}") from error
    return None


def main():
    limit = int(sys.argv[1])
    with open(sys.argv[2], encoding="utf-8") as file:
        commands = json.load(file)
    made = group(limit)
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
    begun = time.monotonic()
    started = [subprocess.Popen(command, preexec_fn=made and made.enter, **pipes) for command in commands]
    peak = 0.0
    while any(process.poll() is None for process in started):
        peak = max(peak, sum(anonymous(process) for process in started))
        time.sleep(0.005)
    seconds = time.monotonic() - begun
    resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    answer = {"codes": [process.returncode for process in started], "errors": [p.stderr.read() for p in started]}
    if made:
        answer.update(made.answer())
        os.rmdir(made.path)
    else:
        peak = max(peak, resident) if len(started) == 1 else peak
        how = "highest resident memory by the kernel" if len(started) == 1 else "sampled every 5 ms, together"
        answer.update(how=how, within=peak <= limit)
    answer.update(peakMib=round(peak), seconds=round(seconds, 1))
    print(json.dumps(answer))


main()
