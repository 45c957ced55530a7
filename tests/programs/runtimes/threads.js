// Two threads of V8 on shared memory: nothing is lost, and what is published is seen.
const { Worker, isMainThread, workerData } = require('worker_threads');
const rounds = 300000;
if (isMainThread) {
    const words = new Int32Array(new SharedArrayBuffer(64));
    let left = 2;
    for (const me of [0, 1])
        new Worker(__filename, { workerData: { words, me } }).on('exit', code => {
            if (code) process.exit(1);
            if (--left === 0) console.log('atomics ' + words[0] + ' stale ' + words[4]);
        });
} else {
    const { words, me } = workerData;
    for (let i = 0; i < rounds; i++) {
        Atomics.add(words, 0, 1);
        words[8 + me] = i;
        Atomics.store(words, 2 + me, i);
        const seen = Atomics.load(words, 3 - me);
        if (words[9 - me] < seen) Atomics.add(words, 4, 1);
    }
}
