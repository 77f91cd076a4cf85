// Maps: one view of the network for all policies, a canvas for each.

const LANE_M = 3.2, VEHICLE_M = 5, LIGHTS_PX = 26;

class Theme {
  constructor() { this.read(); }
  read() { this.style = getComputedStyle(document.documentElement); this.known = {}; }
  of(name) { return this.known[name] ??= this.style.getPropertyValue(`--${name}`).trim(); }
}

class View {
  constructor(roads) { this.roads = roads; this.x = this.y = this.scale = 0; this.width = this.height = 0; this.changes = 0; }

  fit(width, height) {
    const {box} = this.roads, margin = 24;
    this.width = width; this.height = height;
    this.least = Math.min((width - margin) / (box.width || 1), (height - margin) / (box.height || 1));
    this.look(box.x + box.width / 2, box.y + box.height / 2, this.least);
  }

  look(x, y, scale) {
    this.x = x; this.y = y; this.scale = Math.min(20, Math.max(this.least / 2, scale)); this.changes++;
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const before = this.world(px, py), scale = Math.min(20, Math.max(this.least / 2, this.scale * factor));
    this.look(before.x - (px - this.width / 2) / scale, before.y + (py - this.height / 2) / scale, scale);
  }

  world(px, py) { return {x: this.x + (px - this.width / 2) / this.scale, y: this.y - (py - this.height / 2) / this.scale}; }
  screen(x, y) { return [this.width / 2 + (x - this.x) * this.scale, this.height / 2 - (y - this.y) * this.scale]; }

  apply(context, ratio) {
    const s = this.scale * ratio;
    context.setTransform(s, 0, 0, -s, this.width / 2 * ratio - this.x * s, this.height / 2 * ratio + this.y * s);
  }

  sees(x, y, margin_px) {
    const [px, py] = this.screen(x, y);
    return px > -margin_px && py > -margin_px && px < this.width + margin_px && py < this.height + margin_px;
  }
}

// Everything that does not move, drawn once for each view and shared by the maps.
class Background {
  constructor(roads, view, theme) {
    this.roads = roads; this.view = view; this.theme = theme; this.canvas = document.createElement("canvas"); this.drawn = "";
    this.lanes = new Path2D(); this.corners = new Path2D();
    for (let lane = 0; lane < roads.lanes; lane++) if (!roads.inside[lane]) trace(this.lanes, roads, lane);
    const {first, x, y} = roads.junctions;
    for (let j = 0; j + 1 < first.length; j++) {
      this.corners.moveTo(x[first[j]], y[first[j]]);
      for (let i = first[j] + 1; i < first[j + 1]; i++) this.corners.lineTo(x[i], y[i]);
      this.corners.closePath();
    }
  }

  show(ratio) {
    const {view, canvas, theme} = this, key = [view.changes, view.width, view.height, ratio, theme.of("road")].join();
    if (key === this.drawn) return canvas;
    this.drawn = key;
    canvas.width = view.width * ratio; canvas.height = view.height * ratio;
    const context = canvas.getContext("2d");
    view.apply(context, ratio);
    context.strokeStyle = context.fillStyle = theme.of("road");
    context.lineWidth = Math.max(LANE_M, 1.2 / view.scale);
    context.stroke(this.lanes); context.fill(this.corners);
    return canvas;
  }
}

function trace(path, roads, lane) {
  for (let i = roads.first[lane]; i < roads.first[lane + 1]; i++)
    i === roads.first[lane] ? path.moveTo(roads.x[i], roads.y[i]) : path.lineTo(roads.x[i], roads.y[i]);
}

class TrafficMap {
  constructor(canvas, episode, background, chosen) {
    const {view, theme, roads} = background;
    Object.assign(this, {canvas, episode, background, chosen, view, theme, roads});
    this.context = canvas.getContext("2d");
    this.stops = this.roads.signals.map(signal => signal.links.map(([link, from, to]) => this.stop(link, from, to)));
    this.gap = this.spacing();
  }

  stop(link, from, to) {
    const {roads} = this, end = roads.first[from + 1] - 1, out = roads.first[to];
    return {...roads.place(from, roads.length[from], {}), link, outX: roads.x[out], outY: roads.y[out], room: roads.run[end]};
  }

