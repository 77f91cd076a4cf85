// A corridor that one clicks together, and its time-space diagram.

const SPAN_S = 300, GAP_S = 60;

class Corridor {
  constructor(roads) { this.roads = roads; this.clear(); }

  clear() { this.signals = []; this.edges = []; this.stops = []; this.long = 0; this.begin = new Map(); this.failed = ""; }

  // Add a signal; the shortest way by road joins it to the one before.
  add(n) {
    const {signals} = this, last = signals.at(-1);
    this.failed = "";
    if (n === last) return;
    if (last === undefined) { signals.push(n); return; }
    const leg = this.way(last, n);
    if (!leg) {
      this.failed = `no road leads from ${this.roads.signals[last].name} to ${this.roads.signals[n].name}`;
      return;
    }
    if (!this.edges.length) this.edges.push(...this.entry(last, leg[0]));
    this.edges.push(...leg);
    signals.push(n);
    this.measure();
  }

  ends(n, which) {
    return new Set(this.roads.signals[n].links.map(link => this.roads.edge[link[which]]));
  }

  length(edge) { return this.roads.length[this.roads.lanesOf[edge][0]]; }

  // Roads from behind signal a to the stop line of signal b; the first must follow the road by which a corridor comes to a.
  way(a, b) {
    const {roads} = this, targets = this.ends(b, 1), before = new Map(), far = new Map(), open = [];
    const reach = (edge, metres, from) => {
      if (metres >= (far.get(edge) ?? Infinity)) return;
      far.set(edge, metres); before.set(edge, from); open.push([metres, edge]);
    };
    const starts = this.edges.length ? this.next(this.edges.at(-1)) : this.ends(a, 2);
    for (const edge of starts) reach(edge, this.length(edge), null);
    while (open.length) {
      let least = 0;
      for (let i = 1; i < open.length; i++) if (open[i][0] < open[least][0]) least = i;
      const [[metres, edge]] = open.splice(least, 1);
      if (metres > far.get(edge)) continue;
      if (targets.has(edge)) {
        const leg = [];
        for (let at = edge; at !== null; at = before.get(at)) leg.unshift(at);
        return leg;
      }
      for (const other of this.next(edge)) reach(other, metres + this.length(other), edge);
    }
    return null;
  }

  next(edge) {
    const {roads} = this;
    return [...roads.follows.subarray(roads.followsFirst[edge], roads.followsFirst[edge + 1])];
  }

  // The approach of the first signal from which one drives most nearly straight on.
  entry(n, edge) {
    const {roads} = this, links = roads.signals[n].links.filter(link => roads.edge[link[2]] === edge);
    const straight = links.find(link => link[3] === "s") ?? links[0];
    return straight ? [roads.edge[straight[1]]] : [];
  }

  measure() {
    const {roads} = this, from = {}, to = {};
    this.begin.clear(); this.stops = []; this.long = 0;
    this.edges.forEach((edge, i) => {
      const lane = roads.lanesOf[edge][0], next = this.edges[i + 1];
      this.begin.set(edge, this.long);
      this.long += this.length(edge);
      const approach = this.roads.approaches.find(some => some.edge === edge);
      if (approach) {
        const {links} = roads.signals[approach.signal], own = links.filter(link => roads.edge[link[1]] === edge);
        const onward = own.filter(link => next === undefined ? link[3] === "s" : roads.edge[link[2]] === next);
        this.stops.push({signal: approach.signal, at: this.long, links: (onward.length ? onward : own).map(link => link[0])});
      }
      if (next === undefined) return;
      roads.place(lane, roads.length[lane], from); roads.place(roads.lanesOf[next][0], 0, to);
      this.long += Math.hypot(to.x - from.x, to.y - from.y);
    });
  }

  text() {
    const enough = this.signals.length > 1, names = this.signals.map(n => shortened(this.roads.signals[n].name)).join(" → ");
    const advice = enough ? `${Math.round(this.long)} m. Click a signal to go on` : "Click two signals or more, as one drives";
    return [names, this.failed, advice].filter(Boolean).map(part => `${part}.`).join(" ");
  }
}

