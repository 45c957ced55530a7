# As work.js.
def next_of(x):
    return x * 16807 % 2147483647


def chain(n):
    x = 1
    for _ in range(n):
        x = next_of(x)
    return x


def primes(n):
    sieve, count = [True] * n, 0
    for p in range(2, n):
        if sieve[p]:
            count += 1
            for m in range(p * p, n, p):
                sieve[m] = False
    return count


def series(n):
    s = 0.0
    for i in range(1, n + 1):
        s += 1 / (i * i)
    return int(s * 1e12)


def ordered(n):
    values, x, h = [], 1, 0
    for _ in range(n):
        x = next_of(x)
        values.append(x)
    values.sort()
    for v in values:
        h = (h * 31 + v) % 1000003
    return h


class Object:
    def __init__(self, name, following):
        self.name, self.following = name, following


def churn(rounds, n):
    kept, total = [None] * 20, 0
    for r in range(rounds):
        objects, last = [], None
        for i in range(n):
            last = Object('k%d' % (i * r), last)
            objects.append(last)
        kept[r % 20] = objects
        other = kept[(r * 7) % 20]
        o = other[(r * 37) % n] if other else None
        while o:
            total = (total + len(o.name)) % 1000003
            o = o.following
    return total


print('chain', chain(5000000))
print('primes', primes(500000))
print('series', series(3000000))
print('sorted', ordered(100000))
print('churn', churn(100, 3000))
