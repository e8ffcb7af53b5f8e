/* What stands between the matrix products of the gated attention unit, row by row of its steps: silu of a projection is
   z beside the gate r (rows, z + hidden), and the values v (rows, hidden); z·gamma + beta, turned and scaled, are
   queries and keys. See kernels/cpu/gates.py. */

struct NAME(unit) {
    const REAL *before, *v_before; /* Before silu: z beside r, and v, each with a pitch of its rows. */
    long pitch, v_pitch;
    const REAL *gamma, *beta;             /* (2, z). */
    const REAL *scales;                   /* (rows,) of the queries. */
    const REAL *turns;                    /* (rows, z/2, 2): cosine and sine of each pair. Or none. */
    const int64_t *slots;                 /* (rows,): places in the working memory. Or none. */
    REAL *r, *v, *qk;                     /* (rows, hidden); (memory, hidden), (memory, 2·z). */
    const REAL *grad_gated, *attended;    /* (rows, hidden). */
    const REAL *grad_q, *grad_k, *grad_v; /* (memory, z), (memory, z), (memory, hidden). */
    REAL *gated, *upstream, *sums;        /* (rows, hidden), (memory, hidden), (rows,). */
    REAL *grad_before, *grad_v_before;    /* Of z beside r, and of v, with their pitches. */
    REAL *grad_gamma, *grad_beta, *grad_bias; /* (parts, 2, z), the same, (parts, z + 2·hidden). */
    long rows, z, hidden, parts;
};

enum { NAME(ROWS) = 32 };
/* Rows of a task: their sums are one number each, so that a long sum keeps its digits. */

static long NAME(slot)(const struct NAME(unit) *a, long row)
{
    return a->slots ? a->slots[row] : row;
}

static long NAME(last_row)(const struct NAME(unit) *a, long task)
{
    long last = (task + 1) * NAME(ROWS);
    return last < a->rows ? last : a->rows;
}

/* Turn pairs by their angles, or back. */
static void NAME(turn)(REAL *x, const REAL *turns, long z, int back)
{
    for (long i = 0; turns && i < z; i += 2) {
        REAL cosine = turns[i], sine = back ? -turns[i + 1] : turns[i + 1], real = x[i];
        x[i] = real * cosine - x[i + 1] * sine;
        x[i + 1] = real * sine + x[i + 1] * cosine;
    }
}

static const REAL *NAME(turns_of)(const struct NAME(unit) *a, long row)
{
    return a->turns ? a->turns + row * a->z : 0;
}

static void NAME(inputs_task)(const void *given, long task)
{
    const struct NAME(unit) *a = given;
    const struct dropout none = {0};
    long z = a->z, hidden = a->hidden;
    REAL activated[z];
    for (long row = task * NAME(ROWS); row < NAME(last_row)(a, task); row++) {
        const REAL *before = a->before + row * a->pitch;
        REAL *q = a->qk + NAME(slot)(a, row) * 2 * z, *k = q + z;
        NAME(silu_forward)(activated, before, z, none, 0);
        for (long i = 0; i < z; i++) {
            q[i] = activated[i] * a->gamma[i] + a->beta[i];
            k[i] = activated[i] * a->gamma[z + i] + a->beta[z + i];
        }
        NAME(turn)(q, NAME(turns_of)(a, row), z, 0);
        NAME(turn)(k, NAME(turns_of)(a, row), z, 0);
        for (long i = 0; i < z; i++)
            q[i] *= a->scales[row];
        NAME(silu_forward)(a->r + row * hidden, before + z, hidden, none, 0);
        NAME(silu_forward)(a->v + NAME(slot)(a, row) * hidden, a->v_before + row * a->v_pitch, hidden, none, 0);
    }
}

/* Backward through the gate: what attention gave, gated; the gradient of that; and Σ gated·its gradient. */
static void NAME(gate_task)(const void *given, long task)
{
    const struct NAME(unit) *a = given;
    for (long row = task * NAME(ROWS); row < NAME(last_row)(a, task); row++) {
        long place = row * a->hidden;
        const REAL *grad = a->grad_gated + place, *attended = a->attended + place, *r = a->r + place;
        REAL *gated = a->gated + place, *upstream = a->upstream + NAME(slot)(a, row) * a->hidden;
        for (long i = 0; i < a->hidden; i++) {
            gated[i] = attended[i] * r[i];
            upstream[i] = grad[i] * r[i];
        }
        a->sums[row] = NAME(dot)(grad, gated, a->hidden);
    }
}

