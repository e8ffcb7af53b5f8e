/* Weights of attention within a window from scores, and back. Query i sees the keys i − left … i + right of its own
   sequence. Scores come as matrices of products, a block of queries against its window of keys; weights, and the
   gradients of scores, lie in the layout of kernels/cpu/band.py, in rows per query. */

struct NAME(pairs) {
    const REAL *products, *weights; /* Backward, products are the gradients of weights. */
    REAL *out;                      /* Weights or, backward, gradients of scores. */
    struct columns of_products, of_rows;
    const REAL *bias;         /* By distance (left + 1 + right,), or with positions a table. Or none. */
    const int64_t *positions; /* (length,): the bias of a pair is table[origin + t_j − t_i], clamped. Or none. */
    const int32_t *sequence;  /* (length,): keys of other sequences are out of reach. Or none. */
    const uint8_t *hidden;    /* (length,): keys that weigh nothing. Or none. */
    REAL *grad_bias;          /* (parts, numbers of bias). */
    long first, queries, length, size /* of a sequence */, left, right, table, origin, parts;
    int squared; /* Whether weights are relu² in place of softmax. */
};

enum { NAME(QUERIES) = 64 };
/* Queries of a task: their sum by distance is one number, so that a long sum keeps its digits. */

static struct keys NAME(keys_of)(const struct NAME(pairs) *a, long query)
{
    long base = query / a->size * a->size, first = query - a->left, last = query + a->right;
    if (query >= a->length)
        return (struct keys){base, 0};
    first = first > base ? first : base;
    last = last < base + a->size - 1 ? last : base + a->size - 1;
    if (a->sequence) {
        while (a->sequence[first] != a->sequence[query])
            first++;
        while (a->sequence[last] != a->sequence[query])
            last--;
    }
    return (struct keys){first, last - first + 1};
}

static long NAME(place)(const struct NAME(pairs) *a, struct columns columns, long query, struct keys keys)
{
    return (query - a->first) * columns.pitch + keys.first - query + columns.shift + query % columns.period;
}

/* The row of a query in the layout: zero but for its keys, whose place is returned. */
static REAL *NAME(row_of)(const struct NAME(pairs) *a, long query, struct keys keys)
{
    REAL *row = a->out + (query - a->first) * a->of_rows.pitch;
    REAL *place = a->out + NAME(place)(a, a->of_rows, query, keys);
    if (!keys.count)
        place = row;
    memset(row, 0, (size_t)(place - row) * sizeof *row);
    memset(place + keys.count, 0, (size_t)(row + a->of_rows.pitch - place - keys.count) * sizeof *row);
    return place;
}

static long NAME(index)(const struct NAME(pairs) *a, long query, long key)
{
    long index = a->origin + a->positions[key] - a->positions[query];
    index = index > 0 ? index : 0;
    return index < a->table ? index : a->table - 1;
}

static void NAME(softmax)(REAL *w, const uint8_t *hidden, long count)
{
    const REAL least = -NAME(LARGEST);
    REAL largest = NAME(largest)(w, count, least);
    if (largest == least) { /* All are hidden, or −∞ or NaN. */
        for (long i = 0; i < count; i++)
            w[i] *= 0;
        if (hidden)
            for (long i = 0; i < count; i++)
                w[i] = hidden[i] ? 0 : w[i];
        return;
    }
    for (long i = 0; i < count; i++)
        w[i] = NAME(exponential)(w[i] - largest);
    if (hidden)
        for (long i = 0; i < count; i++)
            w[i] = hidden[i] ? 0 : w[i];
    REAL share = 1 / NAME(dot)(w, 0, count);
    for (long i = 0; i < count; i++)
        w[i] *= share;
}

static void NAME(weigh_row)(const struct NAME(pairs) *a, long query)
{
    struct keys keys = NAME(keys_of)(a, query);
    REAL *w = NAME(row_of)(a, query, keys);
    const REAL *product = a->products + NAME(place)(a, a->of_products, query, keys);
    const REAL *bias = a->bias ? a->bias + keys.first - query + a->left : 0;
    const uint8_t *hidden = a->hidden ? a->hidden + keys.first : 0;
    if (a->positions)
        for (long i = 0; i < keys.count; i++)
            w[i] = product[i] + a->bias[NAME(index)(a, query, keys.first + i)];
    else
        for (long i = 0; i < keys.count; i++)
            w[i] = product[i] + (bias ? bias[i] : 0);
    if (hidden)
        for (long i = 0; i < keys.count; i++)
            w[i] = hidden[i] ? -NAME(LARGEST) : w[i];
    if (a->squared)
        for (long i = 0; i < keys.count; i++) {
            REAL positive = w[i] < 0 ? 0 : w[i];
            w[i] = positive * positive;
        }
    else
        NAME(softmax)(w, hidden, keys.count);
}