  // Half the median distance from a signal to its neighbours [m]: where lights have room.
  spacing() {
    const {signals} = this.roads;
    const far = signals.flatMap(a => a.neighbours.map(b => Math.hypot(a.x - signals[b].x, a.y - signals[b].y)));
    return far.length ? far.sort((a, b) => a - b)[far.length >> 1] / 2 : 1e3;
  }

  resize(ratio) {
    this.ratio = ratio;
    this.canvas.width = this.view.width * ratio; this.canvas.height = this.view.height * ratio;
  }

  draw(time) {
    const {context, view, ratio} = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.background.show(ratio), 0, 0);
    view.apply(context, ratio);
    const queues = this.episode.queues(time);
    context.lineCap = "butt"; context.lineJoin = "round";
    this.chosen.colour === "service" ? this.drawService(time) : this.drawQueues(queues);
    this.drawCorridor();
    if (this.gap * view.scale > LIGHTS_PX) this.drawLights(time);
    this.drawVehicles(time);
    this.drawSignals();
    return queues;
  }

  strokes(paths, width) {
    this.context.lineWidth = width;
    for (const [colour, path] of paths) { this.context.strokeStyle = colour; this.context.stroke(path); }
  }

  drawQueues({lanes}) {
    const {roads, episode, theme, view} = this, paths = [1, 2, 3, 4].map(n => [theme.of(`queue-${n}`), new Path2D()]);
    for (const lane of lanes) {
      if (roads.inside[lane]) continue;
      const share = episode.halting[lane] * QUEUED_M / Math.max(QUEUED_M, roads.length[lane]);
      trace(paths[Math.min(3, Math.floor(share * 4))][1], roads, lane);
    }
    this.strokes(paths, Math.max(LANE_M, 3 / view.scale));
  }

  drawService(time) {
    const {roads, episode, theme, view} = this, paths = new Map([...SERVICE].map(level => [level, new Path2D()]));
    roads.approaches.forEach((approach, k) => {
      const path = paths.get(episode.service(k, time).level);
      if (path) for (const lane of roads.lanesOf[approach.edge]) trace(path, roads, lane);
    });
    this.context.globalAlpha = 0.6;
    this.strokes([...paths].map(([level, path]) => [theme.of(level), path]), Math.max(LANE_M, 3 / view.scale));
    this.context.globalAlpha = 1;
  }

  drawCorridor() {
    const {roads, view, theme, chosen} = this, path = new Path2D();
    for (const edge of chosen.corridor.edges) trace(path, roads, roads.lanesOf[edge][0]);
    this.context.globalAlpha = 0.55;
    this.strokes([[theme.of("mark"), path]], Math.max(2 * LANE_M, 7 / view.scale));
    this.context.globalAlpha = 1;
  }

  drawLights(time) {
    const {roads, episode, view, theme} = this, paths = {G: new Path2D(), g: new Path2D(), y: new Path2D(), r: new Path2D()};
    const back = Math.min(LIGHTS_PX / view.scale, this.gap / 2);
    roads.signals.forEach((signal, n) => {
      if (!view.sees(signal.x, signal.y, 60)) return;
      const state = episode.state(n, time), red = 3 / view.scale;
      for (const stop of this.stops[n]) {
        const light = state[stop.link], path = paths[light] ?? (light === "Y" ? paths.y : paths.r), open = path !== paths.r;
        const reach = Math.min(stop.room, open ? back : red);
        path.moveTo(stop.x - reach * stop.ux, stop.y - reach * stop.uy);
        path.lineTo(stop.x, stop.y);
        if (open) path.lineTo(stop.outX, stop.outY);
      }
    });
    this.strokes([[theme.of("red"), paths.r]], Math.max(LANE_M * 0.8, 3 / view.scale));
    const open = [["yellow", paths.y], ["green", paths.g], ["green", paths.G]];
    this.strokes(open.map(([name, path]) => [theme.of(name), path]), 2.4 / view.scale);
  }

  drawVehicles(time) {
    const {episode, view, theme} = this, names = ["moving", "slow", "standing"], paths = names.map(() => new Path2D());
    const wide = this.gap * view.scale > LIGHTS_PX / 2 ? 3.4 : 2.2, long = Math.max(VEHICLE_M, 1.9 * wide / view.scale);
    episode.vehicles(time, (at, speed) => {
      const path = paths[speed < 0.1 ? 2 : speed < 5 ? 1 : 0];
      path.moveTo(at.x - long * at.ux, at.y - long * at.uy);
      path.lineTo(at.x, at.y);
    });
    this.strokes(names.map((name, i) => [theme.of(name), paths[i]]), Math.max(1.9, wide / view.scale));
  }

  drawSignals() {
    const {context, roads, view, theme, chosen} = this, {signals} = roads, selected = signals[chosen.signal];
    const size = Math.max(1.6, Math.min(4, this.gap * view.scale / 8)) / view.scale;
    context.fillStyle = theme.of("ink"); context.globalAlpha = 0.75; context.beginPath();
    for (const {x, y} of signals) { context.moveTo(x + size, y); context.arc(x, y, size, 0, 7); }
    context.fill(); context.globalAlpha = 1;
    context.strokeStyle = theme.of("mark"); context.lineWidth = 2 / view.scale;
    if (!selected) return;
    context.setLineDash([5 / view.scale, 4 / view.scale]); context.beginPath();
    for (const other of selected.neighbours) {
      context.moveTo(selected.x, selected.y); context.lineTo(signals[other].x, signals[other].y);
    }
    context.stroke(); context.setLineDash([]);
    context.lineWidth = 3 / view.scale; context.beginPath();
    context.arc(selected.x, selected.y, Math.max(14, 12 + LANE_M * view.scale) / view.scale, 0, 7); context.stroke();
    this.label(selected);
  }

  label({name, x, y}) {
    const {context, view, ratio, theme} = this, [px, py] = view.screen(x, y), above = 20 + LANE_M * view.scale;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "600 12px Helvetica, Arial, sans-serif"; context.textAlign = "center";
    context.lineWidth = 4; context.lineJoin = "round";
    context.strokeStyle = theme.of("paper"); context.fillStyle = theme.of("ink");
    context.strokeText(shortened(name), px, py - above); context.fillText(shortened(name), px, py - above);
    view.apply(context, ratio);
  }

  // The signal nearest to a place on the screen, if one is near.
  signalAt(px, py) {
    let nearest = 26, found = null;
    this.roads.signals.forEach(({x, y}, n) => {
      const [sx, sy] = this.view.screen(x, y), far = Math.hypot(sx - px, sy - py);
      if (far < nearest) { nearest = far; found = n; }
    });
    return found;
  }

  // Drag and pinch move the view, the wheel and a double click zoom; a click chooses a signal.
  listen(changed, choose) {
    const {canvas, view} = this, held = new Map();
    let moved = 0;
    const at = event => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", event => {
      held.set(event.pointerId, at(event));
      if (held.size === 1) moved = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", event => {
      const now = at(event);
      if (!held.has(event.pointerId)) {
        canvas.style.cursor = this.signalAt(...now) === null ? "grab" : "pointer";
        return;
      }
      const [x, y] = held.get(event.pointerId), other = [...held].find(([id]) => id !== event.pointerId)?.[1];
      const apart = ([px, py]) => Math.max(1, Math.hypot(px - other[0], py - other[1]));
      moved += Math.hypot(now[0] - x, now[1] - y);
      held.set(event.pointerId, now);
      if (other) view.zoom(apart(now) / apart([x, y]), ...other);
      else if (moved > 4) view.look(view.x - (now[0] - x) / view.scale, view.y + (now[1] - y) / view.scale, view.scale);
      changed();
    });
    canvas.addEventListener("pointerup", event => {
      const found = held.delete(event.pointerId) && moved <= 4 ? this.signalAt(...at(event)) : null;
      if (found !== null) choose(found);
    });
    canvas.addEventListener("pointercancel", event => held.delete(event.pointerId));
    const zoom = (event, factor) => { event.preventDefault(); view.zoom(factor, ...at(event)); changed(); };
    canvas.addEventListener("wheel", event => zoom(event, Math.exp(-event.deltaY / 400)), {passive: false});
    canvas.addEventListener("dblclick", event => zoom(event, 2));
  }
}
