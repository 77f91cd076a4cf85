// The panel of a signal: its phases drawn, their numbers, the choice with its reason, and its approaches.

const SHORT = {own: "own", others: "neighbours"};

function amount(value, unit) {
  if (unit === "%") return `${Math.round(100 * value)} %`;
  const size = Math.abs(value), whole = Math.abs(value - Math.round(value)) < 1e-3;
  const text = value.toFixed(size >= 100 || whole ? 0 : size >= 0.095 ? 1 : 2);
  return `${Number(text) === 0 ? "0" : text.replace("-", "−")}${unit && ` ${unit}`}`;
}

class SignalPanel {
  constructor(box, roads, episodes, maps, actions) {
    Object.assign(this, {box, roads, episodes, maps, actions, empty: [...box.childNodes], signal: null});
  }

  show(n) {
    this.signal = n;
    if (n === null) { this.box.replaceChildren(...this.empty); return; }
    const signal = this.roads.signals[n];
    const add = element("button", {type: "button", textContent: "add to corridor", onclick: () => this.actions.add(n)});
    const close = element("button", {type: "button", textContent: "×", ariaLabel: "Close", onclick: this.actions.close});
    this.parts = this.episodes.map(episode => this.part(episode, signal));
    this.table = element("table");
    this.box.replaceChildren(
      element("div", {className: "top"}, element("h2", {textContent: `Signal ${signal.name}`}), element("span", {}, add, close)),
      element("p", {className: "note", textContent: `${signal.phases.length} phases, ${this.neighbours(n)}`}),
      this.table, ...this.parts.flatMap(part => part.nodes));
  }

  neighbours(n) {
    const {neighbours} = this.roads.signals[n], {signals} = this.roads;
    const names = neighbours.map(other => shortened(signals[other].name));
    return names.length ? `neighbours ${names.join(", ")}` : "no neighbours";
  }

  part(episode, signal) {
    const stops = this.maps[0].stops[this.roads.signals.indexOf(signal)], phases = element("div", {className: "phases"});
    const why = element("p", {className: "why"}), cost = element("p", {className: "cost"});
    const cards = signal.phases.map((state, phase) => {
      const text = element("span"), fill = element("i"), bar = element("div", {className: "bar"}, fill);
      const title = element("b", {textContent: `phase ${phase}`}), served = signal.serves[phase].replaceAll("+", "+\u200b");
      const serves = element("span", {className: "serves", textContent: served});
      const card = element("div", {className: "phase"}, title, serves, phaseDrawing(stops, state), bar, text);
      phases.append(card);
      return {card, text, fill, bar};
    });
    const name = element("b", {className: `of-${episode.number}`, textContent: episode.name});
    const note = element("p", {className: "note", textContent: this.compared(episode)});
    return {cards, why, cost, nodes: [element("h3", {}, name), why, cost, phases, note]};
  }

  // A phase with what it serves.
  named(phase) { return `phase ${phase} (${this.roads.signals[this.signal].serves[phase]})`; }

  Named(phase) { return `P${this.named(phase).slice(1)}`; }

  compared({numbers}) {
    const others = numbers.filter(({key, nothing}) => key !== "decides" && !nothing);
    const meaning = ({key, title, unit}) => `${SHORT[key]}: ${title} against the chosen phase${unit && ` [${unit}]`}`;
    return others.map(meaning).join("; ");
  }

  update(time) {
    if (this.signal === null) return;
    this.episodes.forEach((episode, i) => this.updatePart(episode, this.parts[i], time));
    const head = element("tr", {}, element("th", {textContent: "from"}));
    const rows = this.roads.signals[this.signal].approaches.map(k => [k, element("tr", {}, this.approachCell(k))]);
    for (const episode of this.episodes) {
      episode.queues(time);
      head.append(...["LOS", "delay", "queue"].map(title => element("th", {textContent: title})));
      for (const [k, row] of rows) {
        const {level, delay, passed} = episode.service(k, time);
        const badge = element("td", {}, level ? element("span", {className: `service ${level}`, textContent: level}) : "–");
        const seconds = Number.isNaN(delay) ? "–" : `${delay.toFixed(0)} s`;
        row.append(badge, element("td", {textContent: seconds, title: `${passed} vehicles passed`}));
        row.append(element("td", {textContent: episode.queueOf(k)}));
      }
    }
    const groups = this.episodes.length < 2 ? [] : [element("tr", {}, element("th"), ...this.episodes.map(episode =>
      element("th", {colSpan: 3}, element("b", {className: `of-${episode.number}`, textContent: episode.name}))))];
    this.table.replaceChildren(...groups, head, ...rows.map(([, row]) => row));
  }

  approachCell(k) {
    const {name, edge} = this.roads.approaches[k], {roads} = this, lane = roads.lanesOf[edge][0];
    return element("td", {textContent: comesFrom(roads.place(lane, roads.length[lane], {})), title: `road ${name}`});
  }

