#!/usr/bin/env node
// Counts the words of each request:
//     repd serve -- examples/words.js
let bytes = Buffer.alloc(0);
process.stdin.on("data", (more) => {
    bytes = Buffer.concat([bytes, more]);
    while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE()) {
        const end = 4 + bytes.readUInt32BE();
        const words = bytes.toString("utf8", 4, end).split(/\s+/).filter(Boolean);
        const reply = String(words.length);
        const head = Buffer.alloc(4);
        head.writeUInt32BE(reply.length);
        process.stdout.write(Buffer.concat([head, Buffer.from(reply)]));
        bytes = bytes.subarray(end);
    }
});
