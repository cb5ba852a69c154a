// Official clients that hop: `node client.js COUNT URL [URL …]`. Each begins at the URL of its number, and goes to the
// next one at each reconnection. It reads commands from its input, a line of JSON each, and answers with a line.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [count, ...urls] = process.argv.slice(2);
let clients = [];

function connect(index) {
  const client = { numbers: [], delays: [], recovered: 0, connections: 0 };
  let at = index % urls.length;
  const socket = io(urls[at], { transports: ["websocket"], forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 500 });
  socket.io.on("reconnect_attempt", () => {
    at = (at + 1) % urls.length;
    socket.io.uri = urls[at];
  });
  socket.on("connect", () => {
    client.connections += 1;
    if (socket.recovered) client.recovered += 1;
  });
  socket.on("tick", (number, sent) => {
    client.numbers.push(number);
    client.delays.push(Date.now() - sent);
  });
  client.socket = socket;
  return client;
}

const until = async (condition, seconds) => {
  const deadline = Date.now() + 1000 * seconds;
  while (!condition() && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 10));
};

function judge({ numbers, delays, recovered, connections }, count) {
  const seen = new Set(numbers);
  const fell = numbers.filter((number, index) => index > 0 && number < numbers[index - 1]).length;
  return { missing: count - seen.size, doubled: numbers.length - seen.size, fell, delays, recovered, connections };
}

const commands = {
  connect: async () => {
    clients = Array.from({ length: Number(count) }, (_, index) => connect(index));
    await until(() => clients.every(({ socket }) => socket.connected), 20);
    return clients.filter(({ socket }) => socket.connected).length;
  },
  call: async ({ event, argument, seconds }) => clients[0].socket.timeout(1000 * seconds).emitWithAck(event, argument),
  begin: async () => clients.forEach((client) => Object.assign(client, { numbers: [], delays: [] })),
  report: async ({ count, seconds }) => {
    await until(() => clients.every(({ numbers }) => new Set(numbers).size >= count), seconds);
    return clients.map((client) => judge(client, count));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const answer = await commands[command.do](command).catch((error) => ({ error: String(error) }));
  console.log(JSON.stringify(answer ?? null));
}
process.exit(0);
