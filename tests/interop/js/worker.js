// A worker of a queue: `node worker.js URL OPTIONS`. It prints a line of JSON for each thing that happens, with the time,
// and ends with its standard input. A job is an object with a `number`; `block_ms` holds the event loop, `work_ms` does not.
// Options: `auth`; `one_at_a_time`; `acks_at_once`: not to wait for a connection before an ack.
import { io } from "socket.io-client";

const [url, text] = process.argv.slice(2);
const options = JSON.parse(text);

const say = (what, more) => process.stdout.write(`${JSON.stringify({ what, at: Date.now() / 1000, ...more })}\n`);
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

const socket = io(url, {
  transports: ["websocket"],
  auth: options.auth,
  reconnectionDelay: 50,
  reconnectionDelayMax: 200,
  randomizationFactor: 0,
});

const whenConnected = async () => {
  // The client notices only in its event loop that its line is lost.
  await sleep(10);
  if (!socket.connected) await new Promise((done) => socket.once("connect", done));
};

const block = (milliseconds) => {
  const end = Date.now() + milliseconds;
  while (Date.now() < end);
};

const handle = async (job, ack) => {
  say("started", { number: job.number });
  if (job.block_ms) block(job.block_ms);
  if (job.work_ms) await sleep(job.work_ms);
  say("finished", { number: job.number });
  if (!options.acks_at_once) await whenConnected();
  ack(...(job.binary ? [Buffer.from("done")] : []));
  say("acknowledged", { number: job.number });
};

let turn = Promise.resolve();
socket.on("job", (job, ack) => {
  if (options.one_at_a_time) turn = turn.then(() => handle(job, ack));
  else handle(job, ack);
});
socket.on("connect", () => say("connected", { recovered: socket.recovered }));
socket.on("disconnect", (reason) => say("disconnected", { reason }));

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
