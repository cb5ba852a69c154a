/** The server as the page sees it from outside, over plain HTTP: is it up, which process, how often was it restarted. */

interface State {
  readonly pid: number;
  readonly run: number;
  readonly store: string;
}

export interface Outage {
  readonly fromMs: number;
  toMs: number | null;
}

const POLL_UP_MS = 400;
const POLL_DOWN_MS = 80;

export class ServerWatch {
  state: State | null = null;
  up = false;
  readonly outages: Outage[] = [];

  constructor(private readonly changed: () => void) {
    void this.poll();
  }

  /** Have the server process killed with SIGKILL. It dies before it can answer, so no answer is the good answer. */
  async kill(): Promise<void> {
    try {
      // The header is not a simple one, so that no other site's page can do this.
      const reply = await fetch("demo/kill", { method: "POST", headers: { "x-waypost-demo": "kill" } });
      if (!reply.ok) throw new Error(`the server refused to be killed: ${await reply.text()}`);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      this.down();
    }
  }

  private async poll(): Promise<void> {
    for (;;) {
      const state = await fetchState();
      if (state) this.alive(state);
      else this.down();
      await new Promise((resolve) => setTimeout(resolve, this.up ? POLL_UP_MS : POLL_DOWN_MS));
    }
  }

  private alive(state: State): void {
    if (this.up && this.state?.pid === state.pid) return;
    // A restart may be so quick that no poll met the gap.
    if (this.up) this.down();
    this.up = true;
    this.state = state;
    const outage = this.outages.at(-1);
    if (outage) outage.toMs ??= Date.now();
    this.changed();
  }

  private down(): void {
    if (!this.up) return;
    this.up = false;
    this.outages.push({ fromMs: Date.now(), toMs: null });
    this.changed();
  }
}

async function fetchState(): Promise<State | null> {
  try {
    const reply = await fetch("demo/state", { cache: "no-store", signal: AbortSignal.timeout(2000) });
    return reply.ok ? ((await reply.json()) as State) : null;
  } catch {
    // Connection refused, reset or timed out: that is what "down" looks like from here.
    return null;
  }
}
