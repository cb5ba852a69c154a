/**
 * What the shop sent and what the driver's phone got, and the verdict over both. Knows neither sockets nor the page.
 *
 * Every parcel travels two ways: through the driver's durable queue, and as a plain announcement on the board,
 * which the client's connection recovery replays. A parcel counts as lost on a way as soon as the order gives it
 * away (one that was sent later is there already), or when the phone has been connected for long and it has still
 * not come.
 */

export interface Parcel {
  readonly id: string;
  readonly driver: string;
  readonly goods: string;
  readonly sent_at_ms: number;
  /** How many times the shop has asked for it; a server killed before its answer makes the shop ask again. */
  readonly attempt: number;
}

/** A parcel as the server passes it on: with the run (0, 1, 2… after each restart) of the server that took it in. */
export interface PassedOn extends Parcel {
  readonly run: number;
}

/** One connection of the phone. The server says its run in an event, which may come after what was replayed. */
export interface Connection {
  run: number | null;
}

export interface Arrival {
  readonly atMs: number;
  readonly waitedMs: number;
  /** It was sent while the phone was offline. */
  readonly wasOffline: boolean;
  readonly takenInByRun: number;
  readonly connection: Connection;
}

export interface Row {
  readonly parcel: Parcel;
  readonly sentOffline: boolean;
  attempts: number;
  acceptedAttempt: number | null;
  acceptedAtMs: number | null;
  queue: Arrival | null;
  board: Arrival | null;
}

export interface Verdict {
  readonly sent: number;
  readonly accepted: number;
  readonly delivered: number;
  readonly announced: number;
  readonly waiting: number;
  readonly lost: number;
  readonly doubled: number;
  /** How many arrived after one that was sent later, by either way. */
  readonly misplaced: number;
  readonly redelivered: number;
}

/** A parcel that a connected phone has not got after this long counts as lost. */
const OVERDUE_MS = 15_000;

export class Ledger {
  readonly rows: Row[] = [];
  private readonly byId = new Map<string, Row>();
  private readonly announcements = new Set<string>();
  private doubled = 0;
  private misplaced = 0;
  private redelivered = 0;

  sent(parcel: Parcel, phoneOnline: boolean): void {
    const row: Row = {
      parcel,
      sentOffline: !phoneOnline,
      attempts: 0,
      acceptedAttempt: null,
      acceptedAtMs: null,
      queue: null,
      board: null,
    };
    this.rows.push(row);
    this.byId.set(parcel.id, row);
  }

  asked(id: string, attempt: number): void {
    const row = this.byId.get(id);
    if (row) row.attempts = attempt;
  }

  accepted(id: string, attempt: number, nowMs: number): void {
    const row = this.byId.get(id);
    if (!row) return;
    row.acceptedAttempt = attempt;
    row.acceptedAtMs = nowMs;
  }

  /** The queue delivered a parcel. The same one again means that an acknowledgement was cut off: recognised, counted. */
  delivered(parcel: PassedOn, connection: Connection, nowMs: number): void {
    const row = this.byId.get(parcel.id);
    if (!row) return;
    if (row.queue) {
      this.redelivered += 1;
      return;
    }
    this.misplaced += this.overtaken(row, (other) => other.queue !== null) ? 1 : 0;
    row.queue = arrival(row, parcel, connection, nowMs);
  }

  /** The board announced a parcel. What was announced once must come once: each attempt is an announcement of its own. */
  announced(parcel: PassedOn, connection: Connection, nowMs: number): void {
    const row = this.byId.get(parcel.id);
    if (!row) return;
    const key = announcement(parcel.id, parcel.attempt);
    if (this.announcements.has(key)) this.doubled += 1;
    this.announcements.add(key);
    if (row.board) return;
    this.misplaced += this.overtaken(row, (other) => other.board !== null) ? 1 : 0;
    row.board = arrival(row, parcel, connection, nowMs);
  }

  /**
   * Count.
   *
   * @param connectedSinceMs since when the phone has been connected, or null while it is not
   */
  verdict(connectedSinceMs: number | null, nowMs: number): Verdict {
    const accepted = this.rows.filter((row) => row.acceptedAttempt !== null);
    const late = (row: Row): boolean =>
      connectedSinceMs !== null && nowMs - Math.max(connectedSinceMs, row.acceptedAtMs ?? nowMs) > OVERDUE_MS;
    const lost = missing(accepted, (row) => row.queue !== null, late)
      + missing(accepted, (row) => this.announcements.has(announcement(row.parcel.id, row.acceptedAttempt ?? 0)), late);
    return {
      sent: this.rows.length,
      accepted: accepted.length,
      delivered: this.rows.filter((row) => row.queue).length,
      announced: this.rows.filter((row) => row.board).length,
      waiting: this.rows.filter((row) => !row.queue || !row.board).length,
      lost,
      doubled: this.doubled,
      misplaced: this.misplaced,
      redelivered: this.redelivered,
    };
  }

  private overtaken(row: Row, has: (other: Row) => boolean): boolean {
    return this.rows.findLastIndex(has) > this.rows.indexOf(row);
  }
}

/** Whether the server that took the parcel in was killed before it was delivered. */
export function survivedKill(arrival: Arrival): boolean {
  return (arrival.connection.run ?? 0) > arrival.takenInByRun;
}

function arrival(row: Row, parcel: PassedOn, connection: Connection, nowMs: number): Arrival {
  return {
    atMs: nowMs,
    waitedMs: Math.max(0, nowMs - row.parcel.sent_at_ms),
    wasOffline: row.sentOffline,
    takenInByRun: parcel.run,
    connection,
  };
}

function announcement(id: string, attempt: number): string {
  return `${id}#${attempt}`;
}

function missing(rows: Row[], has: (row: Row) => boolean, late: (row: Row) => boolean): number {
  const newest = rows.findLastIndex(has);
  return rows.filter((row, index) => !has(row) && (index < newest || late(row))).length;
}
