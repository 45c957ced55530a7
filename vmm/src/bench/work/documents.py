# JSON out and in.
import json

document = [
    {"id": i, "name": "item %d" % i, "tags": ["a", "b\u00e9", "c" * (i % 30)], "value": i * 1.25, "ok": i % 3 == 0, "none": None}
    for i in range(1500)
]
total = 0
for _ in range(8):
    text = json.dumps(document)
    back = json.loads(text)
    total += len(text) + sum(item["id"] for item in back)
assert back == document
print(total)
