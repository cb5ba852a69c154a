// The server that bench/client.py measures clients against: `node client_server.js PORT`. Node's own, so that neither
// client meets a server of its own house.
import { createRequire } from "node:module";
import { createServer } from "node:http";

const require = createRequire(new URL("../../tests/interop/js/package.json", import.meta.url));
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false });

io.on("connection", (socket) => {
  socket.on("ask", (value, ack) => ack(value));
  socket.on("flood", (count) => {
    for (let number = 0; number < count; number++) socket.emit("told", { number, from: "a server of Node" });
  });
});

http.listen(Number(process.argv[2]), "127.0.0.1", () => console.log("listening"));
