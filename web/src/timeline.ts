/** Draws the last minute: a lane for each parcel from its sending to its arrival, over the times nobody was there. */

import { survivedKill, type Arrival, type Row } from "./ledger";

export interface Span {
  readonly fromMs: number;
  readonly toMs: number | null;
}

const LONGEST_MS = 60_000;
const SHORTEST_MS = 20_000;
const MOST_LANES = 24;
const FEWEST_LANES = 12;
const AXIS_HEIGHT = 20;
const LEAD_MS = 1500;

export class Timeline {
  constructor(private readonly svg: SVGSVGElement) {}

  draw(rows: readonly Row[], offline: readonly Span[], down: readonly Span[], nowMs: number): void {
    const { width, height } = this.svg.getBoundingClientRect();
    const storyMs = nowMs - (rows[0]?.parcel.sent_at_ms ?? nowMs) + LEAD_MS;
    const shownMs = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, storyMs));
    const fromMs = nowMs - shownMs;
    const x = (atMs: number): number => Math.max(0, ((atMs - fromMs) / shownMs) * (width - 12));
    const floor = height - AXIS_HEIGHT;
    const shown = rows.filter((row) => (row.queue?.atMs ?? nowMs) >= fromMs).slice(-MOST_LANES);
    const lane = floor / Math.max(shown.length, FEWEST_LANES);
    this.svg.replaceChildren(
      ...bands(offline, "band-offline", x, floor, fromMs, nowMs),
      ...bands(down, "band-down", x, floor, fromMs, nowMs),
      ...axis(x, floor, shownMs, nowMs),
      ...shown.flatMap((row, index) => bar(row, x, (index + 0.5) * lane, nowMs)),
    );
  }
}

/** The way a parcel came, as a style and in words. */
export function way(arrival: Arrival | null): "live" | "offline" | "kill" | "waiting" {
  if (!arrival) return "waiting";
  if (survivedKill(arrival)) return "kill";
  return arrival.wasOffline ? "offline" : "live";
}

function bands(spans: readonly Span[], style: string, x: (atMs: number) => number, height: number, fromMs: number, nowMs: number): SVGElement[] {
  return spans
    .filter((span) => (span.toMs ?? nowMs) > fromMs)
    .map((span) => {
      const left = x(span.fromMs);
      const width = Math.max(2, x(span.toMs ?? nowMs) - left);
      return element("rect", { class: style, x: left, y: 0, width, height });
    });
}

function axis(x: (atMs: number) => number, floor: number, shownMs: number, nowMs: number): SVGElement[] {
  const lines = [element("line", { class: "grid", x1: 0, x2: x(nowMs), y1: floor, y2: floor })];
  const tickMs = shownMs > SHORTEST_MS * 1.5 ? 10_000 : 5000;
  for (let ago = 0; ago < shownMs - tickMs / 4; ago += tickMs) {
    const at = x(nowMs - ago);
    lines.push(element("line", { class: "grid", x1: at, x2: at, y1: floor, y2: floor + 4 }));
    const label = element("text", { x: at, y: floor + 16, "text-anchor": ago === 0 ? "end" : "middle" });
    label.textContent = ago === 0 ? "now" : `−${ago / 1000} s`;
    lines.push(label);
  }
  return lines;
}

function bar(row: Row, x: (atMs: number) => number, y: number, nowMs: number): SVGElement[] {
  const style = way(row.queue);
  const from = x(row.parcel.sent_at_ms);
  const to = x(row.queue?.atMs ?? nowMs);
  const line = element("line", { class: `bar ${style}`, x1: from, x2: Math.max(to, from + 0.1), y1: y, y2: y });
  return row.queue ? [line, element("circle", { class: style, cx: to, cy: y, r: 4 })] : [line];
}

function element(name: string, attributes: Record<string, string | number>): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}
