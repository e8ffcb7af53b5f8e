/* Vectors, sums along rows, silu and dropout in one precision. */

typedef REAL NAME(vector) __attribute__((vector_size(VECTOR), may_alias));
typedef INTEGER NAME(mask) __attribute__((vector_size(VECTOR)));

enum { NAME(LANES) = VECTOR / sizeof(REAL) };

/* Registers' worth of channels, time outside: what a scan along time works on. */
enum { NAME(TILE) = 64 };

static inline NAME(vector) NAME(from)(const REAL *x)
{
    NAME(vector) v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* Σ x·y, or Σ x without y: as many sums as a vector has lanes, and the sum of those. */
static inline REAL NAME(dot)(const REAL *x, const REAL *y, long count)
{
    NAME(vector) lanes = {0};
    REAL sum = 0;
    long i = 0;
    for (; i + NAME(LANES) <= count; i += NAME(LANES))
        if (y)
            lanes += NAME(from)(x + i) * NAME(from)(y + i);
        else
            lanes += NAME(from)(x + i);
    for (; i < count; i++)
        sum += y ? x[i] * y[i] : x[i];
    for (int lane = 0; lane < NAME(LANES); lane++)
        sum += lanes[lane];
    return sum;
}

/* The largest number of a row, NaN aside; `least` if none is larger. */
static inline REAL NAME(largest)(const REAL *x, long count, REAL least)
{
    NAME(vector) lanes = least - (NAME(vector)){0};
    long i = 0;
    for (; i + NAME(LANES) <= count; i += NAME(LANES)) {
        NAME(vector) v = NAME(from)(x + i);
        NAME(mask) larger = v > lanes;
        lanes = (NAME(vector))(((NAME(mask))v & larger) | ((NAME(mask))lanes & ~larger));
    }
    for (; i < count; i++)
        least = x[i] > least ? x[i] : least;
    for (int lane = 0; lane < NAME(LANES); lane++)
        least = lanes[lane] > least ? lanes[lane] : least;
    return least;
}

static inline REAL NAME(sigmoid)(REAL x)
{
    return 1 / (1 + NAME(exponential)(-x));
}

static inline REAL NAME(silu_slope)(REAL x)
{
    REAL s = NAME(sigmoid)(x);
    return s * (1 + x * (1 - s));
}

static inline REAL NAME(kept)(struct dropout dropout, uint32_t number)
{
    return keeps(dropout, number) ? (REAL)dropout.scale : 0;
}

/* x = dropout(x); elements are numbered from `first` on. */
static inline void NAME(drop)(REAL *x, long count, struct dropout dropout, uint32_t first)
{
    if (dropout.threshold)
        for (long i = 0; i < count; i++)
            x[i] *= NAME(kept)(dropout, first + (uint32_t)i);
}

/* y = dropout(silu(x)). */
static void NAME(silu_forward)(REAL *y, const REAL *x, long count, struct dropout dropout, uint32_t first)
{
    for (long i = 0; i < count; i++)
        y[i] = x[i] * NAME(sigmoid)(x[i]);
    NAME(drop)(y, count, dropout, first);
}

/* The gradient of x from that of y, in its place. */
static void NAME(silu_backward)(REAL *grad, const REAL *x, long count, struct dropout dropout, uint32_t first)
{
    for (long i = 0; i < count; i++)
        grad[i] *= NAME(silu_slope)(x[i]);
    NAME(drop)(grad, count, dropout, first);
}
