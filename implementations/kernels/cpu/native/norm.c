/* Norms over the channels of states with time innermost, (blocks, dim, steps): y = weight·c·rate + bias, where c is x,
   or silu of it if `activated`, minus its mean if there is one, and rate is 1/√(mean(c²) + ε). A piece of the steps
   stays in the cache for all passes over its channels. */

enum { NAME(PIECE_OF_STEPS) = 512 };

struct NAME(norm) {
    const REAL *x, *grad;
    const REAL *weight; /* (dim,), or one number if `scalar`, or none. */
    const REAL *bias;   /* (dim,), or none. */
    REAL *mean, *rate;  /* (blocks, steps); no mean if x is not centred. */
    REAL *y;            /* The norm or, backward, the gradient of x. */
    REAL *grad_weight, *grad_bias; /* (parts, dim), those that there are. */
    long blocks, dim, steps, scalar, activated, parts;
    double epsilon;
};

static long NAME(pieces)(const struct NAME(norm) *a)
{
    return (a->steps + NAME(PIECE_OF_STEPS) - 1) / NAME(PIECE_OF_STEPS);
}

static REAL NAME(weight_of)(const struct NAME(norm) *a, long channel)
{
    return a->weight ? a->weight[a->scalar ? 0 : channel] : 1;
}

/* Some steps of a block. */
struct NAME(piece) {
    long steps, states /* of x */, rates /* of mean and rate */;
};

static struct NAME(piece) NAME(piece_of)(const struct NAME(norm) *a, long number)
{
    long block = number / NAME(pieces)(a), first = number % NAME(pieces)(a) * NAME(PIECE_OF_STEPS);
    long left = a->steps - first;
    return (struct NAME(piece)){
        .steps = left < NAME(PIECE_OF_STEPS) ? left : NAME(PIECE_OF_STEPS),
        .states = block * a->dim * a->steps + first,
        .rates = block * a->steps + first,
    };
}

/* The piece of what is normed: x, or silu of it, which lies in y until that is computed. */
static const REAL *NAME(normed)(const struct NAME(norm) *a, struct NAME(piece) piece)
{
    if (!a->activated)
        return a->x + piece.states;
    for (long c = 0; c < a->dim; c++) {
        long row = piece.states + c * a->steps;
        NAME(silu_forward)(a->y + row, a->x + row, piece.steps, dropout_of(0, 0), 0);
    }
    return a->y + piece.states;
}

/* Not in one loop with what is written over x: a compiler would go number by number. */
static inline void NAME(centre)(REAL *centred, const REAL *x, const REAL *mean, long steps)
{
    for (long t = 0; t < steps; t++)
        centred[t] = x[t] - mean[t];
}

static void NAME(norm_forward_task)(const void *given, long task)
{
    const struct NAME(norm) *a = given;
    struct NAME(piece) piece = NAME(piece_of)(a, task);
    const REAL *x = NAME(normed)(a, piece);
    REAL *y = a->y + piece.states, *rate = a->rate + piece.rates;
    REAL mean[NAME(PIECE_OF_STEPS)] = {0}, squares[NAME(PIECE_OF_STEPS)] = {0}, centred[NAME(PIECE_OF_STEPS)];
    if (a->mean) {
        for (long c = 0; c < a->dim; c++)
            for (long t = 0; t < piece.steps; t++)
                mean[t] += x[c * a->steps + t];
        for (long t = 0; t < piece.steps; t++)
            a->mean[piece.rates + t] = mean[t] = mean[t] / a->dim;
    }
    for (long c = 0; c < a->dim; c++)
        for (long t = 0; t < piece.steps; t++) {
            REAL centred = x[c * a->steps + t] - mean[t];
            squares[t] += centred * centred;
        }
    for (long t = 0; t < piece.steps; t++)
        rate[t] = 1 / NAME(root)(squares[t] / a->dim + (REAL)a->epsilon);
    for (long c = 0; c < a->dim; c++) {
        REAL weight = NAME(weight_of)(a, c), bias = a->bias ? a->bias[c] : 0;
        NAME(centre)(centred, x + c * a->steps, mean, piece.steps);
        for (long t = 0; t < piece.steps; t++)
            y[c * a->steps + t] = centred[t] * rate[t] * weight + bias;
    }
}

