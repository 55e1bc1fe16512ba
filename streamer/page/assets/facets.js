// The labels given in each stream: shares now, and over time.

import { ShareChart, span } from "./charts.js";
import { el, keep, quoted, say } from "./dom.js";
import { plural, share, visible, whole } from "./words.js";

const SHOWN = 8; // as many as there are colours
const MOODS = new Set(["negative", "neutral", "positive"]);
const BUCKET_S = 5;

/** Colours of the labels that are shown; a label keeps its own as long as it is among them. */
export class Palette {
  constructor() {
    this.places = new Map();
  }

  /** These labels of a facet are shown, and no others. */
  assign(topic, facet, labels) {
    const key = `${topic} ${facet}`;
    const before = this.places.get(key) ?? new Map();
    const now = new Map(labels.filter((name) => before.has(name)).map((name) => [name, before.get(name)]));
    const free = Array.from({ length: SHOWN }, (_, place) => place).filter((place) => !new Set(now.values()).has(place));
    for (const name of labels) if (!now.has(name)) now.set(name, free.shift());
    this.places.set(key, now);
  }

  of(topic, facet, name) {
    if (MOODS.has(name)) return `var(--c-${name})`;
    const place = this.places.get(`${topic} ${facet}`)?.get(name);
    return place === undefined ? "var(--c-other)" : `var(--c${place})`;
  }
}

/** Which stream is looked at; all of them are to be chosen from. */
export class Facets {
  constructor(tabs, cards, empty, palette) {
    Object.assign(this, { tabs, cards, empty, palette, chosen: null, charts: new Map() });
  }

  update(store) {
    this.store = store;
    const { streams } = store.state;
    const stream = streams.find((one) => one.topic === this.chosen) ?? streams[0];
    this.tabs.hidden = streams.length < 2;
    for (const one of streams) {
      for (const facet of one.facets) this.palette.assign(one.topic, facet.name, ordered(facet).slice(0, SHOWN).map(({ name }) => name));
    }
    keep(
      this.tabs,
      streams,
      (one) => one.topic,
      (one) => this.tab(one),
      (node, one) => {
        node.ariaPressed = String(one === stream);
      },
    );
    const facets = stream?.facets ?? [];
    this.empty.hidden = facets.length > 0;
    keep(
      this.cards,
      facets,
      (facet) => `${stream.topic} ${facet.name}`,
      (facet) => this.card(facet),
      (node, facet) => this.refresh(node, stream, facet),
    );
    for (const node of this.charts.keys()) if (!node.isConnected) this.charts.delete(node);
  }

  tab(stream) {
    const node = el("button", "quiet", quoted("", visible(stream.topic)));
    node.type = "button";
    node.addEventListener("click", () => {
      this.chosen = stream.topic;
      this.update(this.store);
    });
    return node;
  }

  card(facet) {
    const chart = new ShareChart();
    const kind = facet.kind === "single" ? "one holds" : "any may hold";
    const title = el("h3", "", quoted("", visible(facet.name)));
    const node = el("article", "facet", title, el("span", "kind", kind), chart.drawing, el("ul", ""));
    this.charts.set(node, chart);
    return node;
  }

  refresh(node, stream, facet) {
    const rows = labelsShown(facet, (name) => this.palette.of(stream.topic, facet.name, name));
    this.draw(this.charts.get(node), facet, rows);
    keep(
      node.querySelector("ul"),
      rows,
      (row) => row.key,
      (row) => labelRow(row),
      (line, row) => {
        const part = stream.decided ? row.count / stream.decided : 0;
        say(line.querySelector(".share"), share(part));
        say(line.querySelector(".count"), whole(row.count));
        line.style.setProperty("--share", `${Math.min(100, 100 * part).toFixed(2)}%`);
      },
    );
  }

  draw(chart, facet, rows) {
    const { buckets, points, now } = this.store;
    const layer = new Map();
    rows.forEach((row, i) => row.ids.forEach((id) => layer.set(id, i)));
    const columns = buckets.map(([time, ...counts]) => {
      const amounts = rows.map(() => 0);
      for (const [id, count] of counts) if (layer.has(id)) amounts[layer.get(id)] += count;
      return [time, amounts];
    });
    const most = rows.reduce((best, row) => (row.count > best.count ? row : best), rows[0]);
    const about = most.count ? `Shares over time; most often ${most.name}` : "Shares over time; nothing yet";
    chart.update(about, rows.map((row) => row.colour), columns, now, span(points, now), BUCKET_S);
  }
}

/** Few labels in their order, many by how often they were given. */
function ordered(facet) {
  const labels = [...facet.labels];
  return labels.length > 5 ? labels.sort((one, other) => other.count - one.count) : labels;
}

/** Rows of a card: the first labels, the rest in one, abstentions. */
function labelsShown(facet, colour) {
  const labels = ordered(facet);
  const rest = labels.splice(SHOWN);
  const rows = labels.map(({ name, count, id }) => ({
    key: `label ${name}`, name: visible(name), count, ids: [id], colour: colour(name),
  }));
  const others = rest.length + facet.others.labels;
  if (others) {
    const count = rest.reduce((sum, label) => sum + label.count, facet.others.count);
    const name = `${plural(others, "more label")}`;
    rows.push({ key: "others", name, count, ids: rest.map((label) => label.id), colour: "var(--c-other)", muted: true });
  }
  const { abstained } = facet;
  if (abstained.count) {
    rows.push({ key: "none", name: "abstained", count: abstained.count, ids: [abstained.id], colour: "var(--c-none)", muted: true });
  }
  return rows;
}

function labelRow(row) {
  const node = el("li", row.muted ? "label none" : "label", el("span", "swatch"), quoted("", row.name), el("span", "share"), el("span", "count"));
  node.style.setProperty("--swatch", row.colour);
  return node;
}
