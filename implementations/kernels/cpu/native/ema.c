/* The damped EMA as scans: s ← q·s + x and y = Σ weight·s over the states, from the left and, if it has two
   directions, from the right; plus omega·x. A vector holds a step of some channels, so that every channel has its
   own decay. Rows (dim, rows, length) have time innermost; `padded` steps (rows, length) add nothing to others. */

enum { NAME(GROUP) = 8, NAME(ADJOINT_GROUP) = 4 };
/* States at a time: as many as registers hold beside their coefficients and sums. */

struct NAME(ema) {
    const REAL *x;
    long x_stride; /* From a channel to the next. */
    const uint8_t *padded;
    const REAL *weight, *decay, *omega; /* (directions·dim, states), the same, (dim,). */
    REAL *average, *mixed;
    REAL *grad; /* Of mixed or, without activation, of the average; the backward pass turns it into that. */
    REAL *grad_x;
    long grad_x_stride;
    int add; /* Whether the gradient of x is added to what is there. */
    REAL *grad_weight, *grad_log_decay, *grad_omega; /* (parts, directions·dim, states), (parts, dim). */
    long directions, dim, rows, length, states, parts;
    int activated;
    struct dropout dropout;
};

/* Steps of a tile that whole squares hold; the rest goes number by number. */
static long NAME(in_squares)(long channels, long steps)
{
    return NAME(transposes) && channels == NAME(LANES) ? steps / NAME(LANES) * NAME(LANES) : 0;
}

/* Tile of steps of some channels from rows, and back. */
static void NAME(load)(NAME(vector) *tile, const REAL *from, long stride, long channels, long steps)
{
    REAL(*to)[NAME(LANES)] = (void *)tile;
    long first = NAME(in_squares)(channels, steps);
    for (long t = 0; t < first; t += NAME(LANES)) {
        NAME(vector) square[NAME(LANES)];
#pragma GCC unroll 16
        for (long c = 0; c < NAME(LANES); c++)
            memcpy(square + c, from + c * stride + t, sizeof *square);
        NAME(turn_square)(square);
#pragma GCC unroll 16
        for (long c = 0; c < NAME(LANES); c++)
            tile[t + c] = square[c];
    }
    if (channels < NAME(LANES))
        memset(tile, 0, (size_t)steps * sizeof *tile);
    for (long c = 0; c < channels; c++)
        for (long t = first; t < steps; t++)
            to[t][c] = from[c * stride + t];
}

static void NAME(store)(REAL *to, long stride, const NAME(vector) *tile, long channels, long steps)
{
    const REAL(*from)[NAME(LANES)] = (const void *)tile;
    long first = NAME(in_squares)(channels, steps);
    for (long t = 0; t < first; t += NAME(LANES)) {
        NAME(vector) square[NAME(LANES)];
#pragma GCC unroll 16
        for (long c = 0; c < NAME(LANES); c++)
            square[c] = tile[t + c];
        NAME(turn_square)(square);
#pragma GCC unroll 16
        for (long c = 0; c < NAME(LANES); c++)
            memcpy(to + c * stride + t, square + c, sizeof *square);
    }
    for (long c = 0; c < channels; c++)
        for (long t = first; t < steps; t++)
            to[c * stride + t] = from[t][c];
}

static void NAME(hide)(NAME(vector) *tile, const uint8_t *padded, long steps)
{
    if (padded)
        for (long t = 0; t < steps; t++)
            if (padded[t])
                tile[t] = (NAME(vector)){0};
}

