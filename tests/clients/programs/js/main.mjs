// The command line of scenario.mjs, for Node, Bun and Deno: URL MODE NAME PACKAGE.
import { createRequire } from "node:module";
import process from "node:process";
import { play } from "./scenario.mjs";

const [url, mode, name, packageName] = process.argv.slice(2);
const client = createRequire(import.meta.url)(packageName);
play(client.io ?? client, url, mode, name, (line) => console.log(line));
