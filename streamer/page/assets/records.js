// The latest records, with their labels: a sample, newest first.

import { el, keep, quoted, say } from "./dom.js";
import { ago, visible } from "./words.js";

const MOST = 12;

export class Records {
  constructor(list, { hold, note, empty, palette }) {
    Object.assign(this, { list, hold, note, empty, palette, held: false, drawn: false });
    hold.addEventListener("click", () => {
      this.held = !this.held;
      hold.ariaPressed = String(this.held);
      say(hold, this.held ? "Go on" : "Hold");
      this.update(this.store);
    });
  }

  update(store) {
    this.store = store;
    const { records, state, now } = store;
    this.note.hidden = state.show_text;
    this.empty.hidden = records.length > 0;
    if (!this.held) {
      const shown = records.slice(-MOST).reverse();
      keep(this.list, shown, (one) => one.number, (one) => this.row(one), null);
      this.drawn = records.length > 0;
    }
    for (const time of this.list.querySelectorAll("time")) say(time, ago(now - Number(time.dataset.at)));
  }

  row(record) {
    const time = el("time", "");
    time.dataset.at = record.at_s;
    time.dateTime = new Date(record.at_s * 1000).toISOString();
    const head = el("header", "", time, quoted("", visible(record.id)));
    if (record.truncated) head.append(el("span", "", "cut to fit the model"));
    for (const to of record.routes) head.append(el("span", "route", "\u2192 ", quoted("", visible(to))));
    const chips = el("ul", "chips", ...record.facets.flatMap((facet) => chipsOf(facet, record.topic, this.palette)));
    const text = record.text === null ? null : el("p", "text", quoted("", visible(record.text)));
    return el("li", this.drawn ? "row new" : "row", head, text, chips);
  }
}

function chipsOf(verdict, topic, palette) {
  const about = visible(verdict.name);
  if (verdict.labels.length) {
    return verdict.labels.map(([label, score]) => chip("chip", about, visible(label), score, palette.of(topic, verdict.name, label)));
  }
  const [label, score] = verdict.best;
  const said = verdict.abstained ? `abstained, ${visible(label)}` : `none, ${visible(label)}`;
  return [chip("chip abstained", about, said, score, "var(--c-none)")];
}

function chip(className, about, label, score, swatch) {
  const node = el("li", className, el("span", "unseen", `${about}: `), quoted("", label), el("span", "score", score.toFixed(2)));
  node.title = about;
  node.style.setProperty("--swatch", swatch);
  return node;
}