/* y += Σ weight·s over a tile's steps; states are carried from tile to tile. */
static void NAME(scan)(const NAME(vector) *x, NAME(vector) *y, NAME(vector) *state, const NAME(vector) *decay,
                       const NAME(vector) *weight, long states, long steps, int ascending)
{
    for (long n = 0; n < states; n += NAME(GROUP)) {
        NAME(vector) s[NAME(GROUP)], q[NAME(GROUP)], w[NAME(GROUP)];
        for (int i = 0; i < NAME(GROUP); i++)
            s[i] = state[n + i], q[i] = decay[n + i], w[i] = weight[n + i];
        for (long k = 0; k < steps; k++) {
            long t = ascending ? k : steps - 1 - k;
            NAME(vector) input = x[t], sum = y[t];
            for (int i = 0; i < NAME(GROUP); i++) {
                s[i] = q[i] * s[i] + input;
                sum += w[i] * s[i];
            }
            y[t] = sum;
        }
        for (int i = 0; i < NAME(GROUP); i++)
            state[n + i] = s[i];
    }
}

/* The same on the gradient against the scan's direction, which gives that of x; with Σ x·s, the gradient of the
   weight, and Σ x·(the derivative of s by the decay's logarithm). */
static void NAME(adjoint)(const NAME(vector) *grad, const NAME(vector) *x, NAME(vector) *grad_x,
                          NAME(vector) *state, NAME(vector) *slope, NAME(vector) *by_weight,
                          NAME(vector) *by_decay, const NAME(vector) *decay, const NAME(vector) *weight,
                          long states, long steps, int ascending)
{
    for (long n = 0; n < states; n += NAME(ADJOINT_GROUP)) {
        NAME(vector) s[NAME(ADJOINT_GROUP)], d[NAME(ADJOINT_GROUP)], q[NAME(ADJOINT_GROUP)];
        NAME(vector) w[NAME(ADJOINT_GROUP)], sum_s[NAME(ADJOINT_GROUP)], sum_d[NAME(ADJOINT_GROUP)];
        for (int i = 0; i < NAME(ADJOINT_GROUP); i++) {
            s[i] = state[n + i], d[i] = slope[n + i], q[i] = decay[n + i], w[i] = weight[n + i];
            sum_s[i] = sum_d[i] = (NAME(vector)){0};
        }
        for (long k = 0; k < steps; k++) {
            long t = ascending ? k : steps - 1 - k;
            NAME(vector) input = grad[t], other = x[t], sum = grad_x[t];
            for (int i = 0; i < NAME(ADJOINT_GROUP); i++) {
                NAME(vector) decayed = q[i] * s[i];
                s[i] = decayed + input;
                d[i] = q[i] * d[i] + decayed;
                sum += w[i] * s[i];
                sum_s[i] += other * s[i];
                sum_d[i] += other * d[i];
            }
            grad_x[t] = sum;
        }
        for (int i = 0; i < NAME(ADJOINT_GROUP); i++) {
            state[n + i] = s[i], slope[n + i] = d[i];
            by_weight[n + i] += sum_s[i], by_decay[n + i] += sum_d[i];
        }
    }
}

/* Coefficients of a direction's channels, a vector per state; states without any are zero. */
static void NAME(coefficients)(NAME(vector) *to, const REAL *from, long states, long padded, long channels)
{
    REAL(*lanes)[NAME(LANES)] = (void *)to;
    memset(to, 0, (size_t)padded * sizeof *to);
    for (long c = 0; c < channels; c++)
        for (long n = 0; n < states; n++)
            lanes[n][c] = from[c * states + n];
}

static long NAME(groups)(const struct NAME(ema) *a)
{
    return (a->dim + NAME(LANES) - 1) / NAME(LANES);
}

