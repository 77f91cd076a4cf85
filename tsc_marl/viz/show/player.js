// The clock, the controls and the keys.

const LOOK_S = 60, CHART = {left: 40, right: 10, top: 8, bottom: 20};

class DelayChart {
  constructor(canvas, episodes, theme, seek) {
    Object.assign(this, {canvas, episodes, theme, context: canvas.getContext("2d"), to: episodes[0].to});
    const all = episodes.flatMap(episode => [...episode.second, episode.to].map(second => episode.delayAt(second)));
    this.most = Math.max(...all) * 1.08 || 1;
    let held = false;
    const look = event => {
      const box = canvas.getBoundingClientRect();
      seek((event.clientX - box.left - CHART.left) / (box.width - CHART.left - CHART.right) * this.to);
    };
    canvas.addEventListener("pointerdown", event => { held = true; canvas.setPointerCapture(event.pointerId); look(event); });
    canvas.addEventListener("pointermove", event => { if (held) look(event); });
    canvas.addEventListener("pointerup", () => { held = false; });
    canvas.addEventListener("pointercancel", () => { held = false; });
  }

  resize(ratio) {
    Object.assign(this, {ratio, width: this.canvas.clientWidth, height: this.canvas.clientHeight});
    this.canvas.width = this.width * ratio; this.canvas.height = this.height * ratio;
    this.x = second => CHART.left + second / this.to * (this.width - CHART.left - CHART.right);
    this.y = delay => this.height - CHART.bottom - delay / this.most * (this.height - CHART.bottom - CHART.top);
  }

  draw(time) {
    const {context, theme, ratio, width, height, x, y} = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.axes();
    for (const episode of this.episodes) {
      const line = until => {
        context.beginPath(); context.moveTo(x(0), y(0));
        for (const second of episode.second) if (second <= until) context.lineTo(x(second), y(episode.delayAt(second)));
        context.lineTo(x(until), y(episode.delayAt(until))); context.stroke();
      };
      context.strokeStyle = theme.of(`of-${episode.number}`);
      context.globalAlpha = 0.3; context.lineWidth = 1.5; line(episode.to);
      context.globalAlpha = 1; context.lineWidth = 2; line(time);
      context.fillStyle = context.strokeStyle;
      context.beginPath(); context.arc(x(time), y(episode.delayAt(time)), 3.5, 0, 7); context.fill();
    }
  }

  axes() {
    const {context, theme, width, height, x, y} = this, step = nice(this.most / 3), minutes = nice(this.to / 60 / (width / 90));
    context.fillStyle = theme.of("soft"); context.strokeStyle = theme.of("line"); context.lineWidth = 1;
    context.font = "11px Helvetica, Arial, sans-serif"; context.textAlign = "right"; context.beginPath();
    for (let delay = 0; delay <= this.most; delay += step) {
      context.moveTo(x(0), y(delay)); context.lineTo(width - CHART.right, y(delay));
      context.fillText(`${Number(delay.toFixed(2))} s`, x(0) - 5, y(delay) + 4);
    }
    context.stroke(); context.textAlign = "center";
    for (let minute = 0; minute * 60 <= this.to; minute += minutes) {
      const label = `${Number(minute.toFixed(2))} min`;
      context.fillText(label, Math.min(width - 20, Math.max(CHART.left, x(minute * 60))), height - 5);
    }
  }
}

function nice(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map(factor => factor * power).find(step => step >= rough);
}

