"use strict";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const root = document.documentElement;
const tables = [...document.querySelectorAll("table.rows")];
const bodies = tables.flatMap((table) => [...table.tBodies]);
const groups = new Map(bodies.map((body) => [body, [...body.rows]]));
const rows = bodies.flatMap((body) => groups.get(body)).filter((row) => !row.classList.contains("group"));

// Sorting: the best first, then the worst first; the third click restores the groups.
function valueOf(row, index) {
  const cell = row.cells[index];
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent;
  return text === "–" || text.startsWith("X") ? null : text;
}

function compare(left, right, sign) {
  if (left === null || right === null) return (left === null) - (right === null);
  if (typeof left === "number" && typeof right === "number") return sign * (left - right);
  return sign * String(left).localeCompare(String(right), "en", { numeric: true });
}

function sortBy(table, header, index) {
  const first = header.dataset.first;
  const second = first === "ascending" ? "descending" : "ascending";
  const next = { none: first, [first]: second, [second]: "none" }[header.getAttribute("aria-sort")];
  table.querySelectorAll("thead th").forEach((other) => other.setAttribute("aria-sort", "none"));
  header.setAttribute("aria-sort", next);
  table.classList.toggle("sorted", next !== "none");
  const own = [...table.tBodies];
  for (const body of own) body.append(...groups.get(body));
  if (next === "none") return;
  const sign = next === "ascending" ? 1 : -1;
  const all = own.flatMap((body) => groups.get(body)).filter((row) => !row.classList.contains("group"));
  own[0].append(...all.sort((a, b) => compare(valueOf(a, index), valueOf(b, index), sign)));
}

for (const table of tables) {
  table.querySelectorAll("thead th").forEach((header, index) => {
    header.querySelector(".sort").addEventListener("click", () => sortBy(table, header, index));
  });
}

const controls = ["filter", "class", "finished"].map((id) => document.getElementById(id));

function filter() {
  const [text, group, finished] = controls;
  const words = text.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const row of rows) {
    const content = `${row.textContent} ${row.title} ${row.closest(".wide").getAttribute("aria-label")}`.toLowerCase();
    row.hidden =
      !words.every((word) => content.includes(word)) ||
      (group && group.value !== "" && row.dataset.class !== group.value) ||
      (finished.checked && row.dataset.status !== "ok");
    shown += !row.hidden;
  }
  for (const own of groups.values()) {
    const [heading, ...others] = own;
    if (heading.classList.contains("group")) heading.hidden = others.every((row) => row.hidden);
  }
  document.getElementById("count").textContent = `${shown} of ${rows.length} rows`;
}

controls.forEach((control) => control?.addEventListener("input", filter));
filter();

// What a column means, beside its header.
const about = document.getElementById("about");

document.querySelectorAll("button.about").forEach((button) => {
  button.addEventListener("click", () => {
    about.textContent = document.getElementById(button.dataset.help).textContent;
    about.showPopover();
    const place = button.getBoundingClientRect();
    const most = root.clientWidth - about.offsetWidth - 8;
    about.style.left = `${Math.max(8, Math.min(place.left, most))}px`;
    about.style.top = `${Math.min(place.bottom + 6, root.clientHeight - about.offsetHeight - 8)}px`;
  });
});

// Rounds are many: a case's table is made when it is opened.
const ROUNDS = ["block", "group", "round", "visit", "position", "steps", "seconds", "activation", "disturbed"];

function cellsOf(values, kind) {
  const line = document.createElement("tr");
  for (const value of values) {
    const cell = document.createElement(kind);
    if (kind === "th") cell.scope = "col";
    cell.className = "right";
    cell.textContent = value === null ? "–" : value;
    line.append(cell);
  }
  return line;
}

let samples;
document.querySelectorAll("details[data-case]").forEach((details) => {
  details.addEventListener("toggle", () => {
    const place = details.querySelector(".rounds");
    samples ??= read("sample-data");
    const lines = samples[details.dataset.case];
    if (place.firstChild || !lines) return;
    const table = document.createElement("table");
    table.append(cellsOf(ROUNDS, "th"), ...lines.map((line) => cellsOf(line, "td")));
    place.append(table);
  });
});

