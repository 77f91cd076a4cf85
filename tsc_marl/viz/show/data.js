// What was recorded: columns of whole numbers, and questions to them. Times are seconds from the start of the window.

const SERVICE_S = [10, 20, 35, 55, 80], SERVICE = "ABCDEF", WINDOW_S = 900, QUEUED_M = 7.5;

async function load() {
  const packed = Uint8Array.from(atob(document.getElementById("episode").textContent), char => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  return [head, unpacked(head.columns, bytes, 4 + length)];
}

// The counterpart of columns.py: bytes of seven bits, a sign in the lowest, then sums of differences.
function unpacked(directory, bytes, at) {
  const columns = {};
  for (const {name, size, order} of directory) {
    const values = new Int32Array(size);
    for (let i = 0; i < size; i++) {
      let value = 0, factor = 1, byte;
      do { byte = bytes[at++]; value += (byte & 127) * factor; factor *= 128; } while (byte > 127);
      values[i] = value % 2 ? -(value + 1) / 2 : value / 2;
    }
    for (let k = 0; k < order; k++) for (let i = 1; i < size; i++) values[i] += values[i - 1];
    columns[name] = values;
  }
  return columns;
}

function starts(counts) {
  const first = new Int32Array(counts.length + 1);
  for (let i = 0; i < counts.length; i++) first[i + 1] = first[i] + counts[i];
  return first;
}

// The last place in [from, to) whose value is at most x, and at least `from`.
function lastUpTo(values, x, from = 0, to = values.length) {
  let low = from, high = to - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (values[middle] <= x) low = middle; else high = middle - 1;
  }
  return low;
}

class Roads {
  constructor(head, columns) {
    const metres = values => Float32Array.from(values, value => value / head.per_metre);
    this.x = metres(columns.lane_x); this.y = metres(columns.lane_y);
    this.first = starts(columns.lane_points);
    this.length = metres(columns.lane_length);
    this.lanes = this.length.length;
    this.edge = columns.lane_edge; this.inside = columns.lane_inside; this.approach = columns.lane_approach;
    this.junctions = {first: starts(columns.junction_points), x: metres(columns.junction_x), y: metres(columns.junction_y)};
    this.follows = columns.follows; this.followsFirst = starts(columns.follows_count);
    this.signals = head.signals; this.approaches = head.approaches;
    this.signals.forEach(signal => { signal.approaches = []; });
    this.approaches.forEach((approach, k) => this.signals[approach.signal].approaches.push(k));
    this.run = new Float32Array(this.x.length);
    for (let lane = 0; lane < this.lanes; lane++) {
      for (let i = this.first[lane] + 1; i < this.first[lane + 1]; i++)
        this.run[i] = this.run[i - 1] + Math.hypot(this.x[i] - this.x[i - 1], this.y[i] - this.y[i - 1]);
    }
    this.lanesOf = [];
    for (let lane = 0; lane < this.lanes; lane++) (this.lanesOf[this.edge[lane]] ??= []).push(lane);
    const range = some => [some.reduce((a, b) => Math.min(a, b)), some.reduce((a, b) => Math.max(a, b))];
    const [xs, ys] = [this.x, this.y].map(range);
    this.box = {x: xs[0], y: ys[0], width: xs[1] - xs[0], height: ys[1] - ys[0]};
  }

  // Where `metres` along a lane lie, with the direction there.
  place(lane, metres, out) {
    const begin = this.first[lane], end = this.first[lane + 1] - 1, drawn = this.run[end];
    const along = Math.min(drawn, Math.max(0, metres * drawn / (this.length[lane] || 1)));
    let i = begin;
    while (i < end - 1 && this.run[i + 1] < along) i++;
    const dx = this.x[i + 1] - this.x[i], dy = this.y[i + 1] - this.y[i], long = this.run[i + 1] - this.run[i] || 1;
    const share = (along - this.run[i]) / long;
    out.x = this.x[i] + share * dx; out.y = this.y[i] + share * dy; out.ux = dx / long; out.uy = dy / long;
    return out;
  }
}

class Episode {
  constructor(head, columns, i, roads) {
    Object.assign(this, head.policies[i]);
    const own = name => columns[`${i}/${name}`];
    this.roads = roads; this.number = i; this.timing = head.timing;
    this.second = own("second"); this.decisions = this.second.length;
    this.phase = own("phase"); this.legal = own("legal");
    this.values = Object.fromEntries(this.numbers.map(number => [number.key, own(`number/${number.key}`)]));
    this.lost = own("lost"); this.scheduled = own("scheduled"); this.waiting = own("waiting");
    this.lightsFirst = starts(own("lights_count"));
    this.lightsSecond = own("lights_second"); this.lightsShown = own("lights_shown");
    this.start = own("start"); this.count = own("count"); this.first = starts(this.count);
    this.lane = own("lane"); this.pos = Float32Array.from(own("pos"), value => value / head.per_metre);
    this.lostSums = this.sums(own("approach_lost")); this.passedSums = this.sums(own("approach_passed"));
    this.halting = new Uint16Array(roads.lanes); this.counted = {second: -1, lanes: [], halting: 0, moving: 0};
    this.from = {}; this.to_ = {};
  }

