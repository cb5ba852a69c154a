/** The driver's phone: one official Socket.IO client with two ways for parcels to reach it, and a real offline switch. */

import { io, type Socket } from "socket.io-client";

import type { Connection, PassedOn } from "./ledger";

export interface PhoneEvents {
  /** From the durable queue; it is acknowledged when this returns. */
  delivered(parcel: PassedOn, connection: Connection): void;
  /** From the board: a plain emit, replayed by connection recovery. */
  announced(parcel: PassedOn, connection: Connection): void;
  /** Something about the connection changed. */
  changed(): void;
}

export class Phone {
  /** What the driver wants; whether it is really connected is `connectedSinceMs`. */
  online = true;
  connectedSinceMs: number | null = null;
  /** `socket.recovered` of the current connection, or null before the first reconnection. */
  recovered: boolean | null = null;
  private readonly socket: Socket;
  private connections = 0;
  private connection: Connection = { run: null };

  constructor(driver: string, private readonly events: PhoneEvents) {
    this.socket = io({
      auth: { role: "driver", driver },
      forceNew: true,
      reconnectionDelay: 150,
      reconnectionDelayMax: 600,
    });
    this.socket.on("welcome", (server: { run: number }) => {
      this.connection.run = server.run;
      this.events.changed();
    });
    this.socket.on("pickup", (parcel: PassedOn, acknowledge: () => void) => {
      this.events.delivered(parcel, this.connection);
      acknowledge();
    });
    this.socket.on("announced", (parcel: PassedOn) => this.events.announced(parcel, this.connection));
    this.socket.on("connect", () => this.connectionOpened());
    this.socket.on("disconnect", () => this.connectionClosed());
  }

  /** Lose the connection, as in a tunnel: no goodbye to the server, no reconnection. */
  goOffline(): void {
    this.online = false;
    // `socket.disconnect()` would tell the server that the session is over, and there would be nothing to recover.
    // Closing the manager only drops the transport; unlike `engine.close()` it ends a running reconnection, too.
    this.socket.io._close();
    this.events.changed();
  }

  /** Leave the tunnel: the official client reconnects and recovers by itself. */
  goOnline(): void {
    this.online = true;
    this.socket.io.open();
    this.events.changed();
  }

  private connectionOpened(): void {
    this.connections += 1;
    this.connection = { run: null };
    this.connectedSinceMs = Date.now();
    this.recovered = this.connections === 1 ? null : this.socket.recovered;
    this.events.changed();
  }

  private connectionClosed(): void {
    this.connectedSinceMs = null;
    this.events.changed();
  }
}
