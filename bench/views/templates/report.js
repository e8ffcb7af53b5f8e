"use strict";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const root = document.documentElement;
const body = document.querySelector("#rows tbody");
const original = [...body.rows];

// Sorting: descending first, since most columns are better when larger; the third click restores the order.
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

function sortBy(header, index) {
  const next = { none: "descending", descending: "ascending", ascending: "none" }[header.getAttribute("aria-sort")];
  document.querySelectorAll("#rows thead th").forEach((other) => other.setAttribute("aria-sort", "none"));
  header.setAttribute("aria-sort", next);
  const sign = next === "ascending" ? 1 : -1;
  const rows = next === "none" ? original : [...original].sort((a, b) => compare(valueOf(a, index), valueOf(b, index), sign));
  body.append(...rows);
}

document.querySelectorAll("#rows thead th").forEach((header, index) => {
  header.querySelector("button").addEventListener("click", () => sortBy(header, index));
});

const controls = ["filter", "class", "finished"].map((id) => document.getElementById(id));

function filter() {
  const [text, group, finished] = controls;
  const words = text.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const row of original) {
    const content = `${row.textContent} ${row.title}`.toLowerCase();
    row.hidden =
      !words.every((word) => content.includes(word)) ||
      (group.value !== "" && row.dataset.class !== group.value) ||
      (finished.checked && row.dataset.status !== "ok");
    shown += !row.hidden;
  }
  document.getElementById("count").textContent = `${shown} of ${original.length} rows`;
}

controls.forEach((control) => control.addEventListener("input", filter));
filter();

// Rounds are many: a case's table is made when it is opened.
const ROUNDS = ["block", "group", "round", "visit", "position", "steps", "seconds", "activation", "disturbed"];

function cellsOf(values, kind) {
  const line = document.createElement("tr");
  for (const value of values) {
    const cell = document.createElement(kind);
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

// Charts are drawn when they come into view, and again when the theme changes.
const DARK = {
  background: "transparent",
  title: { color: "#e8e8e8", subtitleColor: "#a3a8ae" },
  axis: { labelColor: "#d0d0d0", titleColor: "#e8e8e8", gridColor: "#363b42", domainColor: "#777", tickColor: "#777" },
  legend: { labelColor: "#d0d0d0", titleColor: "#e8e8e8" },
  header: { labelColor: "#e8e8e8", titleColor: "#e8e8e8" },
  text: { color: "#e8e8e8" },
  rule: { color: "#e8e8e8" },
};

function themed(text) {
  if (root.dataset.theme !== "dark") return JSON.parse(text);
  const spec = JSON.parse(text.replaceAll('"#000000"', '"#F0F0F0"').replaceAll('"#0072B2"', '"#4DA3DB"').replaceAll('"#555"', '"#a3a8ae"'));
  for (const [name, value] of Object.entries(DARK)) {
    spec.config[name] = typeof value === "object" ? { ...spec.config[name], ...value } : value;
  }
  return spec;
}

const charts = new Map();

function draw(place) {
  window.vegaEmbed(place, themed(charts.get(place)), { actions: false, renderer: "svg" }).catch(console.error);
}

function drawCharts() {
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((entry) => entry.isIntersecting)) {
      watcher.unobserve(entry.target);
      entry.target.dataset.drawn = "yes";
      draw(entry.target);
    }
  });
  for (const [name, spec] of Object.entries(read("chart-data"))) {
    const place = document.createElement("div");
    place.className = "chart";
    place.id = `chart-${name}`;
    charts.set(place, JSON.stringify(spec));
    document.getElementById("charts").append(place);
    watcher.observe(place);
  }
}

function setTheme(name) {
  root.dataset.theme = name;
  charts.forEach((_, place) => place.dataset.drawn && draw(place));
}

setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark"));
