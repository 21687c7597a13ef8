"""Kinds of trial that fail one thing: a failpoint, or the n-th system call of a kind. And the one that records the
order of system calls."""

import os

from trials import Wrong

# Points whose failure must end the attempt: the kernel may have dropped the pages.
FINAL = ("local.sync",)


def point(trial, name, action, nth=1):
    """One failpoint, at its n-th hit. Says whether it was reached."""
    trial.target.prepare()
    fired = trial.world.arm(name, action, nth)
    worker = trial.worker(points=trial.world.points)
    last = trial.last_word(worker)
    reached = os.path.exists(fired)
    trial.world.disarm()
    trial.notes.update(point=name, action=action, nth=nth, reached=reached, first=last["say"])
    found = trial.old_or_new()
    if last["say"] == "finished":
        trial.acknowledged(found)
        trial.is_new()
        if reached and action == "error" and name in FINAL:
            raise Wrong("a-failed-sync-is-final", f"{name} failed, and the copy finished with the same file")
        return reached
    if last["say"] == "failed":
        trial.clear_fault(last["fault"])
        trial.fault_means_old(last["fault"], found)
    elif action != "kill":
        raise Wrong("clear-fault", f"the worker ended without a word at {name}")
    receipt = trial.converges(plan=worker.plan)
    trial.receipt_tells(receipt, found, worker.plan)
    return reached


def system_call(trial, call, error, nth):
    """The n-th system call of a kind fails, by strace. Says whether it came to that."""
    trial.target.prepare()
    record = trial.world.path("strace")
    hit = ["strace", "-f", "-qq", "-o", record, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={nth}"]
    worker = trial.worker(before=(*hit, *only(trial, call)))
    last = trial.last_word(worker)
    with open(record, encoding="utf-8", errors="replace") as file:
        reached = "(INJECTED)" in file.read()
    trial.notes.update(point=f"{call}={error}", nth=nth, reached=reached, first=last["say"])
    found = trial.old_or_new()
    if last["say"] == "finished":
        trial.acknowledged(found)
        return reached
    if last["say"] == "failed":
        trial.clear_fault(last["fault"])
    trial.converges(plan=worker.plan)
    return reached


def only(trial, call):
    """What narrows a system call to the files of the target."""
    target = trial.target
    if target.family == "sqlite":
        return [word for suffix in ("", "-wal", "-journal") for word in ("-P", target.path + suffix)]
    if call in ("write", "fsync"):
        short = trial.run.replace("-", "")[:12]
        return ["-P", f"{target.folder}/.target.parquet.{short}_{trial.epoch + 1}.part"]
    return []


def durable(trial):
    """What is said to be done is on the disk first: the hidden file before its new name, the folder before the word
    that it is finished."""
    trial.target.prepare()
    record = trial.world.path("strace")
    calls = "trace=write,fsync,fdatasync,renameat,renameat2,linkat"
    worker = trial.worker(before=("strace", "-f", "-y", "-qq", "-s", "64", "-o", record, "-e", calls))
    last = trial.last_word(worker)
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
        elif named and "fsync(" in line and f"{trial.target.folder}>" in line:
            folder = True
        elif 'say\\":\\"finished' in line and not (named and folder):
            raise Wrong("durable-before-said", "it was said to be finished before the folder was synced")
    if not named:
        raise Wrong("harness", "the rename was not seen")


def sync(trial):
    """A failed sync must end the attempt."""
    return point(trial, "local.sync", "error")


def again(trial):
    """A part that breaks off is done again by the same worker, and counts once: also where its rows were staged and only
    the answer got lost."""
    store = PARTS[trial.target.family]
    broken = ("lane.batch", f"{store}.begun", f"{store}.send", f"{store}.finish", "lane.part.read")
    name = trial.chance.choice((*broken, "lane.part.done"))
    trial.target.prepare()
    fired = trial.world.arm(name, "error", 1)
    worker = trial.worker(points=trial.world.points)
    last = trial.last_word(worker)
    reached = os.path.exists(fired)
    trial.world.disarm()
    trial.notes.update(point=name, reached=reached, first=last["say"])
    ended = trial.source.family == "sqlserver" and worker.fault and worker.fault["code"] == "UserErrorSourceChanged"
    if ended and reached and name in broken:
        # Its session is closed in the middle of rows, and the snapshot was its own: the next attempt reads everything.
        trial.converges()
        return
    if last["say"] != "finished":
        raise Wrong("done-again", f"{name}: {worker.fault or last}")
    trial.is_new()
    receipt = last["receipt"]
    trial.receipt_tells(receipt, None, None)
    if bool(receipt.get("repeated")) != (reached and name in broken):
        raise Wrong("receipt-repeated", f"{name} failed once, and the receipt says {receipt.get('repeated')}")


# The steps of a part in the sinks that keep checkpoints.
PARTS = {"postgres": "postgres.copy", "mariadb": "mysql.load"}
KINDS = {"durable": durable, "sync": sync, "again": again}