  sums(values) {
    const rows = values.length / this.decisions, sums = new Float64Array(rows * (this.decisions + 1));
    for (let row = 0; row < rows; row++)
      for (let t = 0; t < this.decisions; t++)
        sums[row * (this.decisions + 1) + t + 1] = sums[row * (this.decisions + 1) + t] + values[row * this.decisions + t];
    return sums;
  }

  decision(time) { return lastUpTo(this.second, time); }
  phaseAt(signal, t) { return this.phase[signal * this.decisions + t]; }
  isLegal(signal, phase, t) { return (this.legal[signal * this.decisions + t] >> phase) & 1; }

  // The number of a phase at a decision; `number` is one of `numbers`.
  value(number, signal, phase, t) {
    return this.values[number.key][(signal * this.phases + phase) * this.decisions + t] * number.scale;
  }

  state(signal, time) {
    const at = lastUpTo(this.lightsSecond, time, this.lightsFirst[signal], this.lightsFirst[signal + 1]);
    return this.states[signal][this.lightsShown[at]];
  }

  // Mean delay so far; at each decision the sum until then, between two of them a straight line.
  delayAt(time) {
    const t = this.decision(time), before = t ? this.lost[t - 1] / Math.max(1, this.scheduled[t - 1]) : 0;
    const after = this.lost[t] / Math.max(1, this.scheduled[t]), until = t + 1 < this.decisions ? this.second[t + 1] : this.to;
    return before + (after - before) * Math.min(1, (time - this.second[t]) / (until - this.second[t]));
  }

  waitingAt(time) { const t = this.decision(time); return t ? this.waiting[t - 1] : 0; }

  // Control delay of an approach in the last quarter of an hour [s per vehicle that passed], and how many passed.
  service(approach, time) {
    const row = approach * (this.decisions + 1), to = this.decision(time) + (time >= this.to ? 1 : 0);
    const from = Math.max(0, to - Math.ceil(WINDOW_S / this.timing.decision));
    const [lost, passed] = [this.lostSums, this.passedSums].map(sums => sums[row + to] - sums[row + from]);
    if (!passed && lost < 10) return {delay: NaN, passed, level: ""};
    const delay = lost / 10 / Math.max(1, passed), grade = SERVICE_S.findIndex(limit => delay <= limit);
    return {delay, passed, level: SERVICE[grade < 0 ? 5 : grade]};
  }

  // Call `draw` with the place, direction and speed of each vehicle on the road; between two samples they move evenly.
  vehicles(time, draw) {
    const {start, count, first, lane, pos, step, roads, from, to_} = this;
    for (let v = 0; v < start.length && start[v] <= time; v++) {
      const passed = (time - start[v]) / step, k = Math.floor(passed);
      if (k >= count[v]) continue;
      const i = first[v] + k, share = passed - k;
      const speed = k && lane[i] === lane[i - 1] ? (pos[i] - pos[i - 1]) / step : k + 1 < count[v] && lane[i] === lane[i + 1]
        ? (pos[i + 1] - pos[i]) / step : 10;
      if (k + 1 >= count[v] || share === 0) roads.place(lane[i], pos[i], from);
      else if (lane[i] === lane[i + 1]) roads.place(lane[i], pos[i] + share * (pos[i + 1] - pos[i]), from);
      else {
        roads.place(lane[i], pos[i], from); roads.place(lane[i + 1], pos[i + 1], to_);
        const dx = to_.x - from.x, dy = to_.y - from.y, far = Math.hypot(dx, dy);
        from.x += share * dx; from.y += share * dy;
        if (far > 1) { from.ux = dx / far; from.uy = dy / far; }
      }
      draw(from, speed);
    }
  }

  // Halting vehicles of each lane at a whole second, and of all.
  queues(time) {
    const second = Math.floor(time), {counted, halting, start, count, first, lane, pos, step} = this;
    if (counted.second === second) return counted;
    for (const some of counted.lanes) halting[some] = 0;
    counted.second = second; counted.lanes = []; counted.halting = counted.moving = 0;
    for (let v = 0; v < start.length && start[v] <= second; v++) {
      const k = Math.floor((second - start[v]) / step);
      if (k >= count[v]) continue;
      const i = first[v] + k;
      if (k && lane[i] === lane[i - 1] && pos[i] - pos[i - 1] < 0.1 * step) {
        if (!halting[lane[i]]++) counted.lanes.push(lane[i]);
        counted.halting++;
      } else counted.moving++;
    }
    return counted;
  }

  queueOf(approach) {
    let queue = 0;
    for (const lane of this.roads.lanesOf[this.roads.approaches[approach].edge]) queue += this.halting[lane];
    return queue;
  }
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${String(Math.floor(whole / 60)).padStart(2, "0")}:${String(whole % 60).padStart(2, "0")}`;
}

function shortened(name, most = 16) { return name.length > most ? `${name.slice(0, most - 1)}…` : name; }

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) key in made ? made[key] = value : made.setAttribute(key, value);
  made.append(...children);
  return made;
}
