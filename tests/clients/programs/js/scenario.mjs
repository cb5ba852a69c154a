// The scenario for every JavaScript runtime; see ../README.md.

const TEXT = "naïve ☃ 🜁";

const TRANSPORTS = {
  polling: ["polling"],
  websocket: ["websocket"],
  upgrade: ["polling", "websocket"],
};

// An ArrayBuffer: the 2.5 client takes a view in Node for an object.
const bytes = () => new Uint8Array([0, 16, 255]).buffer;

function sameBytes(value) {
  // Node gives a Buffer, a browser an ArrayBuffer.
  return value != null && String(new Uint8Array(value)) === "0,16,255";
}

/**
 * Plays it with one client.
 *
 * @param io the client's entry function, of any version
 * @param url where the server is
 * @param mode polling, websocket or upgrade
 * @param name the room and the queue of this client
 * @param report takes each line
 */
export function play(io, url, mode, name, report) {
  const options = {
    transports: TRANSPORTS[mode],
    query: { name },
    reconnectionDelay: 50,
    reconnectionDelayMax: 200,
    forceNew: true,
  };
  const socket = io(url, options);
  let connects = 0;
  socket.on("question", (data, done) => {
    report(sameBytes(data) ? "asked" : "failed: the question's bytes");
    done("answer", data);
  });
  socket.on("bytes", (data) => report(sameBytes(data) ? "bytes" : "failed: bytes"));
  socket.on("news", (number) => report(`news ${number}`));
  socket.on("job", (number, done) => {
    done();
    report(`job ${number}`);
  });
  socket.on("connect", () => {
    report("connected");
    connects += 1;
    if (connects > 1) return;
    socket.emit("echo", TEXT, 7, { a: [1] }, bytes(), (text, number, object, data) => {
      const same = text === TEXT && number === 7 && object.a[0] === 1 && sameBytes(data);
      report(same ? "echo" : "failed: echo");
    });
    socket.emit("ask", bytes(), (answer, data) => {
      report(answer === "answer" && sameBytes(data) ? "answered" : "failed: ask");
    });
    const other = socket.io.socket("/other");
    other.emit("echo", 1, (where, number) => {
      report(where === "other" && number === 1 ? "namespace" : "failed: namespace");
    });
  });
}
