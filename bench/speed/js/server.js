// The application on Node's own socket.io: `node server.js PORT`. BENCH_RECOVERY=on gives it connectionStateRecovery.
import { createServer } from "node:http";
import { Server } from "socket.io";

const options = { serveClient: false };
if (process.env.BENCH_RECOVERY === "on") options.connectionStateRecovery = {};
if (process.env.BENCH_PING_S) options.pingInterval = 1000 * Number(process.env.BENCH_PING_S);
const http = createServer();
const io = new Server(http, options);

io.use((socket, next) => next(socket.handshake.auth.token === "bench" ? undefined : new Error("a token is needed")));

io.on("connection", (socket) => {
  const { rooms } = socket.handshake.auth;
  if (rooms) socket.join(rooms);
  socket.on("ack", (...args) => args.pop()(...args));
  socket.on("emit_me", (value) => socket.emit("told", value));
  socket.on("blast", async ({ rooms, except, size, binary, count, in_a_turn }, ack) => {
    const payload = binary ? Buffer.alloc(size, "x") : { text: "x".repeat(size - 11) };
    for (let number = 0; number < count; number++) {
      io.to(rooms).except(except).emit("blast", payload);
      if ((number + 1) % in_a_turn === 0) await new Promise(setImmediate);
    }
    ack(count);
  });
  socket.on("sockets", (ack) => ack(io.of("/").sockets.size));
});

http.listen(Number(process.argv[2]), "127.0.0.1", 4096, () => console.log("listening"));
process.on("SIGTERM", () => process.exit(0));