/* One part of the pieces: it adds to gradients of its own. */
static void NAME(norm_backward_task)(const void *given, long part)
{
    const struct NAME(norm) *a = given;
    for (long number = part; number < a->blocks * NAME(pieces)(a); number += a->parts) {
        struct NAME(piece) piece = NAME(piece_of)(a, number);
        const REAL *x = NAME(normed)(a, piece), *grad = a->grad + piece.states, *rate = a->rate + piece.rates;
        REAL *y = a->y + piece.states;
        REAL mean[NAME(PIECE_OF_STEPS)] = {0}, along[NAME(PIECE_OF_STEPS)] = {0}, sum[NAME(PIECE_OF_STEPS)] = {0};
        REAL product[NAME(PIECE_OF_STEPS)], centred[NAME(PIECE_OF_STEPS)];
        if (a->mean)
            memcpy(mean, a->mean + piece.rates, (size_t)piece.steps * sizeof *mean);
        for (long c = 0; c < a->dim; c++) {
            REAL weight = a->scalar ? 1 : NAME(weight_of)(a, c);
            for (long t = 0; t < piece.steps; t++) {
                REAL scaled = grad[c * a->steps + t] * weight;
                along[t] += scaled * (x[c * a->steps + t] - mean[t]);
                sum[t] += scaled;
            }
        }
        if (a->scalar)
            a->grad_weight[part] += NAME(dot)(along, rate, piece.steps);
        REAL whole = a->scalar ? NAME(weight_of)(a, 0) : 1;
        for (long t = 0; t < piece.steps; t++) {
            along[t] *= whole * rate[t] * rate[t] * rate[t] / a->dim;
            sum[t] *= a->mean ? whole * rate[t] / a->dim : 0;
        }
        for (long c = 0; c < a->dim; c++) {
            REAL weight = NAME(weight_of)(a, c);
            const REAL *g = grad + c * a->steps;
            NAME(centre)(centred, x + c * a->steps, mean, piece.steps);
            for (long t = 0; t < piece.steps; t++) {
                product[t] = g[t] * centred[t] * rate[t];
                y[c * a->steps + t] = g[t] * rate[t] * weight - centred[t] * along[t] - sum[t];
            }
            if (a->activated)
                NAME(silu_backward)(y + c * a->steps, a->x + piece.states + c * a->steps, piece.steps,
                                    dropout_of(0, 0), 0);
            if (a->grad_weight && !a->scalar)
                a->grad_weight[part * a->dim + c] += NAME(dot)(product, 0, piece.steps);
            if (a->grad_bias)
                a->grad_bias[part * a->dim + c] += NAME(dot)(g, 0, piece.steps);
        }
    }
}

/* The same with channels innermost, (steps, dim), without mean and bias. */

enum { NAME(NORM_ROWS) = 64 };

static long NAME(last_step)(const struct NAME(norm) *a, long task)
{
    long last = (task + 1) * NAME(NORM_ROWS);
    return last < a->steps ? last : a->steps;
}

static void NAME(row_norm_forward_task)(const void *given, long task)
{
    const struct NAME(norm) *a = given;
    for (long t = task * NAME(NORM_ROWS); t < NAME(last_step)(a, task); t++) {
        const REAL *x = a->x + t * a->dim;
        REAL *y = a->y + t * a->dim;
        REAL rate = a->rate[t] = 1 / NAME(root)(NAME(dot)(x, x, a->dim) / a->dim + (REAL)a->epsilon);
        if (a->scalar)
            for (long c = 0; c < a->dim; c++)
                y[c] = x[c] * (rate * a->weight[0]);
        else
            for (long c = 0; c < a->dim; c++)
                y[c] = x[c] * rate * a->weight[c];
    }
}

