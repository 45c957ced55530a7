# Pure Python: calls, integers, floats, lists, dictionaries, strings, objects.
class Body:
    __slots__ = ("x", "v", "m")

    def __init__(self, x, v, m):
        self.x, self.v, self.m = x, v, m


def bodies(steps):
    all_bodies = [Body(float(i), 0.1 * i, 1.0 + i) for i in range(5)]
    for _ in range(steps):
        for a in all_bodies:
            for b in all_bodies:
                if a is not b:
                    d = b.x - a.x
                    a.v += b.m * d / (d * d + 0.5) * 0.001
        for a in all_bodies:
            a.x += a.v * 0.001
    return [round(a.x, 9) for a in all_bodies]


def sieve(limit):
    flags = [True] * limit
    for i in range(2, int(limit**0.5) + 1):
        if flags[i]:
            flags[i * i :: i] = [False] * len(range(i * i, limit, i))
    return sum(flags)


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def count_words(rounds):
    counts = {}
    for i in range(rounds):
        key = "k%d" % (i * 7919 % 1000)
        counts[key] = counts.get(key, 0) + i
    return sorted(counts.items())[:3]


print(bodies(6000), sieve(800_000), fibonacci(23), count_words(150_000))
