/** The shop: sends pickups one after another, and asks again with the same id until the server has answered. */

import { io, type Socket } from "socket.io-client";

import type { Parcel } from "./ledger";

export interface ShopEvents {
  asked(parcel: Parcel): void;
  accepted(parcel: Parcel): void;
  /** The server went away, or took too long, before its answer. */
  unanswered(parcel: Parcel): void;
}

interface Reply {
  readonly accepted?: string;
  readonly refused?: string;
}

const ANSWER_TIMEOUT_MS = 4000;

export class Shop {
  private readonly socket: Socket;
  private readonly outbox: Parcel[] = [];
  private busy = false;

  constructor(private readonly events: ShopEvents) {
    this.socket = io({
      auth: { role: "shop" },
      forceNew: true,
      reconnectionDelay: 150,
      reconnectionDelayMax: 600,
    });
  }

  /** Put a parcel into the outbox; whatever happens to the server, it leaves in the order it came. */
  send(parcel: Parcel): void {
    this.outbox.push(parcel);
    if (!this.busy) void this.drain();
  }

  private async drain(): Promise<void> {
    this.busy = true;
    for (let parcel = this.outbox[0]; parcel; parcel = this.outbox[0]) {
      await this.deliver(parcel);
      this.outbox.shift();
    }
    this.busy = false;
  }

  private async deliver(parcel: Parcel): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      const asked = { ...parcel, attempt };
      await this.connected();
      this.events.asked(asked);
      const reply = await this.ask(asked);
      if (reply?.refused) throw new Error(`the server refused ${parcel.id}: ${reply.refused}`);
      if (reply) {
        this.events.accepted(asked);
        return;
      }
      this.events.unanswered(asked);
    }
  }

  private async ask(parcel: Parcel): Promise<Reply | null> {
    try {
      return (await this.socket.timeout(ANSWER_TIMEOUT_MS).emitWithAck("pickup", parcel)) as Reply;
    } catch {
      // Timed out or cut off: whether the server took it in is unknown, so it is asked again with the same id.
      return null;
    }
  }

  private connected(): Promise<void> {
    if (this.socket.connected) return Promise.resolve();
    return new Promise((resolve) => this.socket.once("connect", resolve));
  }
}