class Player {
  constructor(head, columns) {
    const by = id => document.getElementById(id);
    this.part = by; this.theme = new Theme(); this.roads = new Roads(head, columns);
    this.episodes = head.policies.map((_, i) => new Episode(head, columns, i, this.roads));
    this.to = this.episodes[0].to; this.step = head.timing.decision; this.playing = false;
    this.time = Math.min(this.to, Math.max(LOOK_S, Math.round(this.to / 3)));
    this.corridor = new Corridor(this.roads); this.joining = false;
    this.chosen = {signal: null, colour: "queue", corridor: this.corridor};
    this.view = new View(this.roads);
    const background = new Background(this.roads, this.view, this.theme);
    this.boxes = [...document.querySelectorAll(".map")];
    this.maps = this.episodes.map((episode, i) =>
      new TrafficMap(this.boxes[i].firstElementChild, episode, background, this.chosen));
    this.now = [...document.querySelectorAll(".now")];
    this.chart = new DelayChart(by("delay"), this.episodes, this.theme, time => this.seek(time));
    this.diagrams = this.episodes.map((episode, i) =>
      new TimeSpace(by("diagram").querySelectorAll("figure")[i], episode, this.corridor, this.theme, time => this.seek(time)));
    const actions = {add: n => this.join(n), close: () => this.select(null)};
    this.panel = new SignalPanel(by("panel"), this.roads, this.episodes, this.maps, actions);
    this.listen();
    this.resize(true);
  }

