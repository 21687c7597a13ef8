"""Trials that go through all of something: every failpoint with everything that may happen there; the first, second,
third, ... failure of a kind, until a copy ends without coming to the n-th."""

import collections
import os
import random
import re
import subprocess

import points
import trials
from servers import ROOT
from trials import Trial

# Processes that no copy of these trials starts; `stack.py` breaks them.
OTHERS = ("host.", "service.", "state.")


def declared_points():
    """All failpoints in the source text, with whether they can fail."""
    found = {}
    for folder in ("crates", "connectors"):
        for place, _, files in os.walk(os.path.join(ROOT, folder)):
            for name in files:
                if name.endswith(".rs") and name != "failpoint.rs":
                    with open(os.path.join(place, name), encoding="utf-8") as file:
                        text = file.read()
                    for match in re.finditer(r'failpoint!\(\s*"([a-z0-9_.]+)"\s*(,|\))', text):
                        found[match.group(1)] = match.group(2) == ","
    return found


def reached_by(world, target):
    """The points that a plain copy into a target comes by."""
    world.forget_seen()
    trials.plain(world, target, world.seed)
    return sorted(world.seen())


def failpoints(world, count):
    can_fail = declared_points()
    cases = []
    for target in world.targets:
        for name in reached_by(world, target):
            if not name.startswith(OTHERS):
                actions = ["kill", "delay(400)"] + (["error"] if can_fail.get(name) else [])
                cases += [(target, name, action) for action in actions]
    random.Random(f"{world.seed}/failpoints").shuffle(cases)
    # Each point of each kind of store with each action comes once before any comes again.
    times = collections.Counter()

    def turn(case):
        key = (case[0].family, *case[1:])
        times[key] += 1
        return times[key]

    cases = [case for _, case in sorted(((turn(case), number), case) for number, case in enumerate(cases))]
    for target, name, action in cases[: count or None]:
        if world.late():
            return
        trial = Trial(world, "point", f"{name}/{action}", target, world.seed)
        world.attempt(trial, lambda trial, name=name, action=action: points.point(trial, name, action))


NTH_POINTS = {
    "file": ("local.write", "local.sync", "local.rename", "local.create", "lane.batch"),
    "blob": ("azblob.block", "azblob.list", "lane.batch"),
    "postgres": ("postgres.connect", "postgres.copy.send", "postgres.commit", "lane.part", "lane.batch"),
    "mariadb": ("mysql.load.send", "mysql.load.finish", "mysql.commit", "lane.part"),
    "sqlserver": ("sql_server.load", "sql_server.loaded", "sql_server.commit", "lane.part"),
    "sqlite": ("sqlite.insert", "sqlite.part.end", "sqlite.commit", "lane.part"),
}
REFUSED = (("connect", "ECONNREFUSED"), ("connect", "ETIMEDOUT"))
NTH_CALLS = {
    "file": (("write", "ENOSPC"), ("write", "EIO"), ("fsync", "EIO"), ("renameat", "EIO"), ("renameat2", "EIO")),
    "sqlite": (("pwrite64", "ENOSPC"), ("fdatasync", "EIO"), ("fsync", "EIO")),
    **{family: REFUSED for family in ("postgres", "blob", "mariadb", "sqlserver")},
}
NTH_MOST = 40


def one_of(what, n):
    """The n-th hit of a point, or the n-th system call with its error, fails."""
    if "=" in what:
        return lambda trial: points.system_call(trial, *what.split("="), n)
    return lambda trial: points.point(trial, what, "error", n)


def nth(world, count):
    strace = subprocess.run(["which", "strace"], stdout=subprocess.DEVNULL, check=False).returncode == 0
    loops = []
    for target in world.targets:
        loops += [(target, name) for name in NTH_POINTS.get(target.family, ())]
        loops += [(target, "=".join(call)) for call in NTH_CALLS.get(target.family, ()) if strace]
    random.Random(f"{world.seed}/nth").shuffle(loops)
    for target, what in loops[: count or None]:
        for n in range(1, NTH_MOST + 1):
            if world.late():
                return
            trial = Trial(world, "nth", f"{what}/{n}", target, world.seed)
            trial.answer = True
            if not world.attempt(trial, one_of(what, n)) or not trial.answer:
                break
