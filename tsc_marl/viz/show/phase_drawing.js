// A phase as a small picture: the links that it opens.

const COMPASS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"];

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function comesFrom({ux, uy}) { return COMPASS[(Math.round(Math.atan2(-ux, -uy) / (Math.PI / 4)) + 8) % 8]; }

// A full line for a green that yields to nobody, a dashed one for one that yields, a red mark for the other links.
function phaseDrawing(stops, state) {
  const xs = stops.flatMap(stop => [stop.x, stop.outX]), ys = stops.flatMap(stop => [stop.y, stop.outY]);
  const [cx, cy] = [xs, ys].map(some => (Math.min(...some) + Math.max(...some)) / 2);
  const half = 1.45 * Math.max(8, ...xs.map(x => Math.abs(x - cx)), ...ys.map(y => Math.abs(y - cy))), width = half / 16;
  const opened = stops.filter(({link}) => "Gg".includes(state[link])), from = [...new Set(opened.map(comesFrom))].join(" and ");
  const viewBox = `${-half} ${-half} ${2 * half} ${2 * half}`;
  const box = svg("svg", {viewBox, role: "img", "aria-label": from ? `green from ${from}` : "no green"});
  const point = (x, y) => `${(x - cx).toFixed(1)} ${(cy - y).toFixed(1)}`;
  const before = (stop, metres) => point(stop.x - metres * stop.ux, stop.y - metres * stop.uy);
  const line = (d, colour, more = {}) =>
    box.append(svg("path", {d, fill: "none", stroke: `var(--${colour})`, "stroke-width": width, ...more}));
  for (const stop of stops) line(`M${before(stop, half)}L${before(stop, 0)}`, "road");
  for (const stop of stops) {
    if (!opened.includes(stop)) line(`M${before(stop, width)}L${before(stop, 0)}`, "red", {"stroke-width": width * 1.4});
  }
  for (const stop of opened) {
    const ahead = Math.hypot(stop.outX - stop.x, stop.outY - stop.y) / 2;
    const bend = {x: stop.x + ahead * stop.ux, y: stop.y + ahead * stop.uy};
    const yields = state[stop.link] === "g" ? {"stroke-dasharray": `${width * 1.4} ${width}`} : {};
    const way = `M${before(stop, half / 2)}L${before(stop, 0)}Q${point(bend.x, bend.y)} ${point(stop.outX, stop.outY)}`;
    line(way, "green", yields);
    box.append(svg("path", {fill: "var(--green)", d: arrow(stop, bend, 2.4 * width, point)}));
  }
  return box;
}

function arrow({outX, outY}, bend, size, point) {
  const long = Math.hypot(outX - bend.x, outY - bend.y) || 1, ux = (outX - bend.x) / long, uy = (outY - bend.y) / long;
  const corner = (along, aside) => point(outX + size * (along * ux - aside * uy), outY + size * (along * uy + aside * ux));
  return `M${corner(1, 0)}L${corner(0, 0.7)}L${corner(0, -0.7)}Z`;
}