/* One row of a group of channels. */
static void NAME(ema_forward_task)(const void *given, long task)
{
    const struct NAME(ema) *a = given;
    long row = task % a->rows, first = task / a->rows * NAME(LANES), length = a->length;
    long channels = a->dim - first < NAME(LANES) ? a->dim - first : NAME(LANES);
    long padded_states = (a->states + NAME(GROUP) - 1) / NAME(GROUP) * NAME(GROUP), stride = a->rows * length;
    const REAL *x = a->x + first * a->x_stride + row * length;
    const uint8_t *padded = a->padded ? a->padded + row * length : 0;
    REAL *average = a->average + first * stride + row * length;
    NAME(vector) state[padded_states], decay[padded_states], weight[padded_states], omega;
    NAME(vector) in[NAME(TILE)], out[NAME(TILE)];
    NAME(coefficients)(&omega, a->omega + first, 1, 1, channels);
    for (long direction = 0; direction < a->directions; direction++) {
        long offset = (direction * a->dim + first) * a->states;
        NAME(coefficients)(weight, a->weight + offset, a->states, padded_states, channels);
        NAME(coefficients)(decay, a->decay + offset, a->states, padded_states, channels);
        memset(state, 0, sizeof state);
        for (long start = 0; start < length; start += NAME(TILE)) {
            long steps = length - start < NAME(TILE) ? length - start : NAME(TILE);
            long at = direction ? length - start - steps : start;
            NAME(load)(in, x + at, a->x_stride, channels, steps);
            if (direction)
                NAME(load)(out, average + at, stride, channels, steps);
            else
                for (long t = 0; t < steps; t++)
                    out[t] = omega * in[t];
            NAME(hide)(in, padded ? padded + at : 0, steps);
            NAME(scan)(in, out, state, decay, weight, padded_states, steps, !direction);
            NAME(store)(average + at, stride, out, channels, steps);
            if (a->activated && direction == a->directions - 1)
                for (long c = 0; c < channels; c++) {
                    long place = (first + c) * stride + row * length + at;
                    NAME(silu_forward)(a->mixed + place, a->average + place, steps, a->dropout, (uint32_t)place);
                }
        }
    }
}

/* Add a group's sums to the gradients (directions·dim, states) of some coefficients. */
static void NAME(add_sums)(REAL *grad, const NAME(vector) *sums, const NAME(vector) *factor, long states,
                           long channels)
{
    const REAL(*from)[NAME(LANES)] = (const void *)sums;
    const REAL(*by)[NAME(LANES)] = (const void *)factor;
    for (long c = 0; c < channels; c++)
        for (long n = 0; n < states; n++)
            grad[c * states + n] += by ? from[n][c] * by[n][c] : from[n][c];
}

