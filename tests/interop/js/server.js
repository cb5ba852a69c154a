// A server with Node's own socket.io, for our client to meet: `node server.js PORT`. The application is the same as in
// tests/client/other_servers.py.
import { createServer } from "node:http";
import { Server } from "socket.io";
import msgpackParser from "socket.io-msgpack-parser";

const port = Number(process.argv[2]);
const httpServer = createServer();

function serve(path, options) {
  const io = new Server(httpServer, {
    path,
    pingInterval: 200,
    pingTimeout: 5000,
    connectionStateRecovery: {},
    cookie: { name: "sticky", httpOnly: true },
    ...options,
  });
  for (const name of ["/", "/other"]) {
    const namespace = io.of(name);
    namespace.use((socket, next) => {
      const refuse = socket.handshake.auth.refuse;
      if (refuse === undefined) return next();
      const error = new Error("not you");
      error.data = { because: refuse };
      next(error);
    });
    namespace.on("connection", (socket) => application(namespace, socket));
  }
}

function application(namespace, socket) {
  socket.on("echo", (...args) => args.pop()(...args));
  socket.on("whoami", (ack) => ack({ namespace: namespace.name, auth: socket.handshake.auth }));
  socket.on("request", (ack) => {
    const { headers, query } = socket.conn.request;
    ack({ cookie: headers.cookie ?? "", tenant: socket.handshake.query.tenant, extra: headers["x-extra"] ?? "" });
  });
  socket.on("transport", (ack) => ack(socket.conn.transport.name));
  socket.on("repeat", (n, value, ack) => {
    for (let i = 0; i < n; i++) socket.emit("repeated", i, value);
    if (ack) ack(n);
  });
  socket.on("shout", (event, args, ack) => {
    namespace.emit(event, ...args);
    ack(true);
  });
  socket.on("whisper", (event, args) => socket.volatile.emit(event, ...args));
  socket.on("ask", (event, ...rest) => {
    const ack = rest.pop();
    socket.timeout(5000).emit(event, ...rest, (error, ...answers) => ack(error ? "no answer" : answers));
  });
  socket.on("leave", () => socket.disconnect());
}

serve("/socket.io/", {});
serve("/msgpack/", { parser: msgpackParser });
serve("/polling/", { transports: ["polling"] });
serve("/websocket/", { transports: ["websocket"] });

httpServer.listen(port, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${port}`));
process.on("SIGTERM", () => process.exit(0));