/* Backward from queries, keys, values and gate to the projection; one part of the rows adds to gradients of its own. */
static void NAME(unit_backward_task)(const void *given, long part)
{
    const struct NAME(unit) *a = given;
    long z = a->z, hidden = a->hidden, width = z + 2 * hidden;
    REAL q[z], k[z], gamma[2 * z], beta[2 * z], bias[width];
    for (long task = part; task * NAME(ROWS) < a->rows; task += a->parts) {
        memset(gamma, 0, sizeof gamma);
        memset(beta, 0, sizeof beta);
        memset(bias, 0, sizeof bias);
        for (long row = task * NAME(ROWS); row < NAME(last_row)(a, task); row++) {
            const REAL *before = a->before + row * a->pitch, *v_before = a->v_before + row * a->v_pitch;
            const REAL *grad_gated = a->grad_gated + row * hidden, *attended = a->attended + row * hidden;
            const REAL *grad_v = a->grad_v + NAME(slot)(a, row) * hidden;
            REAL *grad = a->grad_before + row * a->pitch, *grad_v_before = a->grad_v_before + row * a->v_pitch;
            memcpy(q, a->grad_q + NAME(slot)(a, row) * z, sizeof q);
            memcpy(k, a->grad_k + NAME(slot)(a, row) * z, sizeof k);
            NAME(turn)(q, NAME(turns_of)(a, row), z, 1);
            NAME(turn)(k, NAME(turns_of)(a, row), z, 1);
            for (long i = 0; i < z; i++) {
                REAL sigmoid = NAME(sigmoid)(before[i]), activated = before[i] * sigmoid;
                q[i] *= a->scales[row];
                grad[i] = (q[i] * a->gamma[i] + k[i] * a->gamma[z + i]) * (sigmoid + activated * (1 - sigmoid));
                gamma[i] += q[i] * activated;
                gamma[z + i] += k[i] * activated;
                beta[i] += q[i];
                beta[z + i] += k[i];
            }
            for (long i = 0; i < hidden; i++)
                grad[z + i] = grad_gated[i] * attended[i] * NAME(silu_slope)(before[z + i]);
            for (long i = 0; i < hidden; i++)
                grad_v_before[i] = grad_v[i] * NAME(silu_slope)(v_before[i]);
            for (long i = 0; i < z + hidden; i++)
                bias[i] += grad[i];
            for (long i = 0; i < hidden; i++)
                bias[z + hidden + i] += grad_v_before[i];
        }
        for (long i = 0; i < 2 * z; i++) {
            a->grad_gamma[part * 2 * z + i] += gamma[i];
            a->grad_beta[part * 2 * z + i] += beta[i];
        }
        for (long i = 0; i < width; i++)
            a->grad_bias[part * width + i] += bias[i];
    }
}

static long NAME(row_tasks)(long rows)
{
    return (rows + NAME(ROWS) - 1) / NAME(ROWS);
}

void NAME(unit_inputs)(const REAL *before, const REAL *v_before, long pitch, long v_pitch, const REAL *gamma, const REAL *beta, const REAL *scales,
                       const REAL *turns, const int64_t *slots, REAL *r, REAL *v, REAL *qk, long rows, long z,
                       long hidden, long threads)
{
    struct NAME(unit) a = {
        .before = before, .v_before = v_before, .pitch = pitch, .v_pitch = v_pitch, .gamma = gamma, .beta = beta,
        .scales = scales, .turns = turns, .slots = slots, .r = r, .v = v, .qk = qk, .rows = rows, .z = z, .hidden = hidden,
    };
    run_tasks(NAME(inputs_task), &a, NAME(row_tasks)(rows), threads);
}

void NAME(gate_backward)(const REAL *grad_gated, const REAL *attended, REAL *r, const int64_t *slots, REAL *gated,
                         REAL *upstream, REAL *sums, long rows, long hidden, long threads)
{
    struct NAME(unit) a = {
        .grad_gated = grad_gated, .attended = attended, .r = r, .slots = slots, .gated = gated,
        .upstream = upstream, .sums = sums, .rows = rows, .hidden = hidden,
    };
    run_tasks(NAME(gate_task), &a, NAME(row_tasks)(rows), threads);
}

