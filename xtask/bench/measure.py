"""Processes measured: wall and CPU seconds, proportional memory, medians over rounds."""

import os
import re
import statistics
import subprocess
import threading
import time


def tree(pid):
    """A process and all below it."""
    pids, index = [pid], 0
    while index < len(pids):
        try:
            for task in os.listdir(f"/proc/{pids[index]}/task"):
                with open(f"/proc/{pids[index]}/task/{task}/children") as file:
                    pids += [int(child) for child in file.read().split()]
        except OSError:
            pass
        index += 1
    return pids


def pss_kib(pid):
    """Proportional memory of a process tree."""
    total = 0
    for member in tree(pid):
        try:
            with open(f"/proc/{member}/smaps_rollup") as file:
                total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M).group(1))
        except (OSError, AttributeError):
            pass
    return total


class Measured:
    """Wall and CPU seconds and peak PSS of commands run at the same time."""

    def __init__(self, *commands, environment=None):
        started, peak = time.monotonic(), [0]
        before = os.times()
        children = [
            subprocess.Popen(c, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if not isinstance(c, tuple)
            else subprocess.Popen(c[0], env=environment, stdin=subprocess.DEVNULL, stdout=c[1], stderr=subprocess.PIPE)
            for c in commands
        ]
        stop = threading.Event()

        def sample():
            while not stop.wait(0.1):
                peak[0] = max(peak[0], sum(pss_kib(child.pid) for child in children))

        sampler = threading.Thread(target=sample)
        sampler.start()
        outputs = [child.communicate() for child in children]
        self.seconds = time.monotonic() - started
        stop.set()
        sampler.join()
        after = os.times()
        self.cpu = after.children_user + after.children_system - before.children_user - before.children_system
        self.pss_mib = peak[0] / 1024
        self.output = (outputs[0][0] or b"").decode(errors="replace")
        for child, (_, errors), command in zip(children, outputs, commands):
            if child.returncode != 0:
                raise SystemExit(f"{command} ended with {child.returncode}: {errors.decode(errors='replace')[-2000:]}")


class Rounds:
    def __init__(self):
        self.runs = {}
        self.notes = {}

    def add(self, name, measured, note=None):
        self.runs.setdefault(name, []).append(measured)
        if note is not None:
            self.notes.setdefault(name, []).append(note)
        print(f"  {name}: {measured.seconds:.2f} s, CPU {measured.cpu:.1f} s, {measured.pss_mib:.0f} MiB", flush=True)

    def median(self, name, field="seconds"):
        return statistics.median(getattr(run, field) for run in self.runs[name])

    def table(self, names):
        lines = ["| what | wall s (median) | all runs | client CPU s | peak PSS MiB |", "| --- | --- | --- | --- | --- |"]
        for name in names:
            runs = self.runs[name]
            all_runs = ", ".join(f"{run.seconds:.2f}" for run in runs)
            shown = name.replace("|", "\\|")
            lines.append(
                f"| {shown} | {self.median(name):.2f} | {all_runs} | {self.median(name, 'cpu'):.1f} "
                f"| {max(run.pss_mib for run in runs):.0f} |"
            )
        return "\n".join(lines)
