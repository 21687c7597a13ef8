"""Plays the host for one worker process: hands it a job over its pipe, answers whether it may commit, and can kill or
freeze it at any moment. What the worker says is kept in order, with times."""

import json
import os
import signal
import subprocess
import threading
import time


class Worker:
    """One attempt. `grant` is the answer to "may I commit?"; None keeps it waiting until `answer` is called."""

    def __init__(self, world, job, run, epoch, secrets, plan=None, grant=True, points=None, plant=None, before=()):
        attempt = {"namespace": "chaos", "run": run, "epoch": epoch}
        start = {
            "say": "start",
            "job": job,
            "attempt": attempt,
            "sourceSecrets": secrets[0],
            "sinkSecrets": secrets[1],
            "digestKey": None,
        }
        if plan:
            start["plan"] = plan
        environment = dict(os.environ, DMG_LOG="debug,hyper=info,rustls=info", TMPDIR=world.path("tmp"))
        environment["DMG_FAILPOINTS_SEEN"] = world.path("seen")
        environment["DMG_CLOCK"] = world.path("clock")
        if points:
            environment["DMG_FAILPOINTS"] = points
        if plant or world.plant:
            environment["DMG_PLANT"] = plant or world.plant
        self.grant = grant
        self.said = []
        self.times = {}
        self.begun = time.monotonic()
        self.changed = threading.Condition()
        self.log_path = world.path(f"worker-{run[:8]}-{epoch}.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*before, world.program, "node", "worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self.tell(start)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def tell(self, message):
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass

    def answer(self, granted=True):
        # Asked once more, the answer is the same.
        self.grant = granted
        self.tell({"say": "commitAnswer", "granted": granted})

    def read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            say = message["say"]
            if say == "mayCommit" and self.grant is not None:
                self.answer(self.grant)
            with self.changed:
                self.said.append(message)
                self.times.setdefault(say, time.monotonic())
                self.changed.notify_all()
        with self.changed:
            self.said.append({"say": "gone"})
            self.times["gone"] = time.monotonic()
            self.changed.notify_all()

    def find(self, *says):
        return next((message for message in self.said if message["say"] in says), None)

    def wait(self, *says, seconds=60):
        """The first of those messages; None after that many seconds. The end of the process ends the wait too."""
        end = time.monotonic() + seconds
        with self.changed:
            while not self.find(*says, "gone"):
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self.changed.wait(left)
            return self.find(*says) or self.find("gone")

    def end(self, seconds=60):
        """The last word: `finished`, `failed`, `gone` without one, or None if it hangs."""
        last = self.wait("finished", "failed", seconds=seconds)
        if last is None:
            return None
        if last["say"] != "gone":
            self.wait("gone", seconds=10)
        self.close()
        return last

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.reader.join(10)
        self.close()

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def close(self):
        try:
            self.process.stdin.close()
        except (BrokenPipeError, ValueError):
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def plan(self):
        planned = self.find("planned")
        return planned and planned["plan"]

    @property
    def fault(self):
        failed = self.find("failed")
        return failed and failed["fault"]

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()
