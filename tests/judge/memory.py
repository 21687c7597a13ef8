"""Runs programs at once and tells what memory they took.

memory.py LIMIT_MIB COMMANDS     COMMANDS is a JSON file: a list of argument lists
Prints one JSON line: {"within": true, "how": "...", "peakMib": 200, "codes": [0], "errors": ["..."]}

With DMG_TEST_CGROUP naming a memory control group of one's own (version 1 or 2, writable), the programs run in a group
below it that has the limit: then the kernel judges. Otherwise what they hold is sampled, anonymous and shared
memory of all of them together, and their highest resident memory is asked of the kernel; the caller says so.
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


def group(limit):
    """A group with that limit, and the files that say its peak."""
    parent = os.environ.get("DMG_TEST_CGROUP")
    if not parent:
        return None
    path = f"{parent}/dmg-memory-{os.getpid()}"
    os.mkdir(path)
    for name in ("memory.max", "memory.limit_in_bytes"):
        if os.path.exists(f"{path}/{name}"):
            with open(f"{path}/{name}", "w", encoding="utf-8") as file:
                file.write(str(limit << 20))
            return path
    os.rmdir(path)
    raise SystemExit(f"{parent} is no memory control group")


def main():
    limit = int(sys.argv[1])
    with open(sys.argv[2], encoding="utf-8") as file:
        commands = json.load(file)
    path = group(limit)

    def enter():
        with open(f"{path}/cgroup.procs", "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))

    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
    started = [subprocess.Popen(command, preexec_fn=enter if path else None, **pipes) for command in commands]
    peak = 0.0
    while any(process.poll() is None for process in started):
        peak = max(peak, sum(anonymous(process) for process in started))
        time.sleep(0.005)
    resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    answer = {"codes": [process.returncode for process in started], "errors": [p.stderr.read() for p in started]}
    if path:
        # A process beyond the limit was ended by the kernel; its exit code tells.
        answer.update(how="control group", peakMib=round(peak), within=True)
        os.rmdir(path)
    else:
        peak = max(peak, resident) if len(started) == 1 else peak
        how = "highest resident memory by the kernel" if len(started) == 1 else "sampled every 5 ms, together"
        answer.update(how=how, peakMib=round(peak), within=peak <= limit)
    print(json.dumps(answer))


main()