// Charts: on screen as the page's theme and width want them, on paper and in files light.
const DARK = {
  background: "transparent",
  title: { color: "#e8e8e8" },
  axis: { labelColor: "#d0d0d0", titleColor: "#e8e8e8", gridColor: "#363b42", domainColor: "#777", tickColor: "#777" },
  legend: { labelColor: "#d0d0d0", titleColor: "#e8e8e8" },
  header: { labelColor: "#e8e8e8", titleColor: "#e8e8e8" },
  text: { color: "#e8e8e8" },
  rule: { color: "#e8e8e8" },
};
const specs = read("chart-data");
const colours = read("colour-data");
const narrow = window.matchMedia("(max-width: 44rem)");
const figures = [...document.querySelectorAll("figure[data-chart]")];

function dark(spec) {
  const made = JSON.parse(JSON.stringify(spec), (_, value) => colours[value] ?? value);
  for (const [name, value] of Object.entries(DARK)) {
    made.config[name] = typeof value === "object" ? { ...made.config[name], ...value } : value;
  }
  return made;
}

// One below the other, where there is no room beside each other, and no wider than that.
function stacked(part, widest) {
  if (Array.isArray(part)) return part.map((one) => stacked(one, widest));
  if (part === null || typeof part !== "object") return part;
  const inside = ([name, value]) => [name, name === "data" ? value : stacked(value, widest)];
  const made = Object.fromEntries(Object.entries(part).map(inside));
  if (typeof made.width === "number") made.width = Math.min(made.width, widest);
  if (made.hconcat) {
    made.vconcat = made.hconcat;
    delete made.hconcat;
  }
  if (made.columns) made.columns = 1;
  return made;
}

function onPage(name, theme, small) {
  let spec = { ...specs[name], config: { ...specs[name].config, aria: false } };
  delete spec.title;
  if (small) {
    // Names that have places of their own keep them: such a chart is scrolled.
    const placed = JSON.stringify(spec).match(/"label_(x|value)"/);
    spec = stacked(spec, placed ? Infinity : Math.max(150, root.clientWidth - 160));
    spec.config.legend = { ...spec.config.legend, orient: "bottom", columns: 2 };
  }
  return theme === "dark" ? dark(spec) : spec;
}

function named(figure, picture) {
  picture.querySelectorAll("[role]").forEach((part) => part.removeAttribute("role"));
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", figure.querySelector(".chart").getAttribute("aria-label"));
}

const embed = (place, spec) => window.vegaEmbed(place, spec, { actions: false, renderer: "svg" });

async function pictureOf(spec) {
  const drawn = await embed(document.createElement("div"), spec);
  const text = await drawn.view.toSVG();
  drawn.finalize();
  return text;
}

const drawn = new Map();
const paper = new Map();
let newest = 0;

async function drawCharts() {
  const mine = ++newest;
  for (const figure of figures) {
    const name = figure.dataset.chart;
    const place = figure.querySelector(".chart");
    const [theme, small] = [root.dataset.theme, narrow.matches];
    drawn.get(figure)?.finalize();
    drawn.set(figure, await embed(place, onPage(name, theme, small)));
    named(figure, place.querySelector("svg"));
    if (!paper.has(figure)) {
      const same = theme === "light" && !small;
      paper.set(figure, await (same ? drawn.get(figure).view.toSVG() : pictureOf(onPage(name, "light", false))));
    }
    if (mine !== newest) return;
  }
}

// A printer does not wait: the pictures are there before it is asked.
function showOnPaper() {
  newest += 1;
  for (const [figure, text] of paper) {
    const picture = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
    named(figure, picture);
    figure.querySelector(".chart").replaceChildren(document.adoptNode(picture));
  }
}

async function save(figure, file) {
  const text = await pictureOf(specs[figure.dataset.chart]);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

figures.forEach((figure) => {
  const button = figure.querySelector("button.svg");
  button.addEventListener("click", () => save(figure, button.dataset.file).catch(console.error));
});

const redraw = () => window.vegaEmbed && drawCharts().catch(console.error);

function setTheme(name) {
  root.dataset.theme = name;
  redraw();
}

setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark"));
narrow.addEventListener("change", redraw);

const help = document.getElementById("help");
let wasOpen = false;
window.addEventListener("beforeprint", () => {
  wasOpen = help.open;
  help.open = true;
  showOnPaper();
});
window.addEventListener("afterprint", () => {
  help.open = wasOpen;
  redraw();
});
