"""One trial: what its workers are told, and the named checks that what they leave is handed to. A trial follows from
its seed alone, apart from what the machine's own timing adds. The kinds are in `crashes.py`, `races.py`, `points.py`."""

import os
import random
import signal
import time

import judge
import stores
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
        self.source = world.source_of(self.chance)
        self.notes = {"source": self.source.family}
        self.epoch = 0
        # Options of the job besides those of the target.
        self.options = {}

    def read_from(self, *families):
        """Reads from one of those stores, if they are there."""
        those = [family for family in families if family in self.world.sources]
        if those:
            self.source = self.world.sources[self.chance.choice(those)]
            self.notes["source"] = self.source.family

    def worker(self, source="a", ports=(None, None), **how):
        self.epoch += 1
        source_end, source_secrets = self.source.endpoint(source + self.target.size, ports[0])
        sink_end, sink_secrets = self.target.endpoint(ports[1])
        # Where the source has no decimals and timestamps, what is made of it has none.
        self.target.typeless = self.source.family == "sqlite"
        job = stores.job(source_end, sink_end, {**self.target.options(), **self.options})
        return Worker(self.world, job, self.run, self.epoch, (source_secrets, sink_secrets), **how)

    # Checks.

    def old_or_new(self, source="a", when="after the crash"):
        """The target is whole: the old content or the new one. Says which."""
        content = self.target.content()
        if content == self.target.old:
            return "old"
        new = self.target.wanted(source)
        if content == new:
            return "new"
        raise Wrong("old-or-new", f"{when}: {judge.say(content, new)}; and {judge.say(content, self.target.old)} (old)")

    def either(self, *sources):
        content = self.target.content()
        if content == self.target.old:
            return "old"
        for source in sources:
            if content == self.target.wanted(source):
                return source
        raise Wrong("old-or-new", f"neither old nor one whole source: {judge.say(content, self.target.wanted(sources[-1]))}")

    def is_new(self, source="a", left=False):
        content, new = self.target.content(), self.target.wanted(source)
        if content != new:
            raise Wrong("content", judge.say(content, new))
        flaws = self.target.flaws()
        if flaws:
            raise Wrong("definition", flaws)
        remains = self.target.leftovers()
        if remains and not left:
            raise Wrong("leftovers", f"a finished copy left {remains} behind")

    def clear_fault(self, fault):
        if not fault or not fault.get("code", "").startswith(OWNERS) or len(fault.get("message", "")) < 10:
            raise Wrong("clear-fault", f"the fault is {fault}")
        self.notes["fault"] = fault["code"]
        return fault["code"]

    def fault_means_old(self, fault, found):
        unknown = fault.get("context", {}).get("outcome") == "unknown"
        if found == "new" and not unknown:
            raise Wrong("fault-means-old", f"{fault['code']} was said, and the target has the new content")

    def acknowledged(self, found):
        if found == "old":
            raise Wrong("acknowledged", "an attempt said it had finished, and the target is as before")

    def last_word(self, worker, seconds=HANG):
        last = worker.end(seconds)
        if last is None:
            worker.kill()
            raise Wrong("no-hang", f"the worker said nothing for {seconds} s; its last word: {worker.said[-1:]}")
        if last["say"] == "finished":
            self.world.learn(self, worker)
        return last

    def converges(self, source="a", attempts=3, plan=None, left=False, **how):
        """Further attempts, as the service would order them, end with the new content; gives the receipt."""
        for _ in range(attempts):
            worker = self.worker(source, plan=plan, **how)
            last = self.last_word(worker)
            if last["say"] == "finished":
                self.is_new(source, left)
                return last["receipt"]
            self.old_or_new(source, f"after attempt {self.epoch}")
            plan = worker.plan or plan
        raise Wrong("converges", f"{attempts} more attempts did not finish; the last: {worker.fault or last}")

    def receipt_tells(self, receipt, found, plan):
        """The receipt says what happened: the rows, and that an earlier attempt was found or thrown away."""
        kept, left_out = self.target.taken("a")
        if (receipt["read"]["rows"], receipt["written"]["rows"]) != (kept + left_out, kept):
            said = f"{receipt['read']['rows']} read and {receipt['written']['rows']} written"
            raise Wrong("receipt", f"it says {said} where {kept + left_out} were read and {kept} fit")
        if left_out and (receipt.get("skipped") or {}).get("rows") != left_out:
            raise Wrong("receipt-skipped", f"{left_out} rows do not fit, and it says {receipt.get('skipped')}")
        if left_out and self.target.redirected() != left_out:
            raise Wrong("redirected", f"{left_out} rows do not fit, and {self.target.redirected()} were written beside")
        if found == "new" and not receipt["foundCommitted"]:
            raise Wrong("receipt-found", "the attempt before had committed, and the receipt does not say so")
        # The server may have carried out a commit that was under way after the look.
        told = receipt.get("restarted") or receipt.get("resumed") or receipt["foundCommitted"]
        if found == "old" and plan and not told:
            raise Wrong("receipt-restarted", "an attempt was thrown away or gone on from, and the receipt is silent")
        epoch = receipt["attempt"]["epoch"]
        if receipt["foundCommitted"] != (epoch < self.epoch) or not 1 <= epoch <= self.epoch:
            raise Wrong("receipt-epoch", f"it names epoch {epoch}, and the last attempt is {self.epoch}")


def plain(world, target, seed, number=0):
    """A copy that nothing happens to, for its time and as a check of the judge itself."""
    trial = Trial(world, "plain", number, target, seed)
    target.prepare()
    worker = trial.worker()
    last = trial.last_word(worker)
    if last["say"] != "finished":
        raise Wrong("plain", f"{target.name}: {worker.fault or last}")
    trial.is_new()
    trial.receipt_tells(last["receipt"], None, None)
    world.shapes[target.name] = worker.plan["shape"]


def quiet(trial):
    """As `plain`, counted as a trial."""
    plain(trial.world, trial.target, trial.world.seed, trial.number)


def waits_for(fired, worker, seconds=HANG):
    """Until a failpoint has fired, or the worker has ended, or waits for an answer that it does not get."""
    last = ("finished", "failed", "gone") + (("mayCommit",) if worker.grant is None else ())
    end = time.monotonic() + seconds
    while not os.path.exists(fired) and not worker.find(*last) and time.monotonic() < end:
        time.sleep(0.002)


def interrupted(_signal, _frame):
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, interrupted)
