-- As work.js.
local function next(x) return (x * 16807) % 2147483647 end
local function chain(n) local x = 1 for _ = 1, n do x = next(x) end return x end
local function primes(n)
    local sieve, count = {}, 0
    for p = 2, n - 1 do
        if not sieve[p] then
            count = count + 1
            for m = p * p, n - 1, p do sieve[m] = true end
        end
    end
    return count
end
local function series(n) local s = 0 for i = 1, n do s = s + 1 / (i * i) end return math.floor(s * 1e12) end
local function sorted(n)
    local all, x, h = {}, 1, 0
    for i = 1, n do x = next(x) all[i] = x end
    table.sort(all, function(a, b) return a < b end)
    for i = 1, n do h = (h * 31 + all[i]) % 1000003 end
    return h
end
local function churn(rounds, n)
    local kept, sum = {}, 0
    for r = 0, rounds - 1 do
        local objects = {}
        for i = 0, n - 1 do objects[i] = { name = 'k' .. string.format('%d', i * r), next = objects[i - 1] } end
        kept[r % 20] = objects
        local other = kept[(r * 7) % 20]
        local o = other and other[(r * 37) % n]
        while o do sum = (sum + #o.name) % 1000003 o = o.next end
    end
    return sum
end
print(string.format('chain %d', chain(5000000)))
print(string.format('primes %d', primes(500000)))
print(string.format('series %d', series(3000000)))
print(string.format('sorted %d', sorted(100000)))
print(string.format('churn %d', churn(100, 3000)))
