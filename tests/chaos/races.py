"""Kinds of trial in which two attempts of one run, or a stranger, work on a target at the same time. The source differs
between the two attempts, so that a mixture shows."""

import time

from trials import HANG, Wrong, waits_for


def zombie(trial):
    """An attempt is frozen, its successor works, and the frozen one goes on around the successor's commit."""
    trial.target.prepare()
    first = trial.worker("a")
    if trial.chance.random() < 0.7:
        first.wait("mayCommit", seconds=HANG)
        time.sleep(trial.chance.random() * 0.01)
    else:
        time.sleep(trial.chance.random() * trial.world.length(trial, "plan") * 1.5)
    first.freeze()
    # Nobody looks now: a frozen commit may hold the table, until the successor ends its session.
    second = trial.worker("b", plan=first.plan, grant=None)
    try:
        second.wait("mayCommit", "finished", "failed", seconds=HANG)
        gap = trial.chance.uniform(-0.06, 0.12)
        if gap < 0:
            first.thaw()
            time.sleep(-gap)
        second.answer()
        if gap >= 0:
            time.sleep(gap)
            first.thaw()
        last = trial.last_word(second)
        zombie = trial.last_word(first)
    finally:
        first.thaw()
    trial.notes.update(gap=round(gap, 3), zombie=zombie["say"], second=last["say"])
    for name, word in (("zombie", zombie), ("second", last)):
        if word["say"] == "failed":
            trial.notes[name] = trial.clear_fault(word["fault"])
    after = trial.either("a", "b")
    if "finished" in (last["say"], zombie["say"]):
        trial.acknowledged(after)
    if last["say"] != "finished":
        after = settle(trial)
    trial.notes["after"] = after
    if after == "old":
        raise Wrong("converges", "neither attempt left the new content")
    if last["say"] == "finished":
        check_epoch(last, after)


def check_epoch(last, after):
    """Whose rows they are is what the receipt says."""
    epoch = last["receipt"]["attempt"]["epoch"]
    if after != ("a" if epoch == 1 else "b"):
        raise Wrong("receipt-epoch", f"the receipt names epoch {epoch}, the content is that of source {after}")


def held(trial, source, point, nth=1, **how):
    """An attempt, frozen at a failpoint."""
    fired = trial.world.arm(point, "delay(60)", nth)
    attempt = trial.worker(source, points=trial.world.points, **how)
    waits_for(fired, attempt)
    attempt.freeze()
    trial.world.disarm()
    return attempt


def late(trial):
    """An attempt goes on only when its successor has committed: one that was told that it may commit, or one that was
    frozen at any failpoint before and is told so yet, as by a host that thinks it alone."""
    names = trial.world.reached_before_commit(trial.target)
    trial.target.prepare()
    point = trial.chance.choice(("engine.commit.granted", trial.chance.choice(names)))
    trial.notes["point"] = point
    first = held(trial, "a", point)
    try:
        last = trial.last_word(trial.worker("b", plan=first.plan))
    finally:
        first.thaw()
    zombie = trial.last_word(first)
    after = outcome(trial, zombie, last)
    if last["say"] == "finished" and after != "b":
        raise Wrong("receipt-epoch", f"the successor had finished, and the content is {after}")


def early(trial):
    """An attempt that was told that it may commit does so while its successor, which found no mark yet, still plans."""
    trial.target.prepare()
    first = held(trial, "a", "engine.commit.granted")
    second = None
    try:
        second = held(trial, "b", "engine.plan.made", plan=first.plan)
        first.thaw()
        zombie = trial.last_word(first)
    finally:
        first.thaw()
        if second:
            second.thaw()
    last = trial.last_word(second)
    after = outcome(trial, zombie, last)
    if last["say"] == "finished":
        told_by_receipt(last["receipt"], after)


def outcome(trial, zombie, last):
    """What two attempts left, of which at least one, or a third, must have left its content."""
    trial.notes.update(zombie=zombie["say"], second=last["say"])
    for word in (zombie, last):
        if word["say"] == "failed":
            trial.clear_fault(word["fault"])
    after = trial.either("a", "b")
    if "finished" in (last["say"], zombie["say"]):
        trial.acknowledged(after)
    if last["say"] != "finished":
        after = settle(trial)
    if after == "old":
        raise Wrong("converges", "neither attempt left the new content")
    return after


def told_by_receipt(receipt, after):
    """Whose rows they are is what the receipt says."""
    epoch = receipt["attempt"]["epoch"]
    wanted = "a" if epoch == 1 else "b"
    if after != wanted:
        raise Wrong("receipt-epoch", f"the receipt names epoch {epoch}, the content is that of source {after}")