  updatePart(episode, {cards, why, cost}, time) {
    const n = this.signal, t = episode.decision(time), chosen = episode.phaseAt(n, t);
    const allowed = cards.map((_, phase) => phase).filter(phase => episode.isLegal(n, phase, t));
    const [deciding, ...others] = episode.numbers[0]?.key === "decides" ? episode.numbers : [null, ...episode.numbers];
    const values = deciding && cards.map((_, phase) => episode.value(deciding, n, phase, t));
    const most = values && Math.max(...values.filter((_, phase) => allowed.includes(phase) || episode.by_program), 1e-9);
    cards.forEach(({card, text, fill, bar}, phase) => {
      const open = allowed.includes(phase) || episode.by_program, on = phase === chosen;
      card.className = `phase${on ? " chosen" : open ? "" : " barred"}`;
      const lines = [on ? (episode.by_program ? "on now" : "chosen") : open ? "" : "not allowed now"];
      bar.hidden = !deciding;
      if (deciding && open) {
        fill.style.width = `${Math.max(0, Math.min(1, values[phase] / most)) * 100}%`;
        lines.push(episode.by_program && !values[phase] ? "not in the program" : amount(values[phase], deciding.unit));
      } else fill.style.width = "0";
      const compared = open && !on ? others.filter(({nothing}) => !nothing) : [];
      lines.push(...compared.map(number => this.against(episode, number, phase, chosen, t)));
      text.replaceChildren(...lines.filter(Boolean).flatMap(line => [line, element("br")]));
    });
    why.textContent = this.reason(episode, n, t, chosen, allowed, deciding, values);
    cost.textContent = this.neighbourCost(episode, n, t, chosen, allowed, others);
  }

  // What another phase would change against the chosen one; a reward of delay is its negative.
  against(episode, number, phase, chosen, t) {
    const more = episode.value(number, this.signal, phase, t) - episode.value(number, this.signal, chosen, t);
    const delay = number.unit === "veh·s", shown = amount(delay ? -more : more, "");
    return `${SHORT[number.key]} ${/^[−0]/.test(shown) && !/^0\./.test(shown) ? "" : "+"}${shown}`;
  }

  reason(episode, n, t, chosen, allowed, deciding, values) {
    const since = this.since(episode, n, t, chosen), held = `It has been chosen for ${since} s`;
    if (episode.by_program) {
      const green = values[chosen] ? ` of a ${deciding.title} of ${amount(values[chosen], "s")}` : "";
      return `SUMO's signal program decides: ${this.named(chosen)} has its turn, for ${since} s${green}.`;
    }
    if (allowed.length === 1) {
      const {change, min_green: least} = episode.timing;
      return `No choice: only ${this.named(chosen)} is allowed. ${held}; a change and the least green take ${change + least} s.`;
    }
    if (!deciding) return `${this.Named(chosen)} of ${allowed.length} allowed ones. ${episode.name} has no number for each phase.`;
    const rest = allowed.filter(phase => phase !== chosen), next = rest.reduce((a, b) => values[b] > values[a] ? b : a);
    const [own, other] = [chosen, next].map(phase => amount(values[phase], deciding.unit));
    const gap = values[chosen] - values[next], step = deciding.scale;
    if (Math.abs(gap) < step / 2) return `${this.Named(chosen)} shares the largest ${deciding.title}, ${own}, with ${this.named(next)}.`;
    if (gap > 0) {
      const most = `${this.Named(chosen)} has the largest ${deciding.title} of ${allowed.length} allowed phases: ${own}`;
      return `${most}; next is ${this.named(next)} with ${other}.${this.opinion(episode, n, t, chosen, allowed)}`;
    }
    const rule = episode.exception ? ` Rule: ${episode.exception}.` : "";
    return `${this.Named(next)} has a larger ${deciding.title}, ${other} against ${own} of ${this.named(chosen)}.${rule}`;
  }

  // Whether the critic would have chosen the same.
  opinion(episode, n, t, chosen, allowed) {
    const number = episode.numbers.find(({key}) => key === "own");
    if (!number || episode.numbers[0] === number) return "";
    const value = phase => episode.value(number, n, phase, t), best = allowed.reduce((a, b) => value(b) > value(a) ? b : a);
    const gain = value(best) - value(chosen);
    if (gain < number.scale / 2) return " Its critic agrees.";
    return ` Its critic would take ${this.named(best)}: ${amount(gain, number.unit)} better for the ${number.title}.`;
  }

  since(episode, n, t, chosen) {
    let first = t;
    while (first && episode.phaseAt(n, first - 1) === chosen) first--;
    return episode.second[t] - episode.second[first];
  }

  neighbourCost(episode, n, t, chosen, allowed, others) {
    const number = others.find(({key}) => key === "others");
    if (!number) return `${episode.name} has no figure for what a phase costs the neighbours.`;
    if (number.nothing) return "Its critic expects no effect on the neighbours; such an estimate counts as far as data confirmed it.";
    if (allowed.length === 1 || !this.roads.signals[n].neighbours.length) return "";
    const value = phase => episode.value(number, n, phase, t), best = allowed.reduce((a, b) => value(b) > value(a) ? b : a);
    const cost = value(best) - value(chosen);
    if (cost < number.scale / 2) return "For the neighbours too, no allowed phase is better, the critic estimates.";
    return `${this.Named(chosen)} costs the neighbours ${amount(cost, number.unit)} more than ${this.named(best)}, the critic estimates.`;
  }
}
