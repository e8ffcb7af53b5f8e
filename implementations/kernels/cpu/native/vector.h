/* Vectors, silu and dropout in one precision. */

typedef REAL NAME(vector) __attribute__((vector_size(VECTOR), may_alias));

enum { NAME(LANES) = VECTOR / sizeof(REAL) };


/* Registers' worth of channels, time outside: what a scan along time works on. */
enum { NAME(TILE) = 64 };

static inline REAL NAME(sigmoid)(REAL x)
{
    return 1 / (1 + NAME(exponential)(-x));
}

static inline REAL NAME(kept)(struct dropout dropout, uint32_t number)
{
    return keeps(dropout, number) ? (REAL)dropout.scale : 0;
}

/* y = dropout(silu(x)); elements are numbered from `first` on. */
static void NAME(silu_forward)(REAL *y, const REAL *x, long count, struct dropout dropout, uint32_t first)
{
    for (long i = 0; i < count; i++)
        y[i] = x[i] * NAME(sigmoid)(x[i]);
    if (dropout.threshold)
        for (long i = 0; i < count; i++)
            y[i] *= NAME(kept)(dropout, first + (uint32_t)i);
}

/* The gradient of x from that of y, in its place. */
static void NAME(silu_backward)(REAL *grad, const REAL *x, long count, struct dropout dropout, uint32_t first)
{
    for (long i = 0; i < count; i++) {
        REAL s = NAME(sigmoid)(x[i]);
        grad[i] *= s * (1 + x[i] * (1 - s));
    }
    if (dropout.threshold)
        for (long i = 0; i < count; i++)
            grad[i] *= NAME(kept)(dropout, first + (uint32_t)i);
}
