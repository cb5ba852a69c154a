// Packets as socket.io-msgpack-parser writes and reads them, for tests/interop/test_msgpack.py.
//
// In: one JSON array of base64, packets written by Waypost. Out: one JSON object, {"written": {name: base64}, "read":
// [packet or error]}; in what was read, a Buffer is {"$bytes": "<base64>"}, undefined {"$undefined": true}, a date
// {"$date": milliseconds}, and NaN and the infinities {"$number": "NaN"}.

import { text } from "node:stream/consumers";
import parser from "socket.io-msgpack-parser";

const PACKETS = {
  connect: { type: 0, nsp: "/" },
  "connect with undefined": { type: 0, data: undefined, nsp: "/", id: undefined },
  "connect with auth": { type: 0, data: { token: "secret", list: [1, null] }, nsp: "/admin" },
  disconnect: { type: 1, nsp: "/admin" },
  event: { type: 2, data: ["x"], nsp: "/", options: { compress: true } },
  "event with id": { type: 2, data: ["x", 1], nsp: "/", options: { compress: false }, id: 123456789 },
  "event with undefined": { type: 2, data: ["x", undefined, { a: undefined }], nsp: "/" },
  "event with binary": { type: 2, data: ["x", Buffer.from("abc"), { b: [Buffer.alloc(300, 7)] }], nsp: "/" },
  "event with an ArrayBuffer": { type: 2, data: ["x", new Uint8Array([1, 2, 3]).buffer, new Uint8Array([0]), new Uint8Array(8), undefined], nsp: "/" },
  "event with a date": { type: 2, data: ["x", new Date(Date.UTC(2026, 10, 24, 12, 0, 0, 5))], nsp: "/" },
  "event with numbers": {
    type: 2,
    data: ["x", 0, -0, 1, -1, 127, 128, -32, -33, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, -(2 ** 31), -(2 ** 31) - 1,
      2 ** 53 - 1, -(2 ** 53) + 1, 2 ** 53, 1.5, 0.1, 5e-324, NaN, Infinity, -Infinity],
    nsp: "/",
  },
  "event with text": { type: 2, data: ["naïve ☃ 🜁", "", "x".repeat(40), "é".repeat(200), "\u0000\u001e"], nsp: "/é" },
  "event with many": { type: 2, data: ["x", ...Array(20).keys()], nsp: "/" },
  "event with deep": { type: 2, data: ["x", { a: [{ b: [[{ c: null }]] }] }, true, false], nsp: "/" },
  ack: { type: 3, data: [], nsp: "/", id: 0 },
  "ack with data": { type: 3, data: [{ ok: true }, Buffer.from("z")], nsp: "/a", id: 5 },
  refusal: { type: 4, data: { message: "no", data: { why: 1 } }, nsp: "/" },
  "refusal in text": { type: 4, data: "no", nsp: "/" },
};

function show(value) {
  if (value === undefined) return { $undefined: true };
  if (Buffer.isBuffer(value)) return { $bytes: value.toString("base64") };
  if (value instanceof Date) return { $date: value.getTime() };
  if (typeof value === "number" && !Number.isFinite(value)) return { $number: String(value) };
  if (Array.isArray(value)) return value.map(show);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, show(item)]));
}

function read(base64) {
  const decoder = new parser.Decoder();
  let packet;
  decoder.on("decoded", (decoded) => {
    packet = decoded;
  });
  try {
    decoder.add(Buffer.from(base64, "base64"));
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
  return show(packet);
}

const written = Object.fromEntries(
  Object.entries(PACKETS).map(([name, packet]) => [name, new parser.Encoder().encode(packet)[0].toString("base64")]),
);
const packets = JSON.parse(await text(process.stdin));
process.stdout.write(JSON.stringify({ written, read: packets.map(read) }));