static void NAME(scores_row)(const struct NAME(pairs) *a, long query, REAL *by_distance, REAL *by_index)
{
    struct keys keys = NAME(keys_of)(a, query);
    REAL *out = NAME(row_of)(a, query, keys);
    const REAL *w = a->weights + NAME(place)(a, a->of_rows, query, keys);
    const REAL *grad = a->products + NAME(place)(a, a->of_products, query, keys);
    if (a->squared)
        for (long i = 0; i < keys.count; i++)
            out[i] = grad[i] * 2 * NAME(root)(w[i]);
    else {
        REAL mean = NAME(dot)(w, grad, keys.count);
        for (long i = 0; i < keys.count; i++)
            out[i] = w[i] * (grad[i] - mean);
    }
    if (by_index)
        for (long i = 0; i < keys.count; i++)
            by_index[NAME(index)(a, query, keys.first + i)] += out[i];
    else if (by_distance)
        for (long i = 0; i < keys.count; i++)
            by_distance[keys.first - query + a->left + i] += out[i];
}

static long NAME(last_query)(const struct NAME(pairs) *a, long task)
{
    long last = (task + 1) * NAME(QUERIES);
    return a->first + (last < a->queries ? last : a->queries);
}

static void NAME(weigh_task)(const void *given, long task)
{
    const struct NAME(pairs) *a = given;
    for (long query = a->first + task * NAME(QUERIES); query < NAME(last_query)(a, task); query++)
        NAME(weigh_row)(a, query);
}

/* One part of the queries: it adds to a gradient of its own. */
static void NAME(scores_task)(const void *given, long part)
{
    const struct NAME(pairs) *a = given;
    long distances = a->left + 1 + a->right;
    REAL sums[distances];
    for (long task = part; task * NAME(QUERIES) < a->queries; task += a->parts) {
        int by_distance = a->grad_bias && !a->positions;
        memset(sums, 0, sizeof sums);
        for (long query = a->first + task * NAME(QUERIES); query < NAME(last_query)(a, task); query++)
            NAME(scores_row)(a, query, by_distance ? sums : 0, a->positions ? a->grad_bias + part * a->table : 0);
        for (long i = 0; by_distance && i < distances; i++)
            a->grad_bias[part * distances + i] += sums[i];
    }
}

#undef PAIRS
#define PAIRS \
    .products = products, .out = out, .of_products = {pitch_of_products, shift_of_products, period_of_products}, \
    .of_rows = {pitch_of_rows, shift_of_rows, period_of_rows}, .positions = positions, .sequence = sequence, \
    .hidden = hidden, .first = first, .queries = queries, .length = length, .size = size, .left = left, .right = right, \
    .table = table, .origin = origin, .squared = (int)squared

void NAME(weigh)(const REAL *products, REAL *out, const REAL *bias, const int64_t *positions,
                 const int32_t *sequence, const uint8_t *hidden, long pitch_of_products, long shift_of_products,
                 long period_of_products, long pitch_of_rows, long shift_of_rows, long period_of_rows, long first, long queries,
                 long length, long size, long left, long right, long table, long origin, long squared, long threads)
{
    struct NAME(pairs) a = {PAIRS, .bias = bias};
    run_tasks(NAME(weigh_task), &a, (queries + NAME(QUERIES) - 1) / NAME(QUERIES), threads);
}

void NAME(weigh_backward)(const REAL *products, const REAL *weights, REAL *out, REAL *grad_bias,
                          const int64_t *positions, const int32_t *sequence, const uint8_t *hidden,
                          long pitch_of_products, long shift_of_products, long period_of_products, long pitch_of_rows,
                          long shift_of_rows, long period_of_rows, long first, long queries, long length, long size, long left,
                          long right, long table, long origin, long squared, long parts, long threads)
{
    struct NAME(pairs) a = {PAIRS, .weights = weights, .grad_bias = grad_bias, .parts = parts};
    run_tasks(NAME(scores_task), &a, parts, threads);
}
