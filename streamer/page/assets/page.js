// The live page: listens to the process, keeps the last minutes, draws.

import { LineChart } from "./charts.js";
import { say } from "./dom.js";
import { Facets, Palette } from "./facets.js";
import { showDead, showDrift, showEngine, showLabelSets, showRoutes, showTiles } from "./figures.js";
import { Records } from "./records.js";
import { ago, brief, duration, plural, rate, visible } from "./words.js";

const MOST = { points: 300, buckets: 60, records: 40 };
const SILENT_MS = 3500;
const RETRY_MS = 4000;
const CONDITIONS = {
  connecting: "Connecting",
  lost: "Connection lost, trying again",
  starting: "Loading the model",
  waiting: "Waiting for partitions",
  labelling: "Labelling",
  idle: "Idle: everything is read",
  paused: "Labelling, reading is paused",
  stuck: "Standing still",
  stopping: "Stopping",
};
const THEMES = { "": "automatic", light: "light", dark: "dark" };
const $ = (id) => document.getElementById(id);

/** What came so far; `now` is the time of the process, in Unix seconds. */
const store = { state: null, points: [], buckets: [], records: [], now: 0, heard: 0, refused: false, ahead_s: 0 };

function take(message) {
  for (const kind of Object.keys(MOST)) {
    const kept = message.whole ? [] : store[kind];
    store[kind] = [...kept, ...message[kind]].slice(-MOST[kind]);
  }
  store.state = message.state;
  store.ahead_s = message.now_s - Date.now() / 1000;
  store.heard = performance.now();
  store.refused = false;
}

// charts

const RANKS = ["p50", "p95", "p99"];
const percentiles = (row) => RANKS.map((rank, i) => `${rank} ${row?.[6] ? duration(row[6][i]) : "\u2013"}`);
const latencyTold = (row) => percentiles(row).forEach((words, i) => say($("chart-latency").querySelectorAll(".key")[i], words));
const lagWords = (row) => `${plural(row[4], "record")}${row[5] ? `, ${duration(row[5])}` : ""}`;
const lagTold = (row, before_s) => {
  const words = row === null ? "\u2013" : lagWords(row);
  say($("chart-lag").querySelector(".value"), before_s === null ? words : `${words}, ${ago(before_s)} ago`);
};
const rateTold = (row, before_s) => {
  say($("rate"), row === null ? "0" : rate(before_s === null ? lately() : row[2]));
  say(document.querySelector(".unit"), `records labelled a second${before_s === null ? "" : `, ${ago(before_s)} ago`}`);
};

/** Labelled a second, over the last ten: one second alone jumps. */
function lately() {
  const last = store.points.slice(-10);
  return last.reduce((sum, point) => sum + point[2], 0) / (last.length || 1);
}

const charts = [
  new LineChart($("chart-rate"), {
    about: "Records labelled a second",
    area: true,
    least: 1,
    show: brief,
    read: (row) => (row === null ? "nothing yet" : `${rate(row[2])}, read ${rate(row[1])}`),
    series: [
      { className: "l0", valueOf: (row) => row[2], told: rateTold },
      { className: "l-read", valueOf: (row) => row[1] },
    ],
  }),
  new LineChart($("chart-latency"), {
    about: "Latency: p50, p95, p99",
    area: false,
    least: 0.01,
    show: duration,
    read: (row) => (row === null ? "nothing yet" : percentiles(row).join(", ")),
    series: [
      { className: "l0", valueOf: (row) => row[6]?.[0] ?? null, told: latencyTold },
      { className: "l1", valueOf: (row) => row[6]?.[1] ?? null },
      { className: "l2", valueOf: (row) => row[6]?.[2] ?? null },
    ],
  }),
  new LineChart($("chart-lag"), {
    about: "Lag in records",
    area: true,
    least: 10,
    show: brief,
    read: (row) => (row === null ? "nothing yet" : lagWords(row)),
    series: [{ className: "l0", valueOf: (row) => row[4], told: lagTold }],
  }),
];
const palette = new Palette();
const facets = new Facets($("streams"), $("facets"), $("no-facets"), palette);
const records = new Records($("records"), { hold: $("hold"), note: $("records-note"), empty: $("no-records"), palette });

// drawing

function showCondition() {
  const silent = store.heard && performance.now() - store.heard > SILENT_MS;
  const gone = { word: store.heard || store.refused ? "lost" : "connecting", reasons: [] };
  const { word, reasons } = silent || store.refused || !store.state ? gone : store.state.condition;
  if ($("condition").dataset.word !== word) {
    $("condition").dataset.word = word;
    say($("condition-word"), CONDITIONS[word]);
  }
  const wrong = word === "stuck" || word === "paused" ? reasons.map(visible).join("; ") : "";
  $("banner").hidden = !wrong;
  say($("banner"), wrong);
}

function draw() {
  showCondition();
  if (!store.state || document.hidden) return;
  store.now = Date.now() / 1000 + store.ahead_s;
  const { state } = store;
  const { model } = state;
  say($("model"), model ? visible(`${model.name} \u00b7 ${model.device} \u00b7 ${model.dtype}`) : "");
  say($("foot"), `streamer ${state.version}`);
  for (const chart of charts) chart.update(store.points, store.now);
  showTiles($("figures"), store);
  facets.update(store);
  records.update(store);
  showDead($("dead"), $("no-dead"), store);
  showDrift($("drift-section"), $("drift"), $("no-drift"), store);
  showRoutes($("routes"), $("no-routes"), store);
  showLabelSets($("label-sets"), $("reload"), $("reload-failure"), store);
  showEngine($("engine"), store);
}

// listening

function listen() {
  const source = new EventSource("page/events");
  source.addEventListener("message", (event) => {
    take(JSON.parse(event.data));
    requestAnimationFrame(draw);
  });
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
    store.refused = true; // too many look already, or the token is another one now
    draw();
    setTimeout(listen, RETRY_MS);
  });
}

function showTheme() {
  const theme = document.documentElement.dataset.theme ?? "";
  say($("theme"), `Theme: ${THEMES[theme]}`);
}

$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const root = document.documentElement;
  const next = names[(names.indexOf(root.dataset.theme ?? "") + 1) % names.length];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  try {
    localStorage.setItem("streamer-theme", next);
  } catch {
    // for this visit only, then
  }
  showTheme();
});

showTheme();
document.addEventListener("visibilitychange", () => requestAnimationFrame(draw));
setInterval(() => {
  if (!store.heard || performance.now() - store.heard > 1500) requestAnimationFrame(draw);
}, 1000);
listen();
