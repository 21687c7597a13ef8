"""Breaks copies on purpose and judges what is left. Run it by `cargo xtask chaos`; docs/chaos.md tells more.

chaos.py --program FILE --servers FOLDER [--seed N] [--kills N] [--zombies N] [--late N] [--replaces N] [--foreign N] [--clocks N] [--durable N]
         [--server-kills N] [--failpoints all|N] [--nth all|N] [--network all|N] [--stack N] [--bugs all|N|NAME]
         [--minutes M] [--targets NAME,...] [--only KIND/NUMBER/TARGET] [--rows N] [--result FILE]
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback

import bugs
import network
import servers
import stack
import targets
import trials
from trials import Trial, Wrong

ROOT = servers.ROOT


class World:
    """Servers, source and targets of one campaign, and where its results go."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.program = os.path.abspath(arguments.program)
        self.proxy_program = arguments.proxy and os.path.abspath(arguments.proxy)
        self.seed = arguments.seed
        self.plant = None
        self.folder = tempfile.mkdtemp(prefix="dmg-chaos-")
        os.chmod(self.folder, 0o755)
        os.mkdir(self.path("tmp"))
        self.points = "@" + self.path("points")
        self.token = 0
        self.seconds, self.shapes, self.results = {}, {}, []
        self.result_file = arguments.result and open(arguments.result, "a", encoding="utf-8")
        self.begun = time.monotonic()
        self.postgres = servers.Postgres(self.path("postgres"))
        self.azurite = self.mariadb = None
        wanted = arguments.targets
        if not wanted or "blob" in wanted:
            self.azurite = servers.Azurite(self.path("azurite"), arguments.servers)
        if not wanted or "mariadb" in wanted:
            for attempt in ("a", "b"):
                try:
                    self.mariadb = self.mariadb or servers.MariaDb(self.path(f"mariadb-{attempt}"))
                except (OSError, subprocess.CalledProcessError) as error:
                    self.say(f"MariaDB does not start: {error}")
        self.source = targets.Source(self, arguments.rows)
        names = wanted.split(",") if wanted else []
        self.targets = targets.make(self, names)

    def path(self, name):
        return os.path.join(self.folder, name)

    def say(self, line):
        print(line, flush=True)

    def forget_marks(self):
        with self.postgres.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS __dmg_commit")

    def arm(self, name, action, nth):
        """Sets one failpoint for all processes; gives the file that appears when it fires."""
        self.token += 1
        self.disarm()
        rule = action if nth == 1 else f"{nth - 1}*off->{action}"
        with open(self.path("points"), "w", encoding="utf-8") as file:
            file.write(f"# {self.token}\n{name}={rule}\n")
        return self.path("points.fired")

    def disarm(self):
        for name in ("points", "points.fired"):
            if os.path.exists(self.path(name)):
                os.remove(self.path(name))

    def set_clock(self, seconds):
        with open(self.path("clock.new"), "w", encoding="utf-8") as file:
            file.write(str(seconds))
        os.rename(self.path("clock.new"), self.path("clock"))

    def seen(self):
        if not os.path.exists(self.path("seen")):
            return set()
        with open(self.path("seen"), encoding="utf-8") as file:
            return set(file.read().split())

    def forget_seen(self):
        if os.path.exists(self.path("seen")):
            with open(self.path("seen-before"), "a", encoding="utf-8") as file:
                file.write("\n".join(self.seen()) + "\n")
            os.remove(self.path("seen"))

    def ever_seen(self):
        before = set()
        if os.path.exists(self.path("seen-before")):
            with open(self.path("seen-before"), encoding="utf-8") as file:
                before = set(file.read().split())
        return before | self.seen()

    def late(self):
        return self.arguments.minutes and time.monotonic() - self.begun > self.arguments.minutes * 60

    def close(self):
        for server in (self.postgres, self.azurite, self.mariadb):
            if server:
                server.stop()
        if not any(result["wrong"] and not result["plant"] for result in self.results):
            servers.remove(self.folder)
        else:
            self.say(f"what the workers said is kept in {self.folder}")

    def attempt(self, trial, work):
        """Runs one trial, notes it, and says whether it held; what it gave is in `trial.answer`."""
        begun, wrong = time.monotonic(), None
        try:
            trial.answer = work()
        except Wrong as error:
            wrong = {"check": error.check, "why": error.why}
        except Exception as error:  # noqa: BLE001 - a harness that stumbles must say where
            wrong = {"check": "harness", "why": f"{error!r} {traceback.format_exc(limit=-3)}"}
        return self.note(trial.kind, trial.number, trial.target.name, begun, wrong, trial.notes)

    def note(self, kind, number, target, begun, wrong, notes):
        result = {"seed": self.seed, "kind": kind, "trial": number, "target": target, "plant": self.plant}
        result.update(seconds=round(time.monotonic() - begun, 2), wrong=wrong, **notes)
        self.results.append(result)
        if self.result_file:
            self.result_file.write(json.dumps(result) + "\n")
            self.result_file.flush()
        if wrong and not self.plant:
            self.say(f"WRONG {kind}/{number}/{target}: {wrong['check']}: {wrong['why']} {json.dumps(notes)}")
            self.say(f"  again: cargo xtask chaos --seed {self.seed} --only {kind}/{number}/{target}")
        return wrong is None


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


