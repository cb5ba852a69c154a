// Official Socket.IO clients, driven over stdin and stdout by tests/interop/peer.py.
//
// Every line is one JSON object. In: {"id": 7, "cmd": "emit", "client": "a", …}. Out, numbered by "seq":
//   {"kind": "reply", "id": 7, "value": …} or {"kind": "reply", "id": 7, "error": "…"}
//   {"kind": "connect" | "connect_error" | "disconnect" | "upgrade" | "event" | …, "client": "a", …}
// "t" is in milliseconds since the start of this process.
//
// Values: a Buffer is {"$bytes": "<base64>"}; a plain object with a single key that begins with "$" is
// wrapped as {"$object": …}, so that data can't be mistaken for a Buffer. The rest is JSON.

import http from "node:http";
import https from "node:https";
import { createInterface } from "node:readline";
import { Manager } from "socket.io-client";
import { Manager as Manager40 } from "socket.io-client-4-0";
import { Manager as Manager3 } from "socket.io-client-3";
import client2 from "socket.io-client-2";
import msgpackParser from "socket.io-msgpack-parser";

const managers = { 4: Manager, "4.0": Manager40, 3: Manager3, 2: client2.Manager };

const clients = new Map();
let seq = 0;

function report(line) {
  process.stdout.write(`${JSON.stringify({ seq: ++seq, t: performance.now(), ...line })}\n`);
}

function encode(value) {
  if (Buffer.isBuffer(value)) return { $bytes: value.toString("base64") };
  if (Array.isArray(value)) return value.map(encode);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).map(([key, item]) => [key, encode(item)]);
  const plain = Object.fromEntries(entries);
  return entries.length === 1 && entries[0][0].startsWith("$") ? { $object: plain } : plain;
}

function decode(value) {
  if (Array.isArray(value)) return value.map(decode);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.$bytes === "string") return Buffer.from(value.$bytes, "base64");
  const plain = value.$object ?? value;
  return Object.fromEntries(Object.entries(plain).map(([key, item]) => [key, decode(item)]));
}

// The client's own close() says goodbye. To cut it off as a tunnel does, its TCP sockets must be known, and
// those it opens before it notices: between two polls there may be none.
const wiresOf = (Agent) => class extends Agent {
  alive = new Set();
  doom = null;

  createConnection(...args) {
    const socket = super.createConnection(...args);
    this.alive.add(socket);
    socket.on("close", () => this.alive.delete(socket));
    if (this.doom !== null) this.destroySocket(socket);
    return socket;
  }

  cut(how) {
    this.doom = how;
    for (const socket of this.alive) this.destroySocket(socket);
  }

  heal() {
    this.doom = null;
  }

  destroySocket(socket) {
    if (this.doom === "reset") socket.resetAndDestroy();
    else socket.destroy();
  }
};
const Wires = wiresOf(http.Agent);
const SecureWires = wiresOf(https.Agent);

// Before 4.4 an ack could not time out.
function addTimeout(socket) {
  socket.timeout = (timeout_ms) => ({
    emit(event, ...args) {
      const done = args.pop();
      const timer = setTimeout(() => done(new Error("operation has timed out")), timeout_ms);
      socket.emit(event, ...args, (...answer) => {
        clearTimeout(timer);
        done(null, ...answer);
      });
    },
  });
}

// Client 2 says "error" when it is refused, and can't listen to all events.
function modernise(socket) {
  socket.onAny = (listener) => {
    socket.onevent = ({ data, id }) => listener(...data, ...(id === undefined ? [] : [socket.ack(id)]));
  };
  socket.on("error", (data) =>
    socket.emit("connect_error", typeof data === "string" ? { message: data } : { message: null, data }),
  );
}

class Client {
  constructor(name, manager, wires, { namespace = "/", auth = {}, rules = {} }) {
    this.name = name;
    this.manager = manager;
    this.wires = wires;
    this.rules = rules;
    this.held = new Map();
    this.token = 0;
    this.socket = manager.socket(namespace, { auth: decode(auth), query: decode(auth) });
    if (!this.socket.timeout) addTimeout(this.socket);
    if (!this.socket.onAny) modernise(this.socket);
    this.watch();
  }

  report(kind, line = {}) {
    report({ kind, client: this.name, ...line });
  }

  watch() {
    const { socket } = this;
    socket.on("connect", () => this.report("connect", this.state()));
    socket.on("connect_error", (error) =>
      this.report("connect_error", { message: error.message, data: encode(error.data) ?? null, active: socket.active ?? null }),
    );
    socket.on("disconnect", (reason) => this.report("disconnect", { reason, active: socket.active }));
    socket.onAny((event, ...args) => this.received(event, args));
  }

  received(event, args) {
    const ack = typeof args.at(-1) === "function" ? args.pop() : null;
    const token = ack === null ? null : ++this.token;
    const offset = ack === null && this.socket._pid && typeof args.at(-1) === "string" ? args.at(-1) : null;
    this.report("event", { event, args: encode(offset === null ? args : args.slice(0, -1)), offset, token });
    if (ack !== null) this.answer(this.rules[event] ?? this.rules["*"] ?? "hold", ack, args, token);
  }

