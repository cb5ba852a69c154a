/** Writes into the page: every text that changes is set here, from the values it is handed. */

import { survivedKill, type Arrival, type Row, type Verdict } from "./ledger";

/** The table shows only so many, or a page left open for a day would drown in them. */
const SHOWN_ROWS = 200;

type Mood = "good" | "wait" | "bad" | "";

/** Find an element of index.html; a missing one is a mistake in the page. */
export function byId<T extends Element = HTMLElement>(id: string): T {
  const found = document.querySelector<T>(`#${id}`);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

/** Set the text of the element with this data-testid, touching the page only if it changes. */
export function show(testId: string, text: string | number): void {
  const target = document.querySelector(`[data-testid="${testId}"]`);
  if (!target) throw new Error(`index.html has no data-testid ${testId}`);
  if (target.textContent !== String(text)) target.textContent = String(text);
}

/** Set a station's state line: `shop`, `server` or `phone`. */
export function showState(station: string, mood: Mood, text: string): void {
  byId(`${station}-dot`).className = `dot ${mood}`;
  const line = byId(`${station}-text`);
  if (line.textContent !== text) line.textContent = text;
}

export function showSwitch(button: HTMLElement, on: boolean): void {
  button.setAttribute("aria-checked", String(on));
}

export function showVerdict(verdict: Verdict, settled: boolean): void {
  for (const name of ["sent", "delivered", "waiting", "lost", "doubled", "redelivered"] as const) {
    show(name, verdict[name]);
  }
  for (const name of ["lost", "doubled"] as const) {
    const box = document.querySelector(`[data-testid="${name}"]`)?.parentElement;
    box?.classList.toggle("broken", verdict[name] > 0);
  }
  const [mood, text] = summary(verdict, settled);
  const line = byId("summary");
  line.className = `summary ${mood}`;
  if (line.textContent !== text) line.textContent = text;
}

function summary(verdict: Verdict, settled: boolean): [string, string] {
  if (verdict.lost || verdict.doubled || verdict.misplaced) {
    const counts = `${verdict.lost} lost, ${verdict.doubled} doubled, ${verdict.misplaced} out of order`;
    return ["bad", `The promise was broken: ${counts}. Please report it.`];
  }
  if (verdict.sent === 0) return ["", "Send the first pickup."];
  if (verdict.waiting > 0) {
    const noun = verdict.waiting === 1 ? "parcel is" : "parcels are";
    return ["", `${verdict.waiting} ${noun} on the way${settled ? "." : ", kept safe until the driver is back."}`];
  }
  const noun = verdict.sent === 1 ? "The parcel has" : `All ${verdict.sent} parcels have`;
  return ["good", `${noun} arrived, once each and in order – by the queue and on the board.`];
}

export function showParcels(rows: readonly Row[]): void {
  byId("empty").hidden = rows.length > 0;
  byId("parcels").replaceChildren(...rows.slice(-SHOWN_ROWS).toReversed().map(parcelRow));
}

export function seconds(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

function parcelRow(row: Row): HTMLTableRowElement {
  const line = document.createElement("tr");
  line.dataset["parcel"] = row.parcel.id;
  const name = document.createElement("td");
  name.append(made("b", "", row.parcel.id), made("span", "goods", row.parcel.goods));
  if (row.attempts > 1) name.append(" ", made("span", "tag waiting", `asked ${row.attempts} times`));
  line.append(name, arrivalCell("queue", row.queue), arrivalCell("board", row.board));
  return line;
}

function arrivalCell(way: string, arrival: Arrival | null): HTMLTableCellElement {
  const cell = document.createElement("td");
  cell.dataset["way"] = way;
  if (!arrival) {
    cell.append(made("span", "tag waiting", "waiting"));
    return cell;
  }
  cell.append(made("span", "waited", seconds(arrival.waitedMs)));
  if (arrival.wasOffline) cell.append(made("span", "tag offline", "waited for the driver"));
  if (survivedKill(arrival)) cell.append(made("span", "tag kill", "survived kill -9"));
  if (!arrival.wasOffline && !survivedKill(arrival)) cell.append(made("span", "tag live", "live"));
  return cell;
}

function made(name: string, style: string, text: string): HTMLElement {
  const element = document.createElement(name);
  if (style) element.className = style;
  element.textContent = text;
  return element;
}