def of_kind(world, kind, count, chosen):
    """So many trials of a kind, in turn over the targets. A kill that came too late does not count."""
    number = counted = 0
    while chosen and counted < count and number < 3 * count and not world.late():
        trial = Trial(world, kind, number, chosen[number % len(chosen)], world.seed)
        world.attempt(trial, getattr(trial, kind))
        counted += trial.notes.get("met", True)
        number += 1


def reached_by(world, target):
    """The points that a plain copy into a target comes by."""
    world.forget_seen()
    trials.plain(world, target, world.seed)
    return sorted(world.seen())


def failpoints(world, count):
    """Every failpoint that a copy into a target comes by, with everything that may happen there."""
    can_fail = declared_points()
    cases = []
    for target in world.targets:
        for name in reached_by(world, target):
            if name.startswith(("host.", "service.", "state.")):
                continue
            actions = ["kill", "delay(400)"] + (["error"] if can_fail.get(name) else [])
            cases += [(target, name, action) for action in actions]
    random.Random(f"{world.seed}/failpoints").shuffle(cases)
    for number, (target, name, action) in enumerate(cases[: count or None]):
        if world.late():
            return
        trial = Trial(world, "point", f"{name}/{action}", target, world.seed)
        world.attempt(trial, lambda trial=trial, name=name, action=action: trial.point(name, action))


NTH_POINTS = {
    "file": ("local.write", "local.sync", "local.rename", "local.create", "lane.batch"),
    "blob": ("azblob.block", "azblob.list", "lane.batch"),
    "postgres": ("postgres.connect", "postgres.copy.send", "postgres.commit", "lane.batch"),
}
NTH_CALLS = {
    "file": (("write", "ENOSPC"), ("write", "EIO"), ("fsync", "EIO"), ("renameat", "EIO"), ("renameat2", "EIO")),
    "postgres": (("connect", "ECONNREFUSED"), ("connect", "ETIMEDOUT")),
    "blob": (("connect", "ECONNREFUSED"),),
    "mariadb": (("connect", "ECONNREFUSED"),),
    "sqlite": (("pwrite64", "ENOSPC"), ("fdatasync", "EIO"), ("fsync", "EIO")),
}
NTH_MOST = 40


def nth(world, count):
    """The first, second, third, ... of something fails, until a copy ends without coming to the n-th."""
    strace = subprocess.run(["which", "strace"], stdout=subprocess.DEVNULL, check=False).returncode == 0
    loops = []
    for target in world.targets:
        family = target.name.split("-")[0]
        loops += [(target, "point", name) for name in NTH_POINTS.get(family, ())]
        loops += [(target, "call", call) for call in NTH_CALLS.get(family, ()) if strace]
    random.Random(f"{world.seed}/nth").shuffle(loops)
    for target, how, what in loops[: count or None]:
        for n in range(1, NTH_MOST + 1):
            if world.late():
                return
            name = what if how == "point" else f"{what[0]}={what[1]}"
            trial = Trial(world, "nth", f"{name}/{n}", target, world.seed)
            trial.answer = True
            if how == "point":
                held = world.attempt(trial, lambda: trial.point(what, "error", n))
            else:
                held = world.attempt(trial, lambda: trial.system_call(*what, n))
            if not held or not trial.answer:
                break


def again(world, text):
    """One trial of an earlier campaign."""
    kind, rest = text.split("/", 1)
    number, name = rest.rsplit("/", 1)
    target = next(target for target in world.targets if target.name == name)
    trial = Trial(world, kind, int(number) if number.isdigit() else number, target, world.seed)
    world.seconds[target.name] = trials.plain(world, target, world.seed)
    if kind == "point":
        point, action = number.split("/")
        world.attempt(trial, lambda: trial.point(point, action))
    elif kind == "nth":
        what, n = number.split("/")
        if "=" in what:
            world.attempt(trial, lambda: trial.system_call(*what.split("="), int(n)))
        else:
            world.attempt(trial, lambda: trial.point(what, "error", int(n)))
    elif kind == "network":
        network.again(world, trial, number)
    else:
        world.attempt(trial, getattr(trial, kind))
    print(json.dumps(world.results[-1], indent=1))


