#!/usr/bin/env node
// Counts the words of each request, as a worker of its own:
//     npm install zeromq@6 && examples/workers/worker.js tcp://127.0.0.1:5556
const { setTimeout: sleep } = require("node:timers/promises");
const { Reply } = require("zeromq");

const socket = new Reply({ linger: 1000 });
let leaving = false;
process.on("SIGTERM", () => (leaving = true));

// Answers a request that comes in time; returns false if there is none.
async function answer(milliseconds) {
    socket.receiveTimeout = milliseconds;
    const frames = await socket.receive().catch((error) => {
        if (error.code !== "EAGAIN") throw error;
    });
    if (!frames) return false;
    const words = frames.join(" ").split(/\s+/).filter(Boolean);
    await socket.send(String(words.length));
    return true;
}

(async () => {
    socket.connect(process.argv[2]);
    while (!leaving) await answer(100);
    await sleep(100); // To a worker that is silent for that long repd sends nothing more.
    while (await answer(0));
    socket.close();
})();
