"""Detector readings in, phases and lights out: a trained policy on the street. Needs numpy and onnxruntime alone.

    controller = StreetController("deploy/grid2x2-pretrained", now=0)
    lights = controller.lights(now)             # every second: the state that each signal shows
    controller.decide(now, readings)            # every decision_s seconds: the phases asked for

`readings` has four parts; what is missing reads as no vehicle. `recipe.json` says which stretches of road belong to each lane.

    lanes:     {lane: {halting, moving, arriving, speed, waiting_s, failed}}     lanes that lead to a signal
    links:     {signal: {"0": {halting, moving, arriving, near, persons, persons_near}}}     by the link that vehicles will pass
    receiving: {lane: {vehicles, halting, failed}}                               lanes behind the signals
    priority:  {signal: [{vehicle, kind, link, distance_m}]}                     who asks for green; kind: emergency or transit

Counts are vehicles within `detection_m` of the stop line. halting: below 0.1 m/s. arriving: moving, and at the stop line before
the next decision. near: within 50 m. persons: in these vehicles, else one in each. speed: mean of min(1, speed / limit).
waiting_s: the longest stand. failed: share that is blind, 0 to 1. Kinds of `priority` are those of `range_m` in the recipe; a
vehicle at a stop does not ask. A signal that runs elsewhere is left out of `signals`; its present phase comes with
`decide(shown=...)`.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports]

FORMAT = 2
"""Version of recipe.json."""


class StreetSignal:
    """Phase, times and lights of one signal: it keeps yellow, all-red, greens, clearances, the longest red, and its limits."""

    def __init__(self, plan: dict, timing: dict, now: float) -> None:
        self.plan, self.timing, self.phase, self.changed_s, self.shown_s = plan, timing, plan["first"], now, now
        self.change_s, self.stages = plan["change_s"], [(now, plan["phases"][self.phase]["state"])]
        self.green = np.array([[char in "Gg" for char in phase["state"]] for phase in plan["phases"]])
        self.walk = np.isin(np.arange(self.green.shape[1]), plan["crossings"])
        links, allowed = (plan["longest_red"] or {"links": []})["links"], np.array([bool(after) for after in plan["onward"]])
        self.limited = self.green & np.isin(np.arange(self.green.shape[1]), links) & allowed[:, None]
        self.red_since = np.full(self.green.shape[1], float(now))
        self.lit, self.served, self.served_s = "", "", (0.0, 0.0)

    def may_change(self, now: float) -> bool:
        return now - self.changed_s >= self.change_s + self.plan["phases"][self.phase]["least_green_s"]

    def legal(self, now: float) -> np.ndarray:
        onward, own = self.plan["onward"][self.phase] if self.may_change(now) else (), self.plan["phases"][self.phase]
        choices = np.isin(np.arange(len(self.green)), [self.phase, *onward])
        legal = choices.copy()
        if onward and own["most_green_s"] is not None:
            legal[self.phase] = now + self.timing["decision_s"] + own["ending_s"] <= self.shown_s + own["most_green_s"]
        if onward and self.plan["longest_red"] is not None:
            legal[legal] = [self.keeps_longest_red(int(phase), now) for phase in np.flatnonzero(legal)]
        return legal if legal.any() else choices  # none where another program has shown the phases

    def keeps_longest_red(self, phase: int, now: float) -> bool:
        """Whether all limited links can still have green in time: in the fixed order, else the most urgent first."""
        limit, red_since, then = self.plan["longest_red"], self.red_since, now + self.timing["decision_s"]
        if phase != self.phase:
            visit_s = limit["visit_s"][self.phase][phase] if limit["waits_s"] else limit["service_s"]
            red_since, then = self.red_after(phase, now), now + visit_s
            waiting = self.limited[phase] & ~self.green[self.phase]
            start = now + sum(seconds for seconds, _ in self.plan["changes"][self.phase][phase])
            if waiting.any() and red_since[waiting].min() + limit["seconds"] < start:
                return False
        if limit["waits_s"]:
            due = self.limited.any(axis=0) & ~self.limited[phase]
            return bool((then + np.array(limit["waits_s"][phase], float) <= red_since + limit["seconds"])[due].all())
        counted, deadlines = self.limited[phase], []
        for other in limit["cover"]:
            links = self.limited[other] & ~counted
            deadlines.append(red_since[links].min() + limit["seconds"] if links.any() else np.inf)
        starts = then + limit["longest_change_s"] + limit["service_s"] * np.arange(len(deadlines))
        return bool((starts <= np.sort(deadlines)).all())

    def red_after(self, phase: int, now: float) -> np.ndarray:
        green, red_since = self.green[self.phase], self.red_since.copy()
        red_since[green] = now + self.plan["early_s"][self.phase][phase] + self.plan["yellow_s"][self.phase][phase]
        red_since[green & self.walk] = now
        return red_since

    def preferred(self, legal: np.ndarray, asked: list, now: float, rules: dict) -> np.ndarray:
        """Return the phases that may be chosen: of the legal ones those that serve the vehicle that has priority."""
        able = sorted(
            (own["kind"] == "transit", own["distance_m"], own["vehicle"], own["link"])
            for own in asked
            if own["distance_m"] <= rules["range_m"][own["kind"]] and self.may_serve(own, now, rules)
        )
        if not able:
            return legal
        is_transit, _, vehicle, link = able[0]
        if is_transit:
            self.served, self.served_s = vehicle, (self.served_s[0] if vehicle == self.served else now, now)
        shown = np.array([phase["state"][link] for phase in self.plan["phases"]])
        serving = (legal & (shown == "G"), legal & np.isin(shown, ["G", "g"]))
        return next((phases for phases in serving if phases.any()), legal)

    def may_serve(self, asked: dict, now: float, rules: dict) -> bool:
        """Whether a vehicle may have priority; one of public transport for a while, and a while after the last one."""
        since_s, until_s = self.served_s
        if asked["vehicle"] == self.served:
            return now - since_s < rules["longest_s"]
        return asked["kind"] == "emergency" or not self.served or now - until_s >= rules["rest_s"]

    def follow(self, state: str, now: float) -> bool:
        """Take in what the signal's own program shows; return whether that is a phase. Its green counts from now on."""
        if self.stages or state != self.lit:
            self.changed_s, self.change_s, self.shown_s = now, 0, now
        self.lit, self.stages, self.red_since[:] = state, [], now
        numbers = (number for number, onward in enumerate(self.plan["onward"]) if onward)
        shown = next((number for number in numbers if self.plan["phases"][number]["state"] == state), None)
        self.phase = self.phase if shown is None else shown
        return shown is not None

    def request(self, phase: int, now: float) -> None:
        """Ask for a legal phase."""
        if phase != self.phase:
            self.red_since, start, self.shown_s = self.red_after(phase, now), now, now
            state = self.plan["phases"][phase]["state"]
            for seconds, between in self.plan["changes"][self.phase][phase]:
                self.stages.append((start, between))
                start += seconds
                self.shown_s = self.shown_s if between == state else start
            self.stages.append((start, state))
            self.phase, self.changed_s, self.change_s = phase, now, start - now

    def light(self, now: float) -> str:
        while self.stages and self.stages[0][0] <= now:
            self.lit = self.stages.pop(0)[1]
        return self.lit