def summary(world):
    table = {}
    for result in world.results:
        if result["plant"]:
            continue
        family = result["target"].split("-")[0]
        cell = table.setdefault((result["kind"], family), [0, 0, 0.0])
        cell[0] += 1
        cell[1] += bool(result["wrong"])
        cell[2] += result["seconds"]
    world.say(f"\n{'kind':10} {'sink':10} {'trials':>7} {'wrong':>6} {'seconds':>8}")
    for (kind, family), (count, wrong, seconds) in sorted(table.items()):
        world.say(f"{kind:10} {family:10} {count:>7} {wrong:>6} {seconds:>8.0f}")
    kills = [result for result in world.results if result["kind"] == "kill" and not result["plant"]]
    met = sum(bool(result.get("met")) for result in kills)
    if kills:
        new = sum(result.get("found") == "new" for result in kills)
        world.say(f"{met} of {len(kills)} kills met a living worker; {new} came after the commit")
    looks = sum(result.get("looks", 0) for result in world.results)
    if looks:
        world.say(f"readers looked {looks} times")
    points = declared_points()
    never = sorted(set(points) - world.ever_seen())
    world.say(f"{len(points)} failpoints declared, {len(points) - len(never)} reached")
    if never:
        world.say(f"never reached: {', '.join(never)}")
    wrong = sum(bool(result["wrong"]) for result in world.results if not result["plant"])
    world.say(f"{sum(cell[0] for cell in table.values())} trials, {wrong} wrong")
    return wrong


def number_or_all(text):
    return 0 if text == "all" else int(text)


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--proxy")
    parser.add_argument("--servers", required=True)
    parser.add_argument("--seed", type=int, default=20261121)
    for name in ("kills", "zombies", "late", "replaces", "foreign", "clocks", "durable", "server-kills", "stack"):
        parser.add_argument(f"--{name}", type=int, default=0)
    for name in ("failpoints", "nth", "network"):
        parser.add_argument(f"--{name}", type=number_or_all)
    parser.add_argument("--bugs")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--targets")
    parser.add_argument("--only")
    parser.add_argument("--rows", type=int, default=12000)
    parser.add_argument("--result")
    return parser.parse_args()


def campaign(world, arguments):
    every = world.targets
    for target in list(every):
        begun = time.monotonic()
        try:
            world.seconds[target.name] = trials.plain(world, target, world.seed)
        except Wrong as error:
            fault = str(error)
            # A mode that a store does not claim yet is refused, and said so; that is no fault of the harness.
            if "NotSupported" in fault or "UserErrorSettings" in fault:
                world.say(f"not yet: {target.name}: {fault[:160]}")
                every.remove(target)
            else:
                world.note("plain", 0, target.name, begun, {"check": error.check, "why": error.why}, {})
                every.remove(target)
    plain = (f"{name} ({world.shapes[name]}) {seconds:.2f} s" for name, seconds in world.seconds.items())
    world.say("plain: " + ", ".join(plain))
    of_kind(world, "kill", arguments.kills, every)
    of_kind(world, "zombie", arguments.zombies, every)
    of_kind(world, "late", arguments.late, every)
    of_kind(world, "replace", arguments.replaces, [target for target in every if target.polls])
    of_kind(world, "foreign", arguments.foreign, [target for target in every if hasattr(target, "write_foreign")])
    of_kind(world, "clock", arguments.clocks, every)
    of_kind(world, "durable", arguments.durable, [target for target in every if target.name.startswith("file")])
    of_kind(world, "server", arguments.server_kills, [target for target in every if target.server])
    if arguments.failpoints is not None:
        failpoints(world, arguments.failpoints)
    if arguments.nth is not None:
        nth(world, arguments.nth)
    if arguments.network is not None:
        network.run(world, arguments.network)
    if arguments.stack:
        stack.run(world, arguments.stack)


def main():
    arguments = parsed()
    with open(arguments.program, "rb") as file:
        if b"DMG_FAILPOINTS_SEEN" not in file.read():
            print("SKIPPED: the executable has no failpoints; build it with --features dmg/failpoints")
            return 3
    world = World(arguments)
    try:
        if arguments.only:
            again(world, arguments.only)
            return int(bool(world.results[-1]["wrong"]))
        campaign(world, arguments)
        missed = bugs.run(world, arguments.bugs) if arguments.bugs else []
        wrong = summary(world)
        return 1 if wrong or missed else 0
    finally:
        world.close()


if __name__ == "__main__":
    sys.exit(main())
