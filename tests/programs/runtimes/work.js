// For node and for Rhino on Java, which compiles it to classes. The answers are those of `answers` in runtimes.rs.
var say = typeof print === 'function' ? print : console.log;
function next(x) { return (x * 16807) % 2147483647; }
function chain(n) { var x = 1; for (var i = 0; i < n; i++) x = next(x); return x; }
function primes(n) {
    var sieve = [], count = 0;
    for (var i = 0; i < n; i++) sieve[i] = true;
    for (var p = 2; p < n; p++) {
        if (!sieve[p]) continue;
        count++;
        for (var m = p * p; m < n; m += p) sieve[m] = false;
    }
    return count;
}
function series(n) { var s = 0; for (var i = 1; i <= n; i++) s += 1 / (i * i); return Math.floor(s * 1e12); }
function sorted(n) {
    var all = [], x = 1, h = 0;
    for (var i = 0; i < n; i++) { x = next(x); all[i] = x; }
    all.sort(function (a, b) { return a - b; });
    for (i = 0; i < n; i++) h = (h * 31 + all[i]) % 1000003;
    return h;
}
function churn(rounds, n) {
    var kept = [], sum = 0;
    for (var r = 0; r < rounds; r++) {
        var objects = [];
        for (var i = 0; i < n; i++) objects[i] = { name: 'k' + i * r, next: i ? objects[i - 1] : null };
        kept[r % 20] = objects;
        var other = kept[(r * 7) % 20];
        if (other) for (var o = other[(r * 37) % n]; o; o = o.next) sum = (sum + o.name.length) % 1000003;
    }
    return sum;
}
say('chain ' + chain(5000000));
say('primes ' + primes(500000));
say('series ' + series(3000000));
say('sorted ' + sorted(100000));
say('churn ' + churn(100, 3000));
