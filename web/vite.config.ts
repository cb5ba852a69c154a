import { defineConfig } from "vite";

/** Where the Python package serves the page from; git-ignored, built by `make web`. */
const OUTPUT = "../src/waypost/demo/static";

/** `npm run dev` serves the page itself and hands everything else to a running `waypost demo`. */
const DEMO = "http://127.0.0.1:8000";

export default defineConfig({
  base: "./",
  build: { outDir: OUTPUT, emptyOutDir: true, target: "es2022", assetsInlineLimit: 0 },
  server: {
    proxy: {
      "/socket.io": { target: DEMO, ws: true },
      "/demo": { target: DEMO },
    },
  },
});
