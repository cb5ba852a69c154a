/** Wires the page: the shop's and the driver's sockets, the server's state, the ledger, and what is shown of them. */

import { Ledger, type Parcel, type PassedOn } from "./ledger";
import { Phone } from "./phone";
import { ServerWatch } from "./server";
import { Shop } from "./shop";
import { Timeline, type Span } from "./timeline";
import { byId, seconds, show, showParcels, showState, showSwitch, showVerdict } from "./view";

const GOODS = [
  "bicycle bell", "lemon cake", "two maps", "a fern", "chess clock", "wool socks", "field radio",
  "paper kite", "old camera", "tea tin", "red umbrella", "tuning fork",
];
const AUTO_EVERY_MS = 1000;
const REDRAW_EVERY_MS = 100;

/** Each page has a driver, and so a queue, of its own; two open tabs do not share parcels. */
const driver = String(1000 + Math.floor(Math.random() * 9000));
const ledger = new Ledger();
const absences: { fromMs: number; toMs: number | null }[] = [];
const timeline = new Timeline(byId<SVGSVGElement>("timeline"));
let listChanged = true;

const shop = new Shop({
  asked: (parcel) => {
    ledger.asked(parcel.id, parcel.attempt);
    listChanged = true;
    showState("shop", parcel.attempt > 1 ? "wait" : "", `${parcel.id}: asking${parcel.attempt > 1 ? " again" : ""}…`);
  },
  accepted: (parcel) => {
    ledger.accepted(parcel.id, parcel.attempt, Date.now());
    showState("shop", "good", `${parcel.id} accepted`);
  },
  unanswered: (parcel) => showState("shop", "wait", `${parcel.id}: no answer, waiting to ask again`),
});

const phone = new Phone(driver, {
  delivered: (parcel, connection) => recordOwn(parcel, () => ledger.delivered(parcel, connection, Date.now())),
  announced: (parcel, connection) => recordOwn(parcel, () => ledger.announced(parcel, connection, Date.now())),
  changed: () => showPhone(),
});

const server = new ServerWatch(() => showServer());

function recordOwn(parcel: PassedOn, record: () => void): void {
  // The board is for everyone: what another tab's shop sends is announced here, too.
  if (parcel.driver !== driver) return;
  record();
  listChanged = true;
}

function send(): void {
  const number = ledger.rows.length + 1;
  const parcel: Parcel = {
    id: `P-${String(number).padStart(3, "0")}`,
    driver,
    goods: GOODS[(number - 1) % GOODS.length] ?? "parcel",
    sent_at_ms: Date.now(),
    attempt: 1,
  };
  ledger.sent(parcel, phone.online);
  shop.send(parcel);
  listChanged = true;
}

function setOnline(online: boolean): void {
  if (online === phone.online) return;
  if (online) phone.goOnline();
  else phone.goOffline();
}

function showPhone(): void {
  showSwitch(byId("online"), phone.online);
  byId("online-text").textContent = phone.online ? "Online" : "Offline";
  listChanged = true;
  const connected = phone.connectedSinceMs !== null;
  if (connected) showState("phone", "good", `Driver ${driver} is connected`);
  else if (phone.online) showState("phone", "wait", "Looking for the server…");
  else showState("phone", "wait", `Driver ${driver} is in a tunnel`);
  show("recovered", phone.recovered === null ? "–" : String(phone.recovered));
  const absence = absences.at(-1);
  if (!phone.online && (!absence || absence.toMs !== null)) absences.push({ fromMs: Date.now(), toMs: null });
  if (connected && absence) absence.toMs ??= Date.now();
}

function showServer(): void {
  const outage = server.outages.at(-1);
  if (server.up) showState("server", "good", server.outages.length ? "Up again" : "Up");
  else showState("server", "bad", "Down – being started again");
  byId<HTMLButtonElement>("kill").disabled = !server.up;
  if (server.state) {
    show("pid", server.state.pid);
    show("restarts", server.state.run);
    show("store", server.state.store);
  }
  if (outage) show("outage", outage.toMs === null ? "…" : seconds(outage.toMs - outage.fromMs));
}

function redraw(): void {
  const nowMs = Date.now();
  showVerdict(ledger.verdict(phone.connectedSinceMs, nowMs), phone.connectedSinceMs !== null);
  if (listChanged) showParcels(ledger.rows);
  listChanged = false;
  const outages: readonly Span[] = server.outages;
  timeline.draw(ledger.rows, absences, outages, nowMs);
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The whole story, with the same buttons a visitor would press. */
async function play(): Promise<void> {
  setOnline(true);
  const parcels = async (count: number): Promise<void> => {
    for (let sent = 0; sent < count; sent += 1) {
      send();
      await pause(700);
    }
  };
  await parcels(3);
  setOnline(false);
  await pause(900);
  await parcels(3);
  await server.kill();
  await parcels(3);
  await pause(1500);
  setOnline(true);
  await pause(1500);
  await parcels(2);
}

function start(): void {
  let timer: number | null = null;
  byId("send").addEventListener("click", send);
  byId("auto").addEventListener("click", () => {
    if (timer === null) {
      timer = window.setInterval(send, AUTO_EVERY_MS);
    } else {
      window.clearInterval(timer);
      timer = null;
    }
    showSwitch(byId("auto"), timer !== null);
  });
  byId("online").addEventListener("click", () => setOnline(!phone.online));
  byId("kill").addEventListener("click", () => void server.kill());
  const playButton = byId<HTMLButtonElement>("play");
  playButton.addEventListener("click", () => {
    playButton.disabled = true;
    playButton.textContent = "Playing…";
    void play().finally(() => {
      playButton.disabled = false;
      playButton.textContent = "Play it again";
    });
  });
  showPhone();
  showServer();
  window.setInterval(redraw, REDRAW_EVERY_MS);
}

start();
