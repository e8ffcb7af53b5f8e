/* Dropout of silu of contiguous elements, and the gradient of silu. */

struct NAME(silu_of) {
    REAL *y;
    const REAL *x, *grad;
    long count;
    struct dropout dropout;
};

enum { NAME(PIECE) = 4096 };

static void NAME(silu_task)(const void *given, long task)
{
    const struct NAME(silu_of) *a = given;
    long first = task * NAME(PIECE), left = a->count - first, count = left < NAME(PIECE) ? left : NAME(PIECE);
    if (!a->grad) {
        NAME(silu_forward)(a->y + first, a->x + first, count, a->dropout, (uint32_t)first);
        return;
    }
    memcpy(a->y + first, a->grad + first, (size_t)count * sizeof *a->y);
    NAME(silu_backward)(a->y + first, a->x + first, count, a->dropout, (uint32_t)first);
}

void NAME(silu)(REAL *y, const REAL *x, long count, double p, int64_t seed, long threads)
{
    struct NAME(silu_of) a = {.y = y, .x = x, .count = count, .dropout = dropout_of(p, seed)};
    run_tasks(NAME(silu_task), &a, (count + NAME(PIECE) - 1) / NAME(PIECE), threads);
}

void NAME(silu_gradient)(REAL *y, const REAL *grad, const REAL *x, long count, long threads)
{
    struct NAME(silu_of) a = {.y = y, .x = x, .grad = grad, .count = count, .dropout = dropout_of(0, 0)};
    run_tasks(NAME(silu_task), &a, (count + NAME(PIECE) - 1) / NAME(PIECE), threads);
}
