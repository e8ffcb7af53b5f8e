/* Dropout of silu of contiguous elements. */

struct NAME(silu_of) {
    REAL *y;
    const REAL *x;
    long count;
    struct dropout dropout;
};

enum { NAME(PIECE) = 4096 };

static void NAME(silu_task)(const void *given, long task)
{
    const struct NAME(silu_of) *a = given;
    long first = task * NAME(PIECE), left = a->count - first;
    NAME(silu_forward)(a->y + first, a->x + first, left < NAME(PIECE) ? left : NAME(PIECE), a->dropout, (uint32_t)first);
}

void NAME(silu)(REAL *y, const REAL *x, long count, double p, int64_t seed, long threads)
{
    struct NAME(silu_of) a = {y, x, count, dropout_of(p, seed)};
    run_tasks(NAME(silu_task), &a, (count + NAME(PIECE) - 1) / NAME(PIECE), threads);
}
