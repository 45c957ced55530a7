/* One unit of the program that the compiler is measured with; included several times with another NAME. */

struct NAME(node) {
    struct NAME(node) *left, *right;
    unsigned key;
    double weight;
};

static struct NAME(node) *NAME(insert)(struct NAME(node) *root, struct NAME(node) *fresh)
{
    struct NAME(node) **place = &root;
    while (*place)
        place = fresh->key < (*place)->key ? &(*place)->left : &(*place)->right;
    *place = fresh;
    return root;
}

double NAME(walk)(const struct NAME(node) *root, unsigned depth)
{
    if (!root)
        return depth;
    double left = NAME(walk)(root->left, depth + 1), right = NAME(walk)(root->right, depth + 1);
    return root->weight + (left > right ? left * 0.5 : right * 0.25);
}

unsigned NAME(hash)(const unsigned char *text, unsigned long size)
{
    unsigned h = 2166136261u;
    for (unsigned long i = 0; i < size; i++) {
        h ^= text[i];
        h *= 16777619u;
        switch (text[i] & 7) {
        case 0: h = h << 5 | h >> 27; break;
        case 1: h += i; break;
        case 2: h ^= h >> 11; break;
        case 5: h = ~h; break;
        case 6: h -= text[size - 1 - i]; break;
        default: break;
        }
    }
    return h;
}

void NAME(multiply)(double *restrict c, const double *restrict a, const double *restrict b, int n)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int k = 0; k < n; k++)
                sum += a[i * n + k] * b[k * n + j];
            c[i * n + j] = sum;
        }
}

void NAME(sort)(int *items, int low, int high)
{
    while (low < high) {
        int pivot = items[(low + high) / 2], i = low, j = high;
        while (i <= j) {
            while (items[i] < pivot)
                i++;
            while (items[j] > pivot)
                j--;
            if (i <= j) {
                int swap = items[i];
                items[i++] = items[j];
                items[j--] = swap;
            }
        }
        if (j - low < high - i) {
            NAME(sort)(items, low, j);
            low = i;
        } else {
            NAME(sort)(items, i, high);
            high = j;
        }
    }
}

long NAME(parse)(const char *text, const char **end)
{
    long value = 0;
    int sign = 1, base = 10;
    while (*text == ' ' || *text == '\t')
        text++;
    if (*text == '-') {
        sign = -1;
        text++;
    }
    if (text[0] == '0' && (text[1] | 32) == 'x') {
        base = 16;
        text += 2;
    }
    for (;; text++) {
        int digit = *text >= '0' && *text <= '9' ? *text - '0' : (*text | 32) >= 'a' && (*text | 32) <= 'f' ? (*text | 32) - 'a' + 10 : 99;
        if (digit >= base)
            break;
        value = value * base + digit;
    }
    *end = text;
    return sign * value;
}

unsigned NAME(run)(struct NAME(node) *nodes, unsigned count, int *items, const char *text)
{
    struct NAME(node) *root = 0;
    const char *end = text;
    unsigned total = 0;
    for (unsigned i = 0; i < count; i++) {
        nodes[i].left = nodes[i].right = 0;
        nodes[i].key = NAME(hash)((const unsigned char *)&i, sizeof i);
        nodes[i].weight = NAME(parse)(end, &end) / (double)(i + 1);
        root = NAME(insert)(root, &nodes[i]);
        items[i] = (int)(nodes[i].key ^ (unsigned)nodes[i].weight);
    }
    NAME(sort)(items, 0, (int)count - 1);
    for (unsigned i = 1; i < count; i++)
        total += (unsigned)(items[i] - items[i - 1]) * i;
    return total + (unsigned)NAME(walk)(root, 0);
}