  listen() {
    const {part} = this, redraw = () => { this.stale = true; };
    for (const map of this.maps) map.listen(redraw, n => this.click(n));
    part("play").onclick = () => this.toggle();
    part("time").oninput = event => this.seek(Number(event.target.value));
    part("speed").onchange = redraw;
    part("colour").onchange = event => { this.chosen.colour = event.target.value; this.drawKey(); redraw(); };
    part("corridor").onclick = () => this.toggleCorridor();
    part("nearer").onclick = () => { this.view.zoom(1.5); redraw(); };
    part("farther").onclick = () => { this.view.zoom(1 / 1.5); redraw(); };
    part("whole").onclick = () => { this.view.fit(this.view.width, this.view.height); redraw(); };
    const order = this.roads.signals.map((signal, n) => [signal.name, n]);
    order.sort(([a], [b]) => a.localeCompare(b, "en", {numeric: true}));
    part("signal").append(...order.map(([name, n]) => element("option", {value: n, textContent: shortened(name, 30)})));
    part("signal").onchange = ({target}) => target.value === "" ? this.select(null) : this.click(Number(target.value));
    this.order = order.map(([, n]) => n);
    addEventListener("keydown", event => this.key(event));
    addEventListener("resize", () => this.resize(false));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.theme.read(); this.stale = true; });
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
  }

  key(event) {
    const {target, shiftKey} = event, far = shiftKey ? 60 : this.step;
    if (event.ctrlKey || event.metaKey || event.altKey || target.tagName === "SELECT") return;
    const at = this.order.indexOf(this.chosen.signal), {length} = this.order;
    const keys = {
      " ": target.tagName === "BUTTON" ? null : () => this.toggle(),
      ArrowLeft: () => this.seek(this.time - far), ArrowRight: () => this.seek(this.time + far),
      Home: () => this.seek(0), End: () => this.seek(this.to),
      n: () => this.select(this.order[(at + 1) % length]),
      p: () => this.select(this.order[(Math.max(0, at) - 1 + length) % length]),
      c: () => this.toggleCorridor(), "+": () => this.part("nearer").click(), "-": () => this.part("farther").click(),
      0: () => this.part("whole").click(), Escape: () => this.joining ? this.toggleCorridor() : this.select(null),
    };
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) { event.preventDefault(); action(); }
  }

  seek(time) { this.time = Math.min(this.to, Math.max(0, time)); this.stale = true; }

  toggle() {
    this.playing = !this.playing;
    if (this.playing && this.time >= this.to) this.time = 0;
    this.last = undefined; this.stale = true;
    this.part("play").textContent = this.playing ? "❚❚" : "▶";
    this.part("play").setAttribute("aria-label", this.playing ? "Pause" : "Play");
  }

  click(n) { this.select(n); if (this.joining) this.join(n); }

  select(n) {
    const signal = this.roads.signals[n];
    if (signal && !this.view.sees(signal.x, signal.y, 0)) this.view.look(signal.x, signal.y, this.view.scale);
    this.chosen.signal = n;
    this.part("signal").value = n ?? "";
    this.panel.show(n);
    this.stale = true;
  }

  toggleCorridor() {
    this.joining = !this.joining;
    if (this.joining) this.corridor.clear();
    this.showCorridor();
  }

  join(n) {
    if (!this.joining && !this.corridor.signals.length) this.joining = true;
    this.corridor.add(n);
    this.showCorridor();
  }

  showCorridor() {
    const drawn = this.corridor.stops.length > 0;
    this.part("corridor").setAttribute("aria-pressed", this.joining);
    this.part("diagram").hidden = !(this.joining || drawn);
    this.part("corridor-text").textContent = this.corridor.text();
    for (const diagram of this.diagrams) {
      diagram.figure.hidden = !drawn; diagram.lines = null;
      if (drawn) diagram.resize(this.ratio);
    }
    this.stale = true;
  }

  resize(first) {
    const width = this.boxes[0].clientWidth, {box} = this.roads, ratio = this.ratio = Math.min(2, devicePixelRatio || 1);
    const height = Math.round(Math.min(Math.max(240, width * box.height / (box.width || 1)), Math.max(260, innerHeight * 0.56)));
    for (const each of this.boxes) each.style.height = `${height}px`;
    if (first || !this.view.least || this.view.scale === this.view.least) this.view.fit(width, height);
    else Object.assign(this.view, {width, height});
    for (const each of [...this.maps, this.chart, ...this.diagrams]) each.resize(ratio);
    this.drawKey();
    this.stale = true;
  }

  drawKey() {
    const roads = this.chosen.colour === "queue"
      ? [["queue-1", "queue up to ¼ of a lane"], ["queue-2", "½"], ["queue-3", "¾"], ["queue-4", "full"]]
      : [...SERVICE].map(level => [level, `level of service ${level}`]);
    const vehicles = [["standing", "vehicle standing"], ["slow", "below 18 km/h"], ["moving", "moving"]];
    const entries = [...vehicles, ...["green", "yellow", "red"].map(light => [light, light]), ...roads];
    this.part("key").replaceChildren(...entries.map(([colour, text]) => {
      const swatch = element("i");
      swatch.style.background = `var(--${colour})`;
      return element("span", {}, swatch, text);
    }));
  }

  // Draw a frame. Where motion is to be reduced, time goes on by whole decisions.
  frame(stamp) {
    if (this.playing) {
      const passed = this.last === undefined ? 0 : Math.min(0.25, (stamp - this.last) / 1000);
      this.exact = this.last === undefined ? this.time : this.exact + passed * Number(this.part("speed").value);
      this.last = stamp;
      const shown = this.still.matches ? Math.floor(this.exact / this.step) * this.step : this.exact;
      if (shown !== this.time) this.seek(shown);
      if (this.exact >= this.to) this.toggle();
    }
    if (this.stale) this.draw();
    requestAnimationFrame(next => this.frame(next));
  }

  draw() {
    const {time} = this, second = Math.floor(time);
    this.stale = false;
    this.maps.forEach((map, i) => {
      const {halting, moving} = map.draw(time);
      const waiting = this.episodes[i].waitingAt(time);
      if (this.said !== second) this.now[i].textContent = `${halting} halting, ${moving} moving, ${waiting} waiting to enter`;
    });
    this.chart.draw(time);
    if (this.corridor.stops.length) for (const diagram of this.diagrams) diagram.draw(time);
    this.say(time, second);
  }

  // The words beside the pictures, when they change.
  say(time, second) {
    const key = [this.episodes[0].decision(time), this.chosen.signal].join();
    if (this.paneled !== key) { this.paneled = key; this.panel.update(time); }
    if (this.said === second) return;
    this.said = second;
    this.part("clock").textContent = clock(time);
    this.part("time").value = time;
    this.part("time").setAttribute("aria-valuetext", clock(time));
    const delays = this.episodes.map(episode => `${episode.name} ${episode.delayAt(time).toFixed(1)}`);
    this.part("delays").textContent = delays.join(", ");
  }
}

async function begin() {
  try {
    const player = new Player(...await load());
    requestAnimationFrame(stamp => player.frame(stamp));
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    const wrong = document.getElementById("wrong");
    wrong.hidden = false;
    wrong.textContent = `The page cannot be shown here (${error.message}); it needs a browser of 2023 or newer.`;
    throw error;
  }
}

begin();