class TimeSpace {
  constructor(figure, episode, corridor, theme, seek) {
    Object.assign(this, {figure, episode, corridor, theme, canvas: figure.querySelector("canvas"), lines: null});
    this.context = this.canvas.getContext("2d");
    this.canvas.addEventListener("click", event => {
      const box = this.canvas.getBoundingClientRect();
      if (this.from !== undefined) seek(this.from + (event.clientX - box.left - this.left) / (box.width - this.left) * SPAN_S);
    });
  }

  // Lines of all vehicles on the corridor: [times, metres] each.
  collect() {
    const {episode, corridor} = this, {roads} = episode, lines = [];
    for (let v = 0; v < episode.count.length; v++) {
      let line = null;
      for (let k = 0; k < episode.count[v]; k++) {
        const i = episode.first[v] + k, lane = episode.lane[i], begin = corridor.begin.get(roads.edge[lane]);
        if (begin === undefined) continue;
        const time = episode.start[v] + k * episode.step, metres = begin + episode.pos[i];
        const last = line && line.at(-1);
        if (last && time - last[0] <= GAP_S && metres >= last[1] - 1) line.push([time, metres]);
        else lines.push(line = [[time, metres]]);
      }
    }
    this.lines = lines.filter(line => line.length > 1);
  }

  resize(ratio) {
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    Object.assign(this, {ratio, width, height, left: 64, bottom: 22});
    this.canvas.width = width * ratio; this.canvas.height = height * ratio;
  }

  draw(time) {
    const {context, corridor, theme, width, height, left, bottom, ratio, episode} = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!corridor.stops.length || !width) return;
    if (!this.lines) this.collect();
    const from = this.from = Math.max(0, Math.min(time - SPAN_S / 2, episode.to - SPAN_S));
    const x = second => left + (second - from) / SPAN_S * (width - left);
    const y = metres => height - bottom - metres / corridor.long * (height - bottom - 10);
    context.save(); context.beginPath(); context.rect(left, 0, width - left, height - bottom); context.clip();
    this.drawVehicles(from, x, y);
    for (const stop of corridor.stops) this.drawStop(stop, from, x, y(stop.at));
    context.strokeStyle = theme.of("ink"); context.lineWidth = 1; context.beginPath();
    context.moveTo(x(time), 0); context.lineTo(x(time), height); context.stroke();
    context.restore();
    this.drawAxes(from, x, y);
  }

  drawVehicles(from, x, y) {
    const {context, theme} = this;
    context.strokeStyle = theme.of("moving"); context.lineWidth = 1; context.beginPath();
    for (const line of this.lines) {
      if (line.at(-1)[0] < from || line[0][0] > from + SPAN_S) continue;
      line.forEach(([second, metres], i) => i ? context.lineTo(x(second), y(metres)) : context.moveTo(x(second), y(metres)));
    }
    context.stroke();
  }

  drawStop({signal, links}, from, x, y) {
    const {context, theme, episode} = this, to = from + SPAN_S, last = episode.lightsFirst[signal + 1];
    let i = lastUpTo(episode.lightsSecond, from, episode.lightsFirst[signal], last);
    const lightAt = at => {
      const state = episode.states[signal][episode.lightsShown[at]], lights = links.map(link => state[link].toLowerCase());
      return lights.includes("g") ? "green" : lights.includes("y") ? "yellow" : "red";
    };
    while (i < last && episode.lightsSecond[i] < to) {
      const light = lightAt(i), begin = x(episode.lightsSecond[i]);
      do i++; while (i < last && lightAt(i) === light);
      context.fillStyle = theme.of(light);
      context.fillRect(begin, y - 2.5, x(i < last ? episode.lightsSecond[i] : episode.to) - begin, 5);
    }
  }

  drawAxes(from, x, y) {
    const {context, theme, corridor, height, bottom, left, episode} = this;
    context.fillStyle = theme.of("soft"); context.font = "11px Helvetica, Arial, sans-serif"; context.textAlign = "right";
    let above = Infinity;
    for (const {signal, at} of corridor.stops) {
      if (above - y(at) < 12) continue;
      above = y(at);
      context.fillText(shortened(episode.roads.signals[signal].name, 9), left - 6, y(at) + 4);
    }
    context.textAlign = "center";
    for (let second = Math.ceil(from / 60) * 60; second <= from + SPAN_S; second += 60)
      context.fillText(clock(second), Math.min(this.width - 18, Math.max(left + 14, x(second))), height - bottom + 15);
  }
}
