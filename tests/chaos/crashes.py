"""Kinds of trial in which something dies or is told to stop: the worker, the target's server, the copy by its host."""

import os
import threading
import time

from trials import HANG, Wrong

# What a kill waits for, and what of an undisturbed copy it then falls into.
STAGES = {"plan": (), "move": ("planned",), "commit": ("mayCommit",), "report": ("finished",)}


def strike(trial, worker, stage):
    """Waits for a random moment of a stage; gives how much of it was waited for."""
    if STAGES[stage]:
        worker.wait(*STAGES[stage], seconds=HANG)
    seconds = trial.world.length(trial, stage) * trial.world.reach(trial, stage)
    share = trial.chance.random()
    end = time.monotonic() + seconds * share
    while time.monotonic() < end:
        time.sleep(min(0.002, max(end - time.monotonic(), 0)))


def kill(trial):
    """SIGKILL to the worker, at a random moment of a stage, as long as the stages of undisturbed copies were."""
    stage = trial.chance.choice(("plan", "plan", "move", "move", "commit", "commit", "commit", "report"))
    trial.target.prepare()
    worker = trial.worker()
    strike(trial, worker, stage)
    met = worker.process.poll() is None
    worker.kill()
    trial.world.reached(trial, stage, met)
    found = trial.old_or_new()
    said = worker.find("finished", "failed")
    trial.notes.update(stage=stage, met=met, found=found, said=said and said["say"])
    if said and said["say"] == "finished":
        trial.acknowledged(found)
    plan = worker.plan
    receipt = trial.converges(plan=plan)
    trial.receipt_tells(receipt, found, plan)


def resume(trial):
    """The worker dies when some parts are staged, once or twice; the last attempt does the others only."""
    trial.read_from("file", "blob")
    trial.target.prepare()
    times, plan, done = trial.chance.choice((1, 1, 2)), None, 0
    for _ in range(times):
        nth = trial.chance.choice((1, 2, 3) if not done else (1,))
        fired = trial.world.arm("lane.part.done", "kill", nth)
        worker = trial.worker(points=trial.world.points, plan=plan)
        last = trial.last_word(worker)
        done += nth if os.path.exists(fired) else 0
        trial.world.disarm()
        if last["say"] == "finished":
            return trial.is_new()
        plan = worker.plan or plan
        trial.old_or_new()
    receipt = trial.converges(plan=plan)
    trial.receipt_tells(receipt, "old", plan)
    kept = (receipt.get("resumed") or {}).get("parts", 0)
    trial.notes.update(staged=done, resumed=kept)
    if kept < done:
        raise Wrong("resumed", f"{done} parts were staged, and {kept} of them kept: {receipt.get('restarted')}")
    return None


def cancel(trial):
    """The host cancels, or says no when it is asked for the commit: the target is as it was, and nothing is left."""
    stage = trial.chance.choice(("no", "no", "plan", "move", "commit"))
    trial.target.prepare()
    worker = trial.worker(grant=None if stage == "commit" else stage != "no")
    if stage != "no":
        strike(trial, worker, stage)
        worker.tell({"say": "cancel"})
        if stage == "commit":
            time.sleep(trial.chance.random() * 0.01)
            worker.answer()
    last = trial.last_word(worker)
    found = trial.old_or_new(when="after the host said no")
    trial.notes.update(stage=stage, first=last["say"], found=found)
    if last["say"] == "finished":
        if stage == "no":
            raise Wrong("refused", "the host said no to the commit, and the copy says it finished")
        return trial.acknowledged(found)
    if last["say"] != "failed":
        raise Wrong("clear-fault", "the worker ended without a word")
    trial.clear_fault(last["fault"])
    trial.fault_means_old(last["fault"], found)
    remains = trial.target.leftovers()
    if remains and found == "old":
        raise Wrong("leftovers", f"a copy that was called off left {remains} behind")
    return trial.converges(plan=worker.plan)


def server(trial):
    """The target's server is killed and comes back on the same port."""
    its = getattr(trial.world, trial.target.server)
    trial.target.prepare()
    worker = trial.worker()
    stage = trial.chance.choice(("plan", "move", "commit", "commit", "report"))
    strike(trial, worker, stage)
    its.kill()
    its.start()
    last = trial.last_word(worker)
    found = trial.old_or_new()
    trial.notes.update(stage=stage, first=last["say"], found=found)
    if last["say"] == "finished":
        return trial.acknowledged(found)
    if last["say"] == "failed":
        trial.clear_fault(last["fault"])
    receipt = trial.converges(plan=worker.plan)
    return trial.receipt_tells(receipt, found, None)


def replace(trial):
    """A reader looks every 20 ms while content is replaced, with a kill in between."""
    trial.target.prepare()
    old = trial.target.glance()
    looks, stop = {}, threading.Event()

    def look():
        while not stop.is_set():
            try:
                seen = trial.target.glance()
            except Exception as error:  # noqa: BLE001 - a reader who is refused has not seen a half
                seen = f"unreadable: {error}"
            looks[seen] = looks.get(seen, 0) + 1
            stop.wait(0.02)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        worker = trial.worker()
        strike(trial, worker, "commit")
        worker.kill()
        trial.converges(plan=worker.plan)
        time.sleep(0.05)
    finally:
        stop.set()
        reader.join()
    new = trial.target.glance()
    trial.notes["looks"] = sum(looks.values())
    other = {seen for seen in looks if seen not in (old, new)}
    if other:
        raise Wrong("reader", f"a reader saw neither old nor new: {sorted(map(str, other))[:2]}; old {old}; new {new}")


def clock(trial):
    """The wall clock jumps in the middle of a copy: nothing may come of it."""
    jump = trial.chance.choice((-3600, 3600, -3 * 86400, 3 * 86400))
    trial.notes["jump"] = jump
    trial.target.prepare()
    try:
        worker = trial.worker(grant=None)
        worker.wait("planned", "failed", seconds=HANG)
        trial.world.set_clock(jump)
        worker.wait("mayCommit", "failed", seconds=HANG)
        trial.world.set_clock(0)
        worker.answer()
        last = trial.last_word(worker)
    finally:
        trial.world.set_clock(0)
    if last["say"] != "finished":
        raise Wrong("clock", f"a jump of {jump} s ended the copy: {worker.fault or last}")
    taken = sum(stage["seconds"] for stage in last["receipt"]["stages"])
    if not 0 <= taken < 600:
        raise Wrong("clock", f"after a jump of {jump} s the stages are said to have taken {taken:.0f} s")
    trial.is_new()


KINDS = {"kill": kill, "resume": resume, "cancel": cancel, "server": server, "replace": replace, "clock": clock}
