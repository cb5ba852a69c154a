// The application on Node's own socket.io, as one of several servers: `node server.js PORT redis-streams|postgres URL`.
import { createServer } from "node:http";
import { createAdapter as createPostgresAdapter } from "@socket.io/postgres-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import pg from "pg";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, kind, url] = process.argv.slice(2);

async function adapter() {
  if (kind === "postgres") {
    const pool = new pg.Pool({ connectionString: url });
    await pool.query("CREATE TABLE IF NOT EXISTS socket_io_attachments (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)");
    return createPostgresAdapter(pool);
  }
  const client = createClient({ url });
  await client.connect();
  return createStreamsAdapter(client);
}

const http = createServer();
const io = new Server(http, {
  serveClient: false,
  adapter: await adapter(),
  // The PostgreSQL adapter refuses recovery.
  ...(kind === "postgres" ? {} : { connectionStateRecovery: {} }),
});

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Node's emit can't be awaited: it says nothing of when, or whether, the event is stored.
async function paced(first, count, perS, padding) {
  const begun = performance.now();
  for (let number = 0; number < count; number++) {
    const early = (1000 * number) / perS - (performance.now() - begun);
    if (early > 0) await pause(early);
    io.emit("tick", first + number, Date.now(), padding);
  }
}

io.on("connection", (socket) => {
  socket.on("run", async ({ first, count, per_s, size }, ack) => {
    await paced(first, count, per_s, "x".repeat(size));
    ack({});
  });
});

http.listen(Number(port), "127.0.0.1", 4096, () => console.log("listening"));