class StreetController:
    """The signals of a folder that `deploy` wrote, or some of them; `signals` has their phases and times."""

    def __init__(self, folder: str | Path, now: float, signals: tuple[str, ...] = ()) -> None:
        self.recipe = json.loads(Path(folder, "recipe.json").read_text(encoding="utf-8"))
        if self.recipe["format"] != FORMAT:
            raise ValueError(f"recipe.json has format {self.recipe['format']}, expected {FORMAT}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.actor = onnxruntime.InferenceSession(str(Path(folder, "actor.onnx")), options)
        plans, self.timing, self.size = self.recipe["signals"], self.recipe["timing"], self.recipe["size"]
        self.signals = {name: StreetSignal(plans[name], self.timing, now) for name in signals or plans}
        self.rows = {name: row for row, name in enumerate(self.signals)}
        n, links, phases, static = len(self.signals), *(self.size[name] for name in ("links", "phases", "static"))
        shapes = {"link_static": (n, links, static), "memory": (n, self.size["memory"])}
        self.given: dict[str, np.ndarray] = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if shape[-1]}
        self.given |= {"link_real": np.zeros((n, links), bool), "phase_real": np.zeros((n, phases), bool)}
        self.given["serves"] = np.zeros((n, phases, links), np.int64)
        for i, signal in enumerate(self.signals.values()):
            for k, link in enumerate(signal.plan["links"]):
                self.given["link_static"][i, k], self.given["link_real"][i, k] = link["static"], True
            for p, phase in enumerate(signal.plan["phases"]):
                self.given["serves"][i, p, : len(phase["serves"])], self.given["phase_real"][i, p] = phase["serves"], True
        self.green_s: dict[tuple[str, int], float] = {}

    def lights(self, now: float) -> dict[str, str]:
        """Return the state that each signal shows; call it every second, and after a decision."""
        return {name: signal.light(now) for name, signal in self.signals.items()}

    def restart(self, name: str, now: float) -> None:
        """Forget what a signal did before."""
        self.signals[name] = StreetSignal(self.recipe["signals"][name], self.timing, now)
        self.green_s = {link: seconds for link, seconds in self.green_s.items() if link[0] != name}
        if "memory" in self.given:
            self.given["memory"][self.rows[name]] = 0

    def decide(self, now: float, readings: dict, shown: dict[str, int] | None = None) -> dict[str, int]:
        """Return the phase of each signal, and start the changes to them."""
        chosen = self.choose(now, readings, shown, tuple(self.signals))
        for name, phase in chosen.items():
            self.signals[name].request(phase, now)
        return chosen

    def choose(self, now: float, readings: dict, shown: dict[str, int] | None, signals: tuple[str, ...]) -> dict[str, int]:
        """Return the phase of some signals, and start nothing."""
        present = {**(shown or {}), **{name: signal.phase for name, signal in self.signals.items()}}
        n, size, own = len(signals), self.size, [self.rows[name] for name in signals]
        links = np.zeros((n, size["links"], size["link"]), np.float32)
        phases = np.zeros((n, size["phases"], size["phase"]), np.float32)
        rows = np.zeros((n, size["signal"]), np.float32)
        for i, name in enumerate(signals):
            signal = self.signals[name]
            asked = readings.get("priority", {}).get(name, [])
            legal = signal.preferred(signal.legal(now), asked, now, self.recipe["priority"])
            phases[i, signal.phase, 0], phases[i, : len(legal), 1] = 1, legal
            rows[i] = [min(1, (now - signal.changed_s) / 60), signal.may_change(now), *signal.plan["timing_features"]]
            for k in range(len(signal.plan["links"])):
                links[i, k] = self.link(name, k, now, readings, present)
        given = {name: values[own] for name, values in self.given.items()}
        scores, *memory = map(np.asarray, self.actor.run(None, {**given, "links": links, "phases": phases, "signal": rows}))
        if not np.isfinite(scores[phases[..., 1] > 0]).all():
            raise ValueError("the actor's scores are not finite")
        if memory:
            self.given["memory"][own] = memory[0]
        return dict(zip(signals, np.where(phases[..., 1] > 0, scores, -np.inf).argmax(-1).tolist(), strict=True))

    def link(self, name: str, k: int, now: float, readings: dict, present: dict[str, int]) -> list[float]:
        """Return the inputs of one link, in the order of `inputs` in the recipe."""
        plans, link = self.recipe["signals"], self.recipe["signals"][name]["links"][k]
        share = plans[name]["lanes"][link["in_lane"]]["links"]
        lane = readings.get("lanes", {}).get(link["in_lane"], {})
        bound = readings.get("links", {}).get(name, {}).get(str(link["link"]), {})
        behind = [readings.get("receiving", {}).get(other, {}) for other in link["receiving"]]
        vehicles, halting = (sum(reading.get(key, 0) for reading in behind) for key in ("vehicles", "halting"))
        green = plans[name]["phases"][present[name]]["serves"][k] > 0
        ahead = [plans[other]["phases"][present[other]]["serves"][m] > 0 for other, m in link["ahead"] if other in present]
        if green:
            self.green_s[name, k] = now
        count, near = bound.get("halting", 0) + bound.get("moving", 0), bound.get("near", 0)
        persons = [bound.get("persons", count) / 30, bound.get("persons_near", near) / 30]
        return [
            lane.get("halting", 0) / 10 / share, lane.get("moving", 0) / 10 / share, lane.get("arriving", 0) / 5 / share,
            lane.get("speed", 1), min(lane.get("waiting_s", 0), 300) / 100,
            bound.get("halting", 0) / 10, bound.get("moving", 0) / 10, bound.get("arriving", 0) / 5, near / 5,
            min(1.5, vehicles / link["capacity_veh"]), halting / 10, min(2, max(0, (link["capacity_veh"] - vehicles) / 10)),
            sum(ahead) / max(1, len(link["ahead"])),
            green, min(3, (now - self.green_s.setdefault((name, k), now)) / 120),
            lane.get("failed", 0), sum(reading.get("failed", 0) for reading in behind) / len(behind),
            *(persons if "bound_persons" in self.recipe["inputs"]["links"] else ()),
        ]  # fmt: skip


if __name__ == "__main__":  # how long a decision takes
    for own in [*json.loads(Path(sys.argv[1], "recipe.json").read_text(encoding="utf-8"))["signals"], ""]:
        controller = StreetController(sys.argv[1], 0, (own,) if own else ())
        begun = time.perf_counter()
        for second in range(0, 1000, 5):
            controller.decide(second, {})
        print(f"{own or 'all together'}: {(time.perf_counter() - begun) / 200 * 1000:.2f} ms a decision")
