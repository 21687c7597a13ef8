"""A bad network between worker and store: every fault against every store, as source and as sink. The copy ends with
the right content, or with one clear fault and the old content whole, and always within a stated time."""

import random
import time

from proxy import Proxies
from stores import PORTS
from trials import Trial, Wrong

# A trial ends within this. The longest wait that the product names is 60 s, for a lock at the commit.
DEADLINE = 120
# So long a stalled connection stays open: a peer that is there and says nothing, such as a server that sorts, is waited
# for; a peer that has gone is noticed by the system within 30 s (crates/connector/src/session.rs).
STALL = 3
FAULTS = {
    "cut": "cut way={way} seed={seed} within={bytes}",
    "reset": "reset way={way} seed={seed} within={bytes}",
    "stall": "halfopen way={way} seed={seed} within={bytes}",
    "truncate": "truncate seed={seed} within={bytes}",
    "corrupt": "corrupt way={way} seed={seed} within={bytes}",
    "delay": "delay way={way} ms=30 times=0",
    "throttle": "throttle way={way} rate=1500000 times=0",
    "refused": "cut way=up after=0 skip={skip}",
    "silent": "halfopen way={way} seed={seed} within={bytes} times=0",
    "always-cut": "cut way={way} seed={seed} within={bytes} times=0",
}
HTTP = {
    "busy-429": "http status=429 retry=1 times=2 after={skip}",
    "busy-503": "http status=503 retry=1 times=2 after={skip}",
    "always-503": "http status=503 retry=1 times=0",
}
# A store that is there and never says a word again: the copy gives up when the author's limits are over.
LIMITS = {"queryTimeoutMillis": 4000, "commitTimeoutMillis": 4000, "stallTimeoutMillis": 2000}
HARMLESS = ("delay", "throttle")
# Stores that rows reach without TLS in these trials.
PLAIN = ("postgres", "mariadb", "sqlserver", "blob")


def cases(world):
    """Fault, way, side and target; the source's family stands in the side."""
    found, sinks = [], {}
    for target in world.targets:
        if target.family in PORTS:
            sinks.setdefault(target.family, []).append(target)
    for family, those in sinks.items():
        for name in [*FAULTS, *(HTTP if family == "blob" else ())]:
            found += [(name, way, "sink", target) for way in ("up", "down") for target in those]
    for family in world.sources:
        if family not in PORTS:
            continue
        for name in [*FAULTS, *(HTTP if family == "blob" else ())]:
            # A byte turned on the way from a source without TLS arrives as another value; nobody can know.
            if name != "corrupt":
                chosen = world.targets[:: max(len(world.targets) // 4, 1)]
                found += [(name, way, f"source-{family}", target) for way in ("up", "down") for target in chosen]
    return found


def listening(world, trial, side):
    """The name of the proxy before a side, and where the worker reaches source and sink."""
    if not hasattr(world, "proxies"):
        world.proxies, world.ports, world.sizes = Proxies(world.proxy_program), {}, {}
    family = trial.target.family
    if side.startswith("source-"):
        family = side.split("-")[1]
        trial.source = world.sources[family]
        trial.notes["source"] = family
    label = f"{family}-{side.split('-')[0]}"
    if label not in world.ports:
        world.ports[label] = world.proxies.listen(label, PORTS[family](world))
    return label, (world.ports[label], None) if side.startswith("source") else (None, world.ports[label])


def passing(world, trial, label, ports):
    """How many bytes pass without a fault, up and down, says where one may be placed."""
    key = (label, trial.source.family, trial.target.name)
    world.proxies.set(label, "none")
    if key not in world.sizes:
        worker = trial.worker(ports=ports)
        if trial.last_word(worker)["say"] != "finished":
            raise Wrong("plain", f"through the proxy: {worker.fault}")
        world.sizes[key] = world.proxies.seen(label)[2:]
        trial.target.prepare()
        trial.run = trial.run[::-1].replace("-", "")[:8] + trial.run[8:]
        trial.epoch = 0
    return world.sizes[key]


def one(trial, name, way, side):
    world = trial.world
    label, ports = listening(world, trial, side)
    trial.target.prepare()
    before = passing(world, trial, label, ports)
    fault = {**FAULTS, **HTTP}[name].format(
        way=way,
        seed=trial.chance.getrandbits(40),
        bytes=max(before[way == "down"] // 2, 1),
        skip=trial.chance.randrange(3),
    )
    trial.notes.update(fault_order=fault, way=way, side=side)
    trial.options = LIMITS if name == "silent" else {}
    world.proxies.set(label, fault)
    begun = time.monotonic()
    worker = trial.worker(ports=ports)
    if name == "stall":
        while world.proxies.seen(label)[1] == 0 and not worker.find("finished", "failed", "gone"):
            time.sleep(0.02)
        time.sleep(STALL)
        struck = world.proxies.seen(label)[1]
        world.proxies.set(label, "none")
    last = worker.end(DEADLINE)
    trial.notes["took"] = round(time.monotonic() - begun, 1)
    trial.notes["struck"] = struck if name == "stall" else world.proxies.seen(label)[1]
    world.proxies.set(label, "none")
    trial.options = {}
    if last is None:
        worker.kill()
        raise Wrong("no-hang", f"{fault}: no word for {DEADLINE} s; the last was {worker.said[-1:]}")
    trial.notes["first"] = last["say"]
    if last["say"] == "gone":
        raise Wrong("clear-fault", f"{fault}: the worker ended without a word")
    found = trial.old_or_new()
    if last["say"] == "finished":
        trial.acknowledged(found)
        trial.notes["repeated"] = (last["receipt"].get("repeated") or {}).get("parts", 0)
        trial.receipt_tells(last["receipt"], None, None)
        return trial.is_new()
    trial.clear_fault(last["fault"])
    if name in HARMLESS:
        raise Wrong("harmless", f"{fault}: a slow network ended the copy: {last['fault']}")
    trial.fault_means_old(last["fault"], found)
    return trial.converges(plan=worker.plan, ports=ports)


def corrupt(trial):
    """A bit is turned on the way to a sink without TLS. The proof finds it, or it did no harm."""
    one(trial, "corrupt", "up", "sink")


def repeat(trial):
    """One connection to source or sink is cut in the middle of the rows: the part is done again, or the fault is clear."""
    family = trial.chance.choice([name for name in ("postgres", "blob", "mariadb") if name in trial.world.sources])
    sides = [f"source-{family}"] + (["sink"] if trial.target.family in PORTS else [])
    one(trial, "cut", trial.chance.choice(("up", "down")), trial.chance.choice(sides))


def case_of(world, number):
    name, way, side = number.split(".")
    return lambda trial: one(trial, name, way, side)


def run(world, count):
    if not world.proxy_program:
        world.say("no fault proxy given")
        return
    everything = cases(world)
    random.Random(f"{world.seed}/network").shuffle(everything)
    for name, way, side, target in everything[: count or None]:
        if world.late():
            break
        trial = Trial(world, "network", f"{name}.{way}.{side}", target, world.seed)
        world.attempt(trial, case_of(world, trial.number))


KINDS = {"corrupt": corrupt, "repeat": repeat}
