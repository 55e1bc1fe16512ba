// Numbers and times as words.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const whole = (value) => WHOLE.format(value);

/** As short as a tile: 9,999 and below as they are, 12.3K above. */
export const brief = (value) => (value < 10000 ? whole(value) : SHORT.format(value));

/** With as many digits as say something. */
export function rate(value) {
  if (value >= 9.95) return brief(value);
  return value === 0 ? "0" : value.toFixed(1);
}

/** 0..1 as a percentage. */
export function share(value) {
  const percent = 100 * value;
  return percent > 0 && percent < 9.95 ? `${percent.toFixed(1)} %` : `${percent.toFixed(0)} %`;
}

/** A duration: 12 ms, 3.4 s, 5 min, 2 h, 3 d. */
export function duration(seconds) {
  if (seconds < 0.9995) return `${Math.max(0, seconds * 1000).toFixed(0)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(0)} h` : `${(seconds / 86400).toFixed(0)} d`;
}

/** How long ago something was. */
export function ago(seconds) {
  if (seconds < 1) return "now";
  return seconds < 10 ? `${Math.floor(seconds)} s` : duration(Math.floor(seconds));
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${unit && value < 10 ? value.toFixed(1) : value.toFixed(0)} ${units[unit]}`;
}

export const plural = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;

/** A text with its control and direction signs made visible: U+202E is shown, not obeyed. */
export function visible(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g, (sign) => {
    const code = sign.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  });
}
