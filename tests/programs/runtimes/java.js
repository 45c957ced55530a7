// Two threads of Java: an atomic counter, a lock, and what collectors move while both run.
importClass(java.util.concurrent.atomic.AtomicLong);
importClass(java.util.concurrent.locks.ReentrantLock);
var atomic = new AtomicLong(), lock = new ReentrantLock(), plain = 0, map = new java.util.concurrent.ConcurrentHashMap();
function work(me) {
    for (var i = 0; i < 100000; i++) {
        atomic.incrementAndGet();
        lock.lock();
        plain++;
        lock.unlock();
        map.put('k' + i % 5000, new java.lang.StringBuilder('v').append(i).toString());
    }
}
var threads = [spawn(function () { work(0); }), spawn(function () { work(1); })];
threads.forEach(function (thread) { thread.join(); });
print('atomics ' + atomic.get() + ' locked ' + plain + ' keys ' + map.size());