/* One part of the rows, of a group of channels: it adds to gradients of its own. */
static void NAME(ema_backward_task)(const void *given, long task)
{
    const struct NAME(ema) *a = given;
    long part = task % a->parts, first = task / a->parts * NAME(LANES), length = a->length;
    long channels = a->dim - first < NAME(LANES) ? a->dim - first : NAME(LANES);
    long group = NAME(ADJOINT_GROUP), states = (a->states + group - 1) / group * group, stride = a->rows * length;
    NAME(vector) decay[states], weight[states], state[states], slope[states], by_weight[states], by_decay[states];
    NAME(vector) omega, by_omega = {0}, in[NAME(TILE)], other[NAME(TILE)], out[NAME(TILE)], whole[NAME(TILE)];
    NAME(coefficients)(&omega, a->omega + first, 1, 1, channels);
    /* The kernel that looks ahead has its adjoint from the left, which is first, whether or not it is there. */
    for (int ascending = 1; ascending >= 0; ascending--) {
        int present = !ascending || a->directions == 2;
        long offset = ((ascending ? a->dim : 0) + first) * a->states;
        if (present) {
            NAME(coefficients)(weight, a->weight + offset, a->states, states, channels);
            NAME(coefficients)(decay, a->decay + offset, a->states, states, channels);
            memset(by_weight, 0, sizeof by_weight);
            memset(by_decay, 0, sizeof by_decay);
        }
        for (long row = part; row < a->rows; row += a->parts) {
            const REAL *x = a->x + first * a->x_stride + row * length;
            const uint8_t *padded = a->padded ? a->padded + row * length : 0;
            REAL *grad = a->grad + first * stride + row * length;
            REAL *grad_x = a->grad_x + first * a->grad_x_stride + row * length;
            memset(state, 0, sizeof state);
            memset(slope, 0, sizeof slope);
            for (long start = 0; start < length; start += NAME(TILE)) {
                long steps = length - start < NAME(TILE) ? length - start : NAME(TILE);
                long at = ascending ? start : length - start - steps;
                if (ascending && a->activated)
                    for (long c = 0; c < channels; c++) {
                        long place = (first + c) * stride + row * length + at;
                        NAME(silu_backward)(a->grad + place, a->average + place, steps, a->dropout,
                                            (uint32_t)place);
                    }
                NAME(load)(in, grad + at, stride, channels, steps);
                NAME(load)(other, x + at, a->x_stride, channels, steps);
                if (!ascending || a->add)
                    NAME(load)(whole, grad_x + at, a->grad_x_stride, channels, steps);
                else
                    memset(whole, 0, sizeof whole);
                if (ascending) {
                    NAME(vector) sum = {0}; /* Of a tile at a time, so that a long sum keeps its digits. */
                    for (long t = 0; t < steps; t++) {
                        whole[t] += omega * in[t];
                        sum += other[t] * in[t];
                    }
                    by_omega += sum;
                }
                if (present) {
                    NAME(hide)(other, padded ? padded + at : 0, steps);
                    memset(out, 0, sizeof out);
                    NAME(adjoint)(in, other, out, state, slope, by_weight, by_decay, decay, weight, states, steps,
                                  ascending);
                    NAME(hide)(out, padded ? padded + at : 0, steps);
                    for (long t = 0; t < steps; t++)
                        whole[t] += out[t];
                }
                NAME(store)(grad_x + at, a->grad_x_stride, whole, channels, steps);
            }
        }
        if (present) {
            long size = a->directions * a->dim * a->states;
            NAME(add_sums)(a->grad_weight + part * size + offset, by_weight, 0, a->states, channels);
            NAME(add_sums)(a->grad_log_decay + part * size + offset, by_decay, weight, a->states, channels);
        }
    }
    NAME(add_sums)(a->grad_omega + part * a->dim + first, &by_omega, 0, 1, channels);
}

void NAME(ema_forward)(const REAL *x, long x_stride, const uint8_t *padded, const REAL *weight, const REAL *decay,
                       const REAL *omega, REAL *average, REAL *mixed, long directions, long dim, long rows,
                       long length, long states, double p, int64_t seed, long threads)
{
    struct NAME(ema) a = {
        .x = x, .x_stride = x_stride, .padded = padded, .weight = weight, .decay = decay, .omega = omega,
        .average = average, .mixed = mixed, .directions = directions, .dim = dim, .rows = rows, .length = length,
        .states = states, .activated = mixed != 0, .dropout = dropout_of(p, seed),
    };
    run_tasks(NAME(ema_forward_task), &a, NAME(groups)(&a) * rows, threads);
}

void NAME(ema_backward)(REAL *grad, const REAL *average, const REAL *x, long x_stride, const uint8_t *padded,
                        const REAL *weight, const REAL *decay, const REAL *omega, REAL *grad_x, long grad_x_stride,
                        int add, REAL *grad_weight, REAL *grad_log_decay, REAL *grad_omega, long directions,
                        long dim, long rows, long length, long states, long parts, double p, int64_t seed,
                        long threads)
{
    struct NAME(ema) a = {
        .x = x, .x_stride = x_stride, .padded = padded, .weight = weight, .decay = decay, .omega = omega,
        .average = (REAL *)average, .grad = grad, .grad_x = grad_x, .grad_x_stride = grad_x_stride, .add = add,
        .grad_weight = grad_weight, .grad_log_decay = grad_log_decay, .grad_omega = grad_omega,
        .directions = directions, .dim = dim, .rows = rows, .length = length, .states = states, .parts = parts,
        .activated = average != 0, .dropout = dropout_of(p, seed),
    };
    run_tasks(NAME(ema_backward_task), &a, NAME(groups)(&a) * parts, threads);
}
