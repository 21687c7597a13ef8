"""Servers, sources and targets of one campaign, what is armed, and where its results go."""

import glob
import json
import os
import subprocess
import tempfile
import time
import traceback

import servers
import sources
import targets
import trials
from trials import Wrong


class World:
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
        # Of undisturbed copies, by source and target: seconds of each stage; and how much of it kills may wait for.
        self.lengths, self.reaches, self.points_of = {}, {}, {}
        self.shapes, self.results, self.moved = {}, [], set()
        self.result_file = arguments.result and open(arguments.result, "a", encoding="utf-8")
        self.begun = time.monotonic()
        self.postgres = self.azurite = self.mariadb = self.sqlserver = None
        try:
            self.furnish(arguments)
        except BaseException:
            self.close()
            raise

    def furnish(self, arguments):
        names = arguments.targets.split(",") if arguments.targets else []
        from_names = arguments.sources.split(",") if arguments.sources else []
        self.start_servers({name.split("-")[0] for name in names + from_names}, arguments)
        self.sources, self.sets = sources.make(self, from_names, arguments.rows)
        self.targets = targets.make(self, names)

    def start_servers(self, wanted, arguments):
        self.postgres = servers.Postgres(self.path("postgres"))
        if not wanted or "blob" in wanted:
            self.azurite = servers.Azurite(self.path("azurite"), arguments.servers)
        if not wanted or "mariadb" in wanted:
            for attempt in ("a", "b"):
                try:
                    self.mariadb = self.mariadb or servers.MariaDb(self.path(f"mariadb-{attempt}"))
                except (OSError, subprocess.CalledProcessError) as error:
                    self.say(f"MariaDB does not start: {error}")
        if arguments.tds and (not wanted or "sqlserver" in wanted):
            self.sqlserver = servers.SqlServer(os.path.abspath(arguments.tds))

    def source_of(self, chance):
        """Half of all trials read the first source; the others share the rest."""
        first, *others = self.sources.values()
        return chance.choice(others) if others and chance.random() < 0.5 else first

    def learn(self, trial, worker):
        """An undisturbed copy tells how long its stages are."""
        times = worker.times
        if "planned" not in times or "mayCommit" not in times:
            return
        marks = [worker.begun, *(times[name] for name in ("planned", "mayCommit", "finished")), times.get("gone")]
        if marks[-1] is None:
            return
        own = self.lengths.setdefault((trial.source.family, trial.target.name), {})
        for name, begun, ended in zip(("plan", "move", "commit", "report"), marks, marks[1:]):
            own[name] = (own.get(name, ended - begun) * 2 + (ended - begun)) / 3

    def length(self, trial, stage):
        own = self.lengths.get((trial.source.family, trial.target.name))
        if not own:
            own = next((own for (_, name), own in self.lengths.items() if name == trial.target.name), {})
        return own.get(stage, 0.05)

    def reach(self, trial, stage):
        """How much of a stage's length a kill may wait, so that nearly all kills meet a living worker."""
        return self.reaches.get((trial.target.name, stage), 1.0)

    def reached(self, trial, stage, met):
        reach = self.reach(trial, stage)
        self.reaches[trial.target.name, stage] = min(reach * 1.05, 1.2) if met else max(reach * 0.8, 0.02)

    def reached_before_commit(self, target):
        """The points that a plain copy into a target comes by before it asks for the commit, in order."""
        if target.name not in self.points_of:
            self.forget_seen()
            trials.plain(self, target, self.seed)
            with open(self.path("seen"), encoding="utf-8") as file:
                self.points_of[target.name] = file.read().split()
        points = self.points_of[target.name]
        return points[: points.index("engine.commit.ask")]

    def path(self, name):
        return os.path.join(self.folder, name)

    def say(self, line):
        print(line, flush=True)

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

    def ended(self):
        """Logs of workers are kept for as long as they may tell something."""
        if not self.results[-1]["wrong"]:
            for path in glob.glob(self.path("worker-*.log")):
                os.remove(path)

    def late(self):
        return self.arguments.minutes and time.monotonic() - self.begun > self.arguments.minutes * 60

    def close(self):
        for server in (self.postgres, self.azurite, self.mariadb, self.sqlserver):
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
            trial.answer = work(trial)
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
        self.ended()
        if wrong and not self.plant:
            self.say(f"WRONG {kind}/{number}/{target}: {wrong['check']}: {wrong['why']} {json.dumps(notes)}")
            self.say(f"  again: cargo xtask chaos --seed {self.seed} --only {kind}/{number}/{target}")
        return wrong is None