static void NAME(row_norm_backward_task)(const void *given, long part)
{
    const struct NAME(norm) *a = given;
    REAL scaled[a->dim], sums[a->dim];
    for (long task = part; task * NAME(NORM_ROWS) < a->steps; task += a->parts) {
        memset(sums, 0, sizeof sums);
        for (long t = task * NAME(NORM_ROWS); t < NAME(last_step)(a, task); t++) {
            const REAL *x = a->x + t * a->dim, *grad = a->grad + t * a->dim;
            REAL *y = a->y + t * a->dim, rate = a->rate[t];
            for (long c = 0; c < a->dim; c++)
                scaled[c] = grad[c] * a->weight[a->scalar ? 0 : c];
            REAL across = NAME(dot)(scaled, x, a->dim) / a->dim * rate * rate;
            for (long c = 0; c < a->dim; c++)
                y[c] = (scaled[c] - x[c] * across) * rate;
            if (a->scalar)
                sums[0] += NAME(dot)(grad, x, a->dim) * rate;
            else
                for (long c = 0; c < a->dim; c++)
                    sums[c] += grad[c] * x[c] * rate;
        }
        for (long c = 0; c < (a->scalar ? 1 : a->dim); c++)
            a->grad_weight[part * (a->scalar ? 1 : a->dim) + c] += sums[c];
    }
}

void NAME(row_norm_forward)(const REAL *x, const REAL *weight, REAL *rate, REAL *y, long dim, long steps, long scalar,
                            double epsilon, long threads)
{
    struct NAME(norm) a = {
        .x = x, .weight = weight, .rate = rate, .y = y, .dim = dim, .steps = steps, .scalar = scalar, .epsilon = epsilon,
    };
    run_tasks(NAME(row_norm_forward_task), &a, (steps + NAME(NORM_ROWS) - 1) / NAME(NORM_ROWS), threads);
}

void NAME(row_norm_backward)(const REAL *grad, const REAL *x, const REAL *weight, REAL *rate, REAL *grad_x,
                             REAL *grad_weight, long dim, long steps, long scalar, long parts, long threads)
{
    struct NAME(norm) a = {
        .x = x, .grad = grad, .weight = weight, .rate = rate, .y = grad_x, .grad_weight = grad_weight, .dim = dim,
        .steps = steps, .scalar = scalar, .parts = parts,
    };
    run_tasks(NAME(row_norm_backward_task), &a, parts, threads);
}

void NAME(norm_forward)(const REAL *x, const REAL *weight, const REAL *bias, REAL *mean, REAL *rate, REAL *y,
                        long blocks, long dim, long steps, long scalar, long activated, double epsilon, long threads)
{
    struct NAME(norm) a = {
        .x = x, .weight = weight, .bias = bias, .mean = mean, .rate = rate, .y = y, .blocks = blocks, .dim = dim,
        .steps = steps, .scalar = scalar, .activated = activated, .epsilon = epsilon,
    };
    run_tasks(NAME(norm_forward_task), &a, blocks * NAME(pieces)(&a), threads);
}

void NAME(norm_backward)(const REAL *grad, const REAL *x, const REAL *weight, REAL *mean, REAL *rate, REAL *grad_x,
                         REAL *grad_weight, REAL *grad_bias, long blocks, long dim, long steps, long scalar,
                         long activated, long parts, long threads)
{
    struct NAME(norm) a = {
        .x = x, .grad = grad, .weight = weight, .mean = mean, .rate = rate, .y = grad_x, .grad_weight = grad_weight,
        .grad_bias = grad_bias, .blocks = blocks, .dim = dim, .steps = steps, .scalar = scalar,
        .activated = activated, .parts = parts,
    };
    run_tasks(NAME(norm_backward_task), &a, parts, threads);
}