def overtaken(trial):
    """An attempt is frozen at a failpoint before its commit, its successor stages everything, and the frozen one goes
    on until it asks for the commit, and gets no answer. The successor's commit must not suffer."""
    names = trial.world.reached_before_commit(trial.target)
    trial.target.prepare()
    # Who has planned, and wakes up, first clears away what it takes for leftovers.
    point = trial.chance.choice((trial.chance.choice(names), "engine.plan.stored"))
    first = held(trial, "a", point, grant=None)
    trial.notes["point"] = point
    second = trial.worker("b", plan=first.plan, grant=None)
    try:
        ready = second.wait("mayCommit", "failed", seconds=HANG)
        first.thaw()
        if ready["say"] == "failed":
            # What the frozen one holds may keep others out until it is gone; that is said, and passes.
            trial.clear_fault(ready["fault"])
            first.kill()
            if settle(trial) != "b":
                raise Wrong("converges", "a third attempt did not leave its content")
            return
        word = first.wait("mayCommit", "failed", seconds=HANG)
        trial.notes["zombie"] = word and word["say"]
        second.answer()
        last = trial.last_word(second)
    finally:
        first.kill()
    if last["say"] != "finished":
        raise Wrong("successor-wins", f"an older attempt, thawed at {point}, stopped its successor: {second.fault or last}")
    if trial.either("a", "b") != "b":
        raise Wrong("receipt-epoch", "the successor had finished, and the content is another's")


def adopted(trial):
    """An attempt is frozen when some parts are staged, its successor goes on from there, and the frozen one goes on
    too, until it asks for the commit. All rows arrive once."""
    trial.read_from("file", "blob")
    trial.target.prepare()
    nth = trial.chance.choice((1, 2, 3))
    first = held(trial, "a", trial.chance.choice(("lane.part.done", "lane.part.read", "lane.batch")), nth, grant=None)
    second = trial.worker("a", plan=first.plan, grant=None)
    try:
        second.wait("mayCommit", "failed", seconds=HANG)
        first.thaw()
        word = first.wait("mayCommit", "failed", seconds=HANG)
        trial.notes.update(nth=nth, zombie=word and word["say"])
        second.answer()
        last = trial.last_word(second)
    finally:
        first.kill()
    if last["say"] != "finished":
        raise Wrong("successor-wins", f"an older attempt stopped its successor: {second.fault or last}")
    trial.notes["resumed"] = (last["receipt"].get("resumed") or {}).get("parts", 0)
    trial.is_new()
    trial.receipt_tells(last["receipt"], "old", first.plan)


def settle(trial):
    worker = trial.worker("b")
    last = trial.last_word(worker)
    if last["say"] != "finished":
        raise Wrong("converges", f"a third attempt, alone, failed: {worker.fault}")
    return trial.either("a", "b")


def blocks(trial):
    """A frozen attempt sends its blocks between its successor's blocks and commit."""
    trial.target.prepare()
    trial.world.arm("azblob.block", "delay(1500)", 1)
    first = trial.worker("a", points=trial.world.points, grant=None)
    first.wait("planned", "failed", seconds=HANG)
    second = trial.worker("b", grant=None)
    second.wait("mayCommit", "failed", seconds=HANG)
    first.wait("mayCommit", "failed", seconds=HANG)
    trial.world.disarm()
    second.answer()
    last = trial.last_word(second)
    first.kill()
    if last["say"] != "finished":
        raise Wrong("converges", f"the successor failed: {second.fault}")
    if trial.either("a", "b") != "b":
        raise Wrong("blocks-are-ones-own", "the blocks of a frozen attempt came into its successor's content")


def foreign(trial):
    """Somebody else changes the target between plan and commit: it is left alone."""
    trial.target.prepare()
    worker = trial.worker(grant=None)
    worker.wait("mayCommit", "failed", seconds=HANG)
    theirs = trial.target.foreign()
    worker.answer()
    last = trial.last_word(worker)
    content = trial.target.foreign_content()
    if content != theirs:
        words = "gone" if isinstance(content, str) else content.difference(theirs)
        raise Wrong("foreign-content-kept", f"somebody else's content was overwritten: {words}")
    if last["say"] != "failed":
        raise Wrong("foreign-content-kept", "the copy says it finished")
    trial.clear_fault(last["fault"])


KINDS = {"zombie": zombie, "late": late, "early": early, "overtaken": overtaken, "adopted": adopted, "blocks": blocks, "foreign": foreign}
