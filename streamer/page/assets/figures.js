// What stands in numbers: tiles at the top, lists at the side.

import { el, keep, quoted, say } from "./dom.js";
import { ago, brief, bytes, duration, plural, share, visible, whole } from "./words.js";

const part = (some, all) => (all ? share(some / all) : "\u2013");

/** Tiles: [name, value, more, tone]. */
function tiles({ state, points }) {
  const { totals, latency, cache, streams } = state;
  const lag = streams.reduce((sum, one) => sum + one.lag_records, 0);
  const behind = Math.max(0, ...streams.map((one) => one.lag_s ?? 0));
  const [p50, p95, p99] = latency.quantiles_s ?? [];
  const filled = points.slice(-30).filter((point) => point[7] !== null);
  const documents = filled.reduce((sum, point) => sum + point[7], 0) / (filled.length || 1);
  const most = state.model?.window_records;
  const abstained = streams.flatMap((one) => one.facets).reduce((sum, facet) => sum + facet.abstained.count, 0);
  const verdicts = streams.reduce((sum, one) => sum + one.decided * one.facets.length, 0);
  return [
    ["labelled", "Labelled", brief(totals.labelled), `of ${brief(totals.read)} read`],
    ["lag", "Lag", brief(lag), lag ? `${duration(behind)} behind` : "all read"],
    ["latency", "Latency p95", p95 === undefined ? "\u2013" : duration(p95), p95 === undefined ? "" : `p50 ${duration(p50)} \u00b7 p99 ${duration(p99)}`],
    ["window", "Window fill", filled.length ? brief(Math.round(documents)) : "\u2013", most ? `of ${brief(most)} records` : ""],
    ["batch", "Batch fill", part(totals.padded_tokens, totals.capacity_tokens), `${part(totals.padded_tokens - totals.tokens, totals.padded_tokens)} padding`],
    ["cache", "Cache hits", cache ? part(cache.hits, cache.hits + cache.misses) : "\u2013", cache ? bytes(cache.bytes) : "not used yet"],
    ["abstained", "Abstained", part(abstained, verdicts), abstained ? plural(abstained, "verdict") : "of all verdicts"],
    ["dead", "Dead letters", brief(totals.dead), part(totals.dead, totals.read), totals.dead ? "bad" : ""],
  ];
}

export function showTiles(list, store) {
  const make = () => el("div", "", el("dt", ""), el("dd", ""), el("dd", "more"));
  keep(list, tiles(store), ([key]) => key, make, (node, [key, name, value, more, tone]) => {
    const [title, figure, beside] = node.children;
    node.id = `figure-${key}`;
    say(title, name);
    say(figure, value);
    say(beside, more);
    figure.dataset.tone = tone ?? "";
  });
}

/** Dead letters by reason, each with what mends it and the latest one. */
export function showDead(list, empty, { state, now }) {
  const { codes, latest } = state.dead;
  empty.hidden = codes.length > 0;
  const make = () => el("li", "", el("div", "line", quoted("code", ""), el("span", "count")), el("small", ""), el("small", "latest"));
  keep(list, codes, (one) => one.code, make, (node, one) => {
    say(node.querySelector(".code"), visible(one.code));
    say(node.querySelector(".count"), whole(one.count));
    const [meaning, last] = node.querySelectorAll("small");
    say(meaning, one.meaning);
    meaning.title = one.remedy;
    const found = latest.find((letter) => letter.code === one.code);
    const quote = found?.message ? `: ${visible(found.message)}` : "";
    say(last, found ? `Latest ${ago(now - found.at_s)}, ${visible(found.id)}${quote}` : "");
  });
}

function showBars(list, empty, rows) {
  empty.hidden = rows.length > 0;
  const make = () => el("li", "", el("div", "line", quoted("name", ""), el("span", "count")));
  keep(list, rows, (row) => row.key, make, (node, row) => {
    say(node.querySelector(".name"), row.name);
    say(node.querySelector(".count"), row.said);
    node.style.setProperty("--share", `${(100 * row.share).toFixed(2)}%`);
  });
}

export function showRoutes(list, empty, { state }) {
  const all = state.routes.reduce((sum, [, count]) => sum + count, 0);
  showBars(list, empty, state.routes.map(([to, count]) => ({
    key: to, name: visible(to), said: whole(count), share: all ? count / all : 0,
  })));
}

export function showDrift(section, list, empty, { state }) {
  section.hidden = state.drift === null;
  showBars(list, empty, (state.drift ?? []).map(({ topic, aspect, facet, distance }) => ({
    key: `${topic} ${aspect} ${facet}`,
    name: [topic, facet, aspect].filter(Boolean).map(visible).join(" \u00b7 "),
    said: distance.toFixed(2),
    share: Math.min(1, distance),
  })));
}

export function showLabelSets(list, note, warning, { state, now }) {
  const make = () => el("li", "", el("div", "line", quoted("name", ""), el("code", "")), el("small", ""));
  keep(list, state.label_sets, (one) => one.name, make, (node, one) => {
    say(node.querySelector(".name"), visible(one.name));
    say(node.querySelector("code"), one.version);
    const calibrated = one.calibration ? `, calibrated (${one.calibration})` : "";
    say(node.querySelector("small"), `${plural(one.labels, "label")} in ${plural(one.facets, "facet")}, ${plural(one.routes, "route")}${calibrated}`);
  });
  const { taken_up, failed, last_s, refused, failure } = state.reload;
  const since = last_s ? `In use for ${duration(Math.max(1, now - last_s))}` : "Not in use yet";
  say(note, `${since}; ${plural(taken_up, "reload")} taken up, ${whole(failed)} refused.`);
  warning.hidden = !(refused && failure);
  if (failure) say(warning, `The settings that lie there now are refused, these stay (${ago(now - failure.at_s)} ago): ${visible(failure.reason)}`);
}

export function showEngine(list, { state }) {
  const { model, totals } = state;
  const rows = [
    ["Model", model ? `${model.name} ${model.revision === "none" ? "" : model.revision}`.trim() : "loading"],
    ["Device", model ? `${model.device}, ${model.dtype}` : "\u2013"],
    ["Windows", `${whole(totals.windows)}, ${whole(totals.documents)} records`],
    ["Tokens", brief(totals.tokens)],
    ["Cut to fit", plural(totals.truncated, "record")],
    ["Commits", `${whole(totals.commits)}, ${whole(totals.commit_failures)} failed`],
    ["Rewinds", whole(totals.rewinds)],
  ];
  if (!list.children.length) {
    list.replaceChildren(...rows.flatMap(([name]) => [el("dt", "", name), el("dd", "")]));
  }
  rows.forEach(([, value], i) => say(list.children[2 * i + 1], visible(value)));
}
