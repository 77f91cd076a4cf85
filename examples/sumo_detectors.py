"""What the detectors of a recipe (`make deploy`) would read, from a SUMO."""

from collections import Counter, defaultdict


class Detectors:
    """Detectors, and requests for priority; `vehicle` is that of libsumo or traci."""

    def __init__(self, recipe, vehicle):
        self.plans, self.decision_s, self.vehicle = recipe["signals"], recipe["timing"]["decision_s"], vehicle
        self.reach_m, self.stretches = recipe["observation"]["detection_m"], defaultdict(list)
        self.kinds, self.seen, self.failed = recipe["priority"]["range_m"], recipe["seen"], {}
        self.occupancy = recipe.get("occupancy", {})
        self.behind = {lane for plan in self.plans.values() for link in plan["links"] for lane in link["receiving"]}
        for own, lane in (pair for plan in self.plans.values() for pair in plan["lanes"].items()):
            self.failed[own] = lane["failed"]
            for stretch in lane["detectors"]:
                self.stretches[stretch["lane"]].append((own, stretch))

    def read(self):
        vehicle, speeds, (lanes, receiving) = self.vehicle, defaultdict(float), (defaultdict(Counter) for _ in range(2))
        if self.seen is not None:  # else every vehicle within reach is
            lanes.update({lane: Counter(failed=share) for lane, share in self.failed.items()})
            receiving.update({lane: Counter(failed=int(lane not in self.seen)) for lane in self.behind})
        links, priority = {signal: defaultdict(Counter) for signal in self.plans}, defaultdict(list)
        for name in (name for name in vehicle.getIDList() if not vehicle.getStopState(name) & 2):  # 2: parked
            lane, pos_m, speed = vehicle.getLaneID(name), vehicle.getLanePosition(name), vehicle.getSpeed(name)
            state = "halting" if speed < 0.1 else "moving"
            if self.kinds and (asked := self.request(name)):
                priority[asked[0]].append(asked[1])
            if self.seen is not None and not any(first <= pos_m <= last for first, last in self.seen.get(lane, ())):
                continue
            if lane in self.behind:
                receiving[lane].update(vehicles=1, halting=int(state == "halting"))
            for own, stretch in self.stretches[lane]:
                if (to_line_m := stretch["offset_m"] + (stretch["length_m"] - pos_m)) <= self.reach_m:
                    row, share = lanes[own], stretch["share"]
                    row[state] += share
                    row["arriving"] += share * (state == "moving" and to_line_m < speed * self.decision_s)
                    speeds[own] += share * min(1, speed / stretch["limit_ms"])
                    row["speed"] = speeds[own] / (row["halting"] + row["moving"])
                    row["waiting_s"] = max(row["waiting_s"], vehicle.getWaitingTime(name) if state == "halting" else 0)
            ahead = vehicle.getNextTLS(name) if self.stretches[lane] else ()
            for signal, link, distance_m, _ in (row for row in ahead[:1] if row[0] in self.plans and row[2] <= self.reach_m):
                arriving = state == "moving" and distance_m < speed * self.decision_s
                near, row = int(distance_m < 50), {state: 1, "arriving": int(arriving)}
                persons = self.occupancy.get(vehicle.getVehicleClass(name), 1) + vehicle.getPersonNumber(name)
                row |= {"near": near, "persons": persons, "persons_near": near * persons}
                links[signal][str(link)].update(row)
        return {"lanes": lanes, "links": links, "receiving": receiving} | ({"priority": priority} if self.kinds else {})

    def request(self, name):
        """Return the signal that a vehicle asks for priority, with what it says."""
        kind = {"emergency": "emergency", "bus": "transit", "tram": "transit"}.get(self.vehicle.getVehicleClass(name))
        if kind in self.kinds and not self.vehicle.getStopState(name) & 1:  # 1: at a stop
            for signal, link, distance_m, _ in self.vehicle.getNextTLS(name)[:1]:
                if signal in self.plans:
                    return signal, {"vehicle": name, "kind": kind, "link": link, "distance_m": max(0, distance_m)}
        return None
