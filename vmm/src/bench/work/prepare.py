# Text with the statistics of logs and prose, the same everywhere.
import sys

words = "the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not what all were we when your can said there use an each which she do how their if will up other about out many then them these so some her would make like him into time has look two more write go see number no way could people my than first water been call who oil its now find long down day did get come made may part".split()
state = 12345
out = []
size = 0
while size < 6_500_000:
    line = []
    for _ in range(12):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        word = words[(state >> 8) % len(words)]
        if state & 0x70000 == 0:
            word = "%s%d" % (word, state >> 12)
        line.append(word)
    text = " ".join(line) + "\n"
    out.append(text)
    size += len(text)
with open(sys.argv[1], "w") as f:
    f.write("".join(out))