void NAME(unit_backward)(const REAL *before, const REAL *v_before, long pitch, long v_pitch, const REAL *gamma,
                         const REAL *scales, const REAL *turns, const int64_t *slots, const REAL *grad_gated,
                         const REAL *attended, const REAL *grad_q, const REAL *grad_k, const REAL *grad_v,
                         REAL *grad_before, REAL *grad_v_before, REAL *grad_gamma, REAL *grad_beta, REAL *grad_bias,
                         long rows, long z, long hidden, long parts, long threads)
{
    struct NAME(unit) a = {
        .before = before, .v_before = v_before, .pitch = pitch, .v_pitch = v_pitch, .gamma = gamma,
        .scales = scales, .turns = turns, .slots = slots, .grad_gated = grad_gated, .attended = attended,
        .grad_q = grad_q, .grad_k = grad_k, .grad_v = grad_v, .grad_before = grad_before,
        .grad_v_before = grad_v_before, .grad_gamma = grad_gamma, .grad_beta = grad_beta, .grad_bias = grad_bias,
        .rows = rows, .z = z, .hidden = hidden, .parts = parts,
    };
    run_tasks(NAME(unit_backward_task), &a, parts, threads);
}

/* The end of a MEGA unit: y = x + σ(update)·(dropout(silu(candidate)) − x), (rows, dim), where update and candidate are
   the first and last of the columns of a projection (rows, width). */

struct NAME(output) {
    const REAL *projected, *x, *grad;
    REAL *y, *grad_projected, *grad_x, *grad_bias /* (parts, 2, dim): of update and candidate. */;
    long rows, dim, width, parts;
    struct dropout dropout;
};

static void NAME(output_forward_task)(const void *given, long task)
{
    const struct NAME(output) *a = given;
    long last = (task + 1) * NAME(ROWS) < a->rows ? (task + 1) * NAME(ROWS) : a->rows;
    for (long row = task * NAME(ROWS); row < last; row++) {
        const REAL *update = a->projected + row * a->width, *candidate = update + a->width - a->dim;
        const REAL *x = a->x + row * a->dim;
        REAL *y = a->y + row * a->dim;
        NAME(silu_forward)(y, candidate, a->dim, a->dropout, (uint32_t)(row * a->dim));
        for (long i = 0; i < a->dim; i++)
            y[i] = x[i] + NAME(sigmoid)(update[i]) * (y[i] - x[i]);
    }
}

static void NAME(output_backward_task)(const void *given, long part)
{
    const struct NAME(output) *a = given;
    long dim = a->dim;
    REAL h[dim], sums[2 * dim];
    for (long task = part; task * NAME(ROWS) < a->rows; task += a->parts) {
        long last = (task + 1) * NAME(ROWS) < a->rows ? (task + 1) * NAME(ROWS) : a->rows;
        memset(sums, 0, sizeof sums);
        for (long row = task * NAME(ROWS); row < last; row++) {
            const REAL *update = a->projected + row * a->width, *candidate = update + a->width - dim;
            const REAL *x = a->x + row * dim, *grad = a->grad + row * dim;
            REAL *grad_update = a->grad_projected + row * a->width, *grad_candidate = grad_update + a->width - dim;
            REAL *grad_x = a->grad_x + row * dim;
            uint32_t first = (uint32_t)(row * dim);
            NAME(silu_forward)(h, candidate, dim, a->dropout, first);
            for (long i = 0; i < dim; i++) {
                REAL gate = NAME(sigmoid)(update[i]);
                grad_candidate[i] = grad[i] * gate;
                grad_x[i] = grad[i] - grad_candidate[i];
                grad_update[i] = (h[i] - x[i]) * gate * grad_x[i];
            }
            NAME(silu_backward)(grad_candidate, candidate, dim, a->dropout, first);
            for (long i = 0; i < dim; i++) {
                sums[i] += grad_update[i];
                sums[dim + i] += grad_candidate[i];
            }
        }
        for (long i = 0; i < 2 * dim; i++)
            a->grad_bias[part * 2 * dim + i] += sums[i];
    }
}

void NAME(output_forward)(const REAL *projected, const REAL *x, REAL *y, long rows, long dim, long width, double p,
                          int64_t seed, long threads)
{
    struct NAME(output) a = {
        .projected = projected, .x = x, .y = y, .rows = rows, .dim = dim, .width = width,
        .dropout = dropout_of(p, seed),
    };
    run_tasks(NAME(output_forward_task), &a, NAME(row_tasks)(rows), threads);
}

void NAME(output_backward)(const REAL *grad, const REAL *projected, const REAL *x, REAL *grad_projected, REAL *grad_x,
                           REAL *grad_bias, long rows, long dim, long width, long parts, double p, int64_t seed,
                           long threads)
{
    struct NAME(output) a = {
        .grad = grad, .projected = projected, .x = x, .grad_projected = grad_projected, .grad_x = grad_x,
        .grad_bias = grad_bias, .rows = rows, .dim = dim, .width = width, .parts = parts,
        .dropout = dropout_of(p, seed),
    };
    run_tasks(NAME(output_backward_task), &a, parts, threads);
}
