"""The kinds of trial. Each runs real workers against real stores, breaks one thing, and hands what it found to named
checks. A trial follows from its seed alone, apart from what the machine's own timing adds."""

import os
import random
import signal
import threading
import time

import judge
import targets
from worker import Worker

# No trial may hang: longer than the longest wait that the product names (a commit waits 60 s for a lock).
HANG = 120
# Words by which a fault says whose it is; anything else is not a clear fault.
OWNERS = ("UserError", "StoreError", "NetworkError", "SystemError")


class Wrong(Exception):
    """A check that does not hold."""

    def __init__(self, check, why):
        super().__init__(f"{check}: {why}")
        self.check, self.why = check, why


class Trial:
    """One trial against one target."""

    def __init__(self, world, kind, number, target, seed):
        self.world, self.kind, self.number, self.target = world, kind, number, target
        self.chance = random.Random(f"{seed}/{kind}/{number}/{target.name}")
        self.run = "%08x-%04x-4000-8000-%012x" % tuple(self.chance.getrandbits(bits) for bits in (32, 16, 48))
        self.notes = {}
        self.epoch = 0

    def worker(self, source="a", ports=(None, None), **how):
        self.epoch += 1
        source_end, source_secrets = self.world.source.endpoint(source, ports[0])
        sink_end, sink_secrets = self.target.endpoint(ports[1])
        job = targets.job(source_end, sink_end, self.target.options())
        return Worker(self.world, job, self.run, self.epoch, (source_secrets, sink_secrets), **how)

    # Checks.

    def old_or_new(self, source="a", when="after the crash"):
        """The target is whole: the old content or the new one. Says which."""
        content = self.target.content()
        if content == self.target.old:
            return "old"
        new = self.target.wanted(self.world.source.content(source))
        if content == new:
            return "new"
        raise Wrong("old-or-new", f"{when}: {judge.say(content, new)}; and {judge.say(content, self.target.old)} (old)")

    def clear_fault(self, fault):
        if not fault or not fault.get("code", "").startswith(OWNERS) or len(fault.get("message", "")) < 10:
            raise Wrong("clear-fault", f"the fault is {fault}")
        self.notes["fault"] = fault["code"]

    def last_word(self, worker, seconds=HANG):
        last = worker.end(seconds)
        if last is None:
            worker.kill()
            raise Wrong("no-hang", f"the worker said nothing for {seconds} s; its last word: {worker.said[-1:]}")
        return last

    def converges(self, source="a", attempts=3, plan=None, **how):
        """Further attempts, as the service would order them, end with the new content; gives the receipt."""
        for _ in range(attempts):
            worker = self.worker(source, plan=plan, **how)
            last = self.last_word(worker)
            if last["say"] == "finished":
                self.is_new(source)
                return last["receipt"]
            self.old_or_new(source, f"after attempt {self.epoch}")
            plan = worker.plan or plan
        raise Wrong("converges", f"{attempts} more attempts did not finish; the last: {worker.fault or last}")

    def is_new(self, source="a"):
        content, new = self.target.content(), self.target.wanted(self.world.source.content(source))
        if content != new:
            raise Wrong("content", judge.say(content, new))
        left = self.target.leftovers()
        if left:
            self.notes["left"] = left

    def receipt_tells(self, receipt, found, plan):
        """The receipt says what happened: the rows, and that an earlier attempt was found or thrown away."""
        rows = self.world.source.content("a").rows
        if receipt["written"]["rows"] != rows or receipt["read"]["rows"] != rows:
            raise Wrong("receipt", f"it says {receipt['read']['rows']} and {receipt['written']['rows']} of {rows} rows")
        if found == "new" and not receipt["foundCommitted"]:
            raise Wrong("receipt-found", "the attempt before had committed, and the receipt does not say so")
        # The server may have carried out a commit that was under way after the look.
        if found == "old" and plan and not receipt.get("restarted") and not receipt["foundCommitted"]:
            raise Wrong("receipt-restarted", "an attempt was thrown away, and the receipt does not say so")

    # Kinds.

    def kill(self):
        """SIGKILL to the worker, anywhere between its start and a little after its end."""
        stage = self.chance.choice(("any", "any", "commit", "commit", "report"))
        self.target.prepare()
        worker = self.worker()
        seconds = self.world.seconds.get(self.target.name, 1.0)
        if stage == "any":
            time.sleep(self.chance.random() * seconds * 1.1)
        else:
            worker.wait("mayCommit", seconds=HANG)
            time.sleep(self.chance.random() * (0.03 if stage == "commit" else 0.15))
        met = worker.process.poll() is None
        worker.kill()
        found = self.old_or_new()
        self.notes.update(stage=stage, met=met, found=found)
        plan = worker.plan
        receipt = self.converges(plan=plan)
        self.receipt_tells(receipt, found, plan)

    def replace(self):
        """A reader looks every 20 ms while the content is replaced, with a kill in between."""
        self.target.prepare()
        old = self.target.glance()
        looks, stop = {}, threading.Event()

        def look():
            while not stop.is_set():
                try:
                    seen = self.target.glance()
                except Exception as error:  # noqa: BLE001 - a reader who is refused has not seen a half
                    seen = f"unreadable: {error}"
                looks[seen] = looks.get(seen, 0) + 1
                stop.wait(0.02)

        reader = threading.Thread(target=look)
        reader.start()
        try:
            worker = self.worker()
            worker.wait("mayCommit", seconds=HANG)
            time.sleep(self.chance.random() * 0.06)
            worker.kill()
            self.converges(plan=worker.plan)
            time.sleep(0.05)
        finally:
            stop.set()
            reader.join()
        new = self.target.glance()
        self.notes["looks"] = sum(looks.values())
        other = {seen for seen in looks if seen not in (old, new)}
        if other:
            raise Wrong("reader", f"a reader saw neither old nor new: {sorted(other)[:2]}; old {old}; new {new}")

    def zombie(self):
        """An attempt is frozen, its successor works, and the frozen one goes on around the successor's commit. The
        source differs between the two, so that a mixture shows."""
        self.target.prepare()
        first = self.worker("a")
        if self.chance.random() < 0.7:
            first.wait("mayCommit", seconds=HANG)
            time.sleep(self.chance.random() * 0.01)
        else:
            time.sleep(self.chance.random() * self.world.seconds.get(self.target.name, 1.0))
        first.freeze()
        # Nobody looks now: a frozen commit may hold the table, until the successor ends its session.
        second = self.worker("b", plan=first.plan, grant=None)
        try:
            second.wait("mayCommit", "finished", "failed", seconds=HANG)
            gap = self.chance.uniform(-0.06, 0.12)
            if gap < 0:
                first.thaw()
                time.sleep(-gap)
            second.answer()
            if gap >= 0:
                time.sleep(gap)
                first.thaw()
            last = self.last_word(second)
            zombie = self.last_word(first)
        finally:
            first.thaw()
        self.notes.update(gap=round(gap, 3), zombie=zombie["say"], second=last["say"])
        for name, word in (("zombie", zombie), ("second", last)):
            if word["say"] == "failed":
                self.clear_fault(word["fault"])
                self.notes[name] = word["fault"]["code"]
        after = self.either("a", "b")
        if "finished" in (last["say"], zombie["say"]) and after == "old":
            raise Wrong("acknowledged", "an attempt said it had finished, and the target is as before")
        if last["say"] != "finished":
            after = self.settle(after)
        self.notes["after"] = after
        if after == "old":
            raise Wrong("converges", "neither attempt left the new content")
        if last["say"] == "finished":
            # Whose rows they are is what the receipt says.
            epoch = last["receipt"]["attempt"]["epoch"]
            wanted = "a" if epoch == 1 else "b"
            if after != wanted:
                raise Wrong("receipt-epoch", f"the receipt names epoch {epoch}, the content is that of source {after}")

    def late(self):
        """An attempt that was told that it may commit does so only after its successor has."""
        self.target.prepare()
        fired = self.world.arm("engine.commit.granted", "delay(2500)", 1)
        first = self.worker("a", points=self.world.points)
        end = time.monotonic() + HANG
        while not os.path.exists(fired) and not first.find("failed", "gone") and time.monotonic() < end:
            time.sleep(0.005)
        second = self.worker("b", plan=first.plan)
        last = self.last_word(second)
        zombie = self.last_word(first)
        self.world.disarm()
        self.notes.update(zombie=zombie["say"], second=last["say"])
        for word in (zombie, last):
            if word["say"] == "failed":
                self.clear_fault(word["fault"])
        after = self.either("a", "b")
        if last["say"] != "finished":
            after = self.settle(after)
        elif after != "b":
            raise Wrong("receipt-epoch", f"the successor had finished, and the content is {after}")
        if after == "old":
            raise Wrong("converges", "neither attempt left the new content")

    def settle(self, found):
        worker = self.worker("b")
        last = self.last_word(worker)
        if last["say"] != "finished":
            raise Wrong("converges", f"a third attempt, alone, failed: {worker.fault}")
        return self.either("a", "b")

    def either(self, *sources):
        content = self.target.content()
        if content == self.target.old:
            return "old"
        for source in sources:
            if content == self.target.wanted(self.world.source.content(source)):
                return source
        new = self.target.wanted(self.world.source.content(sources[-1]))
        raise Wrong("old-or-new", f"neither old nor one whole source: {judge.say(content, new)}")

    def blocks(self):
        """A frozen attempt sends its blocks between its successor's blocks and commit."""
        self.target.prepare()
        self.world.arm("azblob.block", "delay(1500)", 1)
        first = self.worker("a", points=self.world.points, grant=None)
        first.wait("planned", "failed", seconds=HANG)
        second = self.worker("b", grant=None)
        second.wait("mayCommit", "failed", seconds=HANG)
        first.wait("mayCommit", "failed", seconds=HANG)
        self.world.disarm()
        second.answer()
        last = self.last_word(second)
        first.kill()
        if last["say"] != "finished":
            raise Wrong("converges", f"the successor failed: {second.fault}")
        if self.either("a", "b") != "b":
            raise Wrong("blocks-are-ones-own", "the blocks of a frozen attempt came into its successor's content")

    def foreign(self):
        """Somebody else changes the target between plan and commit: it is left alone."""
        self.target.prepare()
        worker = self.worker(grant=None)
        worker.wait("mayCommit", "failed", seconds=HANG)
        theirs = self.target.write_foreign()
        worker.answer()
        last = self.last_word(worker)
        content = self.target.content()
        if content != theirs:
            raise Wrong("foreign-content-kept", f"somebody else's content was overwritten: {judge.say(content, theirs)}")
        if last["say"] != "failed":
            raise Wrong("foreign-content-kept", "the copy says it finished")
        self.clear_fault(last["fault"])

    def server(self):
        """The target's server is killed and comes back on the same port."""
        server = getattr(self.world, self.target.server)
        self.target.prepare()
        worker = self.worker()
        stage = self.chance.choice(("any", "commit", "report"))
        if stage == "any":
            time.sleep(self.chance.random() * self.world.seconds.get(self.target.name, 1.0))
        elif stage == "commit":
            worker.wait("mayCommit", "failed", seconds=HANG)
            time.sleep(self.chance.random() * 0.03)
        else:
            worker.wait("finished", "failed", seconds=HANG)
        server.kill()
        server.start()
        last = self.last_word(worker)
        found = self.old_or_new()
        self.notes.update(stage=stage, first=last["say"], found=found)
        if last["say"] == "finished":
            if found == "old":
                raise Wrong("acknowledged", "the copy said it had finished, and after the server's crash nothing is there")
            return
        if last["say"] == "failed":
            self.clear_fault(last["fault"])
        receipt = self.converges(plan=worker.plan)
        self.receipt_tells(receipt, found, None)

    def clock(self):
        """The wall clock jumps in the middle of a copy: nothing may come of it."""
        jump = self.chance.choice((-3600, 3600, -3 * 86400, 3 * 86400))
        self.notes["jump"] = jump
        self.target.prepare()
        try:
            worker = self.worker(grant=None)
            worker.wait("planned", "failed", seconds=HANG)
            self.world.set_clock(jump)
            worker.wait("mayCommit", "failed", seconds=HANG)
            self.world.set_clock(0)
            worker.answer()
            last = self.last_word(worker)
        finally:
            self.world.set_clock(0)
        if last["say"] != "finished":
            raise Wrong("clock", f"a jump of {jump} s ended the copy: {worker.fault or last}")
        taken = sum(stage["seconds"] for stage in last["receipt"]["stages"])
        if not 0 <= taken < 600:
            raise Wrong("clock", f"after a jump of {jump} s the stages are said to have taken {taken:.0f} s")
        self.is_new()

    def point(self, name, action, nth=1):
        """One failpoint, at its n-th hit. Says whether it was reached."""
        self.target.prepare()
        fired = self.world.arm(name, action, nth)
        worker = self.worker(points=self.world.points)
        last = self.last_word(worker)
        reached = os.path.exists(fired)
        self.world.disarm()
        self.notes.update(point=name, action=action, nth=nth, reached=reached, first=last["say"])
        found = self.old_or_new()
        if last["say"] == "finished":
            if found != "new":
                raise Wrong("acknowledged", "the copy said it had finished, and the target is as before")
            self.is_new()
            if reached and action == "error" and name in FINAL:
                raise Wrong("a-failed-sync-is-final", f"{name} failed, and the copy finished with the same file")
            return reached
        if last["say"] == "failed":
            self.clear_fault(last["fault"])
            unknown = last["fault"].get("context", {}).get("outcome") == "unknown"
            if found == "new" and not unknown:
                raise Wrong("fault-means-old", f"{last['fault']['code']} was said, and the target has the new content")
        elif action != "kill":
            raise Wrong("clear-fault", f"the worker ended without a word at {name}")
        receipt = self.converges(plan=worker.plan)
        self.receipt_tells(receipt, found, worker.plan)
        return reached

    def system_call(self, call, error, nth):
        """The n-th system call of a kind fails, by strace. Says whether it came to that."""
        self.target.prepare()
        record = self.world.path("strace")
        hit = ["strace", "-f", "-qq", "-o", record, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={nth}"]
        worker = self.worker(before=(*hit, *self.only(call)))
        last = self.last_word(worker)
        with open(record, encoding="utf-8", errors="replace") as file:
            reached = "(INJECTED)" in file.read()
        self.notes.update(point=f"{call}={error}", nth=nth, reached=reached, first=last["say"])
        found = self.old_or_new()
        if last["say"] == "finished":
            if found != "new":
                raise Wrong("acknowledged", "the copy said it had finished, and the target is as before")
            return reached
        if last["say"] == "failed":
            self.clear_fault(last["fault"])
        self.converges(plan=worker.plan)
        return reached

    def durable(self):
        """What is said to be done is on the disk first: the hidden file before its new name, the folder before the
        word that it is finished."""
        self.target.prepare()
        record = self.world.path("strace")
        calls = "trace=write,fsync,fdatasync,renameat,renameat2,linkat"
        worker = self.worker(before=("strace", "-f", "-y", "-qq", "-s", "64", "-o", record, "-e", calls))
        last = self.last_word(worker)
        if last["say"] != "finished":
            raise Wrong("converges", f"{worker.fault or last}")
        with open(record, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        hidden, folder, named = False, False, False
        for line in lines:
            if ".part>" in line and " write(" in line:
                hidden = False
            elif ".part>" in line and "sync(" in line:
                hidden = True
            elif "rename" in line and ".part" in line and "target.parquet" in line:
                named = True
                if not hidden:
                    raise Wrong("durable-before-visible", "the hidden file took the target's name before it was synced")
            elif named and "fsync(" in line and f"{self.target.folder}>" in line:
                folder = True
            elif 'say\\":\\"finished' in line and not (named and folder):
                raise Wrong("durable-before-said", "it was said to be finished before the folder was synced")
        if not named:
            raise Wrong("harness", "the rename was not seen")

    def only(self, call):
        """What narrows a system call to the files of the target."""
        if self.target.name.startswith("sqlite"):
            return [word for suffix in ("", "-wal", "-journal") for word in ("-P", self.target.path + suffix)]
        if call in ("write", "fsync"):
            short = self.run.replace("-", "")[:12]
            hidden = f".target.parquet.{short}_{self.epoch + 1}.part"
            return ["-P", f"{self.target.folder}/{hidden}"]
        return []


# Points whose failure must end the attempt: the kernel may have dropped the pages.
FINAL = ("local.sync",)


def plain(world, target, seed, number=0):
    """A copy that nothing happens to, for its time and as a check of the judge itself."""
    trial = Trial(world, "plain", number, target, seed)
    target.prepare()
    begun = time.monotonic()
    worker = trial.worker()
    last = trial.last_word(worker)
    seconds = time.monotonic() - begun
    if last["say"] != "finished":
        raise Wrong("plain", f"{target.name}: {worker.fault or last}")
    trial.is_new()
    world.shapes[target.name] = worker.plan["shape"]
    return seconds


def interrupted(_signal, _frame):
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, interrupted)
