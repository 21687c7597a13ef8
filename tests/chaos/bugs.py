"""Planted bugs: each is switched on, and trials that ought to find it run until one does. A harness that finds none of
them would prove nothing by finding nothing else."""

import subprocess

import crashes
import network
import points
import races
import trials
from trials import Trial

KINDS = {**crashes.KINDS, **races.KINDS, **points.KINDS, **network.KINDS, "plain": trials.quiet}
# Bug, kind of trial, targets in question, most trials.
BUGS = (
    ("skip-the-fence", "late", ("postgres-viewed", "postgres-slice", "postgres-overwrite"), 6),
    ("commit-without-mark", "kill", ("postgres-append",), 40),
    ("forget-the-condition", "foreign", ("file-replace", "blob-replace"), 4),
    ("re-use-block-ids", "blocks", ("blob-replace",), 20),
    ("drop-the-last-batch", "plain", ("postgres-append", "file-new"), 2),
    ("double-the-first", "plain", ("postgres-append", "file-new"), 2),
    ("count-what-broke", "again", ("postgres-append", "postgres-overwrite"), 6),
    ("swap-two-columns", "plain", ("postgres-append", "file-new"), 2),
    ("retry-a-failed-fsync", "sync", ("file-replace", "file-new"), 4),
    ("trust-the-wall-clock", "clock", ("postgres-append", "file-new"), 8),
    ("acknowledge-before-durable", "durable", ("file-replace", "file-new"), 3),
)


def chosen(words):
    if words == "all":
        return BUGS
    if words == "rotate":
        # Two of them, another two with every commit.
        count = subprocess.run(["git", "rev-list", "--count", "HEAD"], stdout=subprocess.PIPE, text=True, check=False)
        first = int(count.stdout or 0) * 2 % len(BUGS)
        return (BUGS[first], BUGS[(first + 1) % len(BUGS)])
    return [bug for bug in BUGS if bug[0] in words.split(",")]


def run(world, words):
    """Gives the names of bugs that no trial found."""
    missed = []
    by_name = {target.name: target for target in world.targets}
    for name, kind, names, most in chosen(words):
        targets = [by_name[target] for target in names if target in by_name]
        world.plant, caught = name, None
        for number in range(most if targets else 0):
            trial = Trial(world, kind, number, targets[number % len(targets)], f"{world.seed}/{name}")
            if not world.attempt(trial, KINDS[kind]):
                caught = world.results[-1]
                if caught["wrong"]["check"] != "harness":
                    break
                world.say(f"  {caught['wrong']['why']}")
                caught = None
        world.plant = None
        if caught:
            wrong = caught["wrong"]
            world.say(f"bug {name}: caught by check \"{wrong['check']}\" in {kind} trial {number + 1}: {wrong['why'][:150]}")
        else:
            world.say(f"bug {name}: NOT CAUGHT in {most} {kind} trials")
            missed.append(name)
    return missed