  answer(rule, ack, args, token) {
    if (rule === "hold") this.held.set(token, ack);
    else if (rule === "ack") ack();
    else if (rule === "echo") ack(...args);
    else ack(...decode(rule));
  }

  state() {
    const { socket, manager } = this;
    return {
      id: socket.id ?? null,
      connected: socket.connected,
      recovered: socket.recovered ?? false,
      transport: manager.engine?.transport?.name ?? null,
      engine_id: manager.engine?.id ?? null,
      pid: socket._pid ?? null,
      offset: socket._lastOffset ?? null,
      buffered: socket.sendBuffer.length,
    };
  }
}

function createManager(client, url, { version = 4, parser, ...options }) {
  const wires = url.startsWith("https:") ? new SecureWires() : new Wires();
  const manager = new managers[version](url, {
    autoConnect: false,
    reconnectionDelay: 20,
    reconnectionDelayMax: 150,
    timeout: 5000,
    ...options,
    ...(parser === "msgpack" ? { parser: msgpackParser } : {}),
    agent: wires,
  });
  manager.on("open", () => {
    manager.engine.on("upgrade", (transport) => report({ kind: "upgrade", client, transport: transport.name }));
    // Not every version passes its pings on.
    const heartbeat = version === "2" ? "pong" : "ping";
    manager.engine.on("packet", ({ type }) => type === heartbeat && report({ kind: "ping", client }));
    manager.engine.on("upgradeError", (error) => report({ kind: "upgrade_error", client, message: error.message }));
  });
  manager.on("close", () => wires.heal());
  manager.on("error", () => wires.heal());
  manager.on("reconnect_attempt", (attempt) => report({ kind: "reconnect_attempt", client, attempt }));
  return [manager, wires];
}

const commands = {
  create({ client, url, share, options = {}, ...rest }) {
    const [manager, wires] = share
      ? [clients.get(share).manager, clients.get(share).wires]
      : createManager(client, url, options);
    clients.set(client, new Client(client, manager, wires, rest));
    clients.get(client).socket.connect();
  },
  connect({ client, auth }) {
    const { manager, socket } = clients.get(client);
    if (auth !== undefined && auth !== null) socket.auth = decode(auth);
    manager.reconnection(true);
    socket.connect();
  },
  // connect(), disconnect(), connect(): with a manager that is open, two CONNECTs and no DISCONNECT.
  async flicker({ client, goodbye, gaps }) {
    const { socket } = clients.get(client);
    socket.connect();
    for (const gap of gaps) {
      if (gap > 0) await new Promise((resolve) => setTimeout(resolve, gap));
      if (goodbye) socket.disconnect();
      socket.connect();
    }
  },
  pause({ client }) {
    clients.get(client).manager.reconnection(false);
  },
  cut({ client, how }) {
    const { manager, wires } = clients.get(client);
    if ((manager._readyState ?? manager.readyState) !== "closed") wires.cut(how);
  },
  emit({ client, event, args, volatile }) {
    const { socket } = clients.get(client);
    (volatile ? socket.volatile : socket).emit(event, ...decode(args));
  },
  call({ client, event, args, timeout_ms }) {
    const { socket } = clients.get(client);
    return new Promise((resolve, reject) => {
      socket.timeout(timeout_ms).emit(event, ...decode(args), (error, ...answer) => {
        if (error) reject(error);
        else resolve(encode(answer));
      });
    });
  },
  // Emits 0, 1, 2, … with these pauses in milliseconds before each; no pause at all stays in one tick.
  async burst({ client, event, gaps }) {
    const { socket } = clients.get(client);
    for (const [number, gap] of gaps.entries()) {
      if (gap > 0) await new Promise((resolve) => setTimeout(resolve, gap));
      socket.emit(event, number);
    }
  },
  rule({ client, event, rule }) {
    clients.get(client).rules[event] = rule;
  },
  ack({ client, token, args }) {
    const { held } = clients.get(client);
    held.get(token)(...decode(args));
    held.delete(token);
  },
  forge({ client, pid, offset }) {
    const { socket } = clients.get(client);
    socket._pid = pid ?? undefined;
    socket._lastOffset = offset ?? undefined;
  },
  disconnect({ client }) {
    clients.get(client).socket.disconnect();
  },
  close_engine({ client }) {
    clients.get(client).manager.engine.close();
  },
  state({ client }) {
    return clients.get(client).state();
  },
};

async function run(line) {
  const { id, cmd, ...options } = JSON.parse(line);
  try {
    report({ kind: "reply", id, value: (await commands[cmd](options)) ?? null });
  } catch (error) {
    report({ kind: "reply", id, error: `${error.name}: ${error.message}` });
  }
}

createInterface({ input: process.stdin, crlfDelay: Infinity })
  .on("line", run)
  .on("close", () => process.exit(0));
report({ kind: "ready", node: process.version });
