/* Some steps of states (channels, all) with time innermost, taken out of them or added to them, with dropout of what
   is moved. steps (count,) are places in a row, or all in order without. */

struct NAME(moved) {
    const REAL *x;  /* Taken from or, in order only, what a part is added to. */
    const REAL *part;
    REAL *y;
    const int64_t *steps;
    long x_stride, y_stride; /* From a channel to the next. */
    long count;
    struct dropout dropout;
};

static void NAME(take_steps_task)(const void *given, long channel)
{
    const struct NAME(moved) *a = given;
    const REAL *x = a->x + channel * a->x_stride;
    REAL *y = a->y + channel * a->count;
    if (a->steps)
        for (long i = 0; i < a->count; i++)
            y[i] = x[a->steps[i]];
    else
        memcpy(y, x, (size_t)a->count * sizeof *y);
    NAME(drop)(y, a->count, a->dropout, (uint32_t)(channel * a->count));
}

static void NAME(add_steps_task)(const void *given, long channel)
{
    const struct NAME(moved) *a = given;
    const REAL *part = a->part + channel * a->count, *x = a->x + channel * a->x_stride;
    REAL *y = a->y + channel * a->y_stride;
    uint32_t first = (uint32_t)(channel * a->count);
    for (long i = 0; i < a->count; i++) {
        REAL added = a->dropout.threshold ? part[i] * NAME(kept)(a->dropout, first + (uint32_t)i) : part[i];
        if (a->steps)
            y[a->steps[i]] += added;
        else
            y[i] = x[i] + added;
    }
}

void NAME(take_steps)(const REAL *x, long x_stride, const int64_t *steps, REAL *y, long channels, long count, double p,
                      int64_t seed, long threads)
{
    struct NAME(moved) a = {
        .x = x, .y = y, .steps = steps, .x_stride = x_stride, .count = count, .dropout = dropout_of(p, seed),
    };
    run_tasks(NAME(take_steps_task), &a, channels, threads);
}

void NAME(add_steps)(const REAL *x, long x_stride, const int64_t *steps, const REAL *part, REAL *y, long y_stride,
                     long channels, long count, double p, int64_t seed, long threads)
{
    struct NAME(moved) a = {
        .x = x, .part = part, .y = y, .steps = steps, .x_stride = x_stride, .y_stride = y_stride, .count = count,
        .dropout = dropout_of(p, seed),
    };
    run_tasks(NAME(add_steps_task), &a, channels, threads);
}
