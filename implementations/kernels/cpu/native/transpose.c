/* Transposition, a square of registers at a time. */

#if defined(__clang__)
static const int NAME(transposes) = 0;
static void NAME(turn_square)(NAME(vector) *square)
{
    (void)square;
}
#else
static const int NAME(transposes) = 1;

/* Transpose as many vectors as a vector has lanes: each round shuffles the first half of them with the second, as
   cards are, and after log₂ rounds all lanes are in their places. */
static inline void NAME(turn_square)(NAME(vector) *square)
{
    typedef INTEGER mask __attribute__((vector_size(VECTOR)));
    mask low, high;
#pragma GCC unroll 16
    for (int i = 0; i < NAME(LANES); i++) {
        low[i] = i / 2 + i % 2 * NAME(LANES);
        high[i] = low[i] + NAME(LANES) / 2;
    }
#pragma GCC unroll 4
    for (int round = 1; round < NAME(LANES); round *= 2) {
        NAME(vector) mixed[NAME(LANES)];
#pragma GCC unroll 8
        for (int i = 0; i < NAME(LANES) / 2; i++) {
            mixed[2 * i] = __builtin_shuffle(square[i], square[i + NAME(LANES) / 2], low);
            mixed[2 * i + 1] = __builtin_shuffle(square[i], square[i + NAME(LANES) / 2], high);
        }
#pragma GCC unroll 16
        for (int i = 0; i < NAME(LANES); i++)
            square[i] = mixed[i];
    }
}
#endif

/* Matrices (blocks, rows) of `lines` lines of `columns` numbers, which become columns lines of lines numbers; the
   strides lead from a block, a row and a line to the next. */
struct NAME(matrices) {
    const REAL *from;
    REAL *to;
    long from_block, from_row, from_line, to_block, to_row, to_line;
    long blocks, rows, lines, columns;
};

/* Lines and columns at most as many as a vector has lanes. */
static inline void NAME(transpose_some)(const REAL *from, long from_line, REAL *to, long to_line, long lines,
                                        long columns)
{
    if (!NAME(transposes)) {
        for (long c = 0; c < columns; c++)
            for (long l = 0; l < lines; l++)
                to[c * to_line + l] = from[l * from_line + c];
        return;
    }
    NAME(vector) square[NAME(LANES)] = {0};
#pragma GCC unroll 16
    for (long l = 0; l < lines; l++)
        memcpy(square + l, from + l * from_line, (size_t)columns * sizeof *from);
    NAME(turn_square)(square);
#pragma GCC unroll 16
    for (long c = 0; c < columns; c++)
        memcpy(to + c * to_line, square + c, (size_t)lines * sizeof *to);
}

/* Numbers of the longer side that a task turns. */
enum { NAME(STRIP) = 4 * NAME(LANES) };

struct NAME(span) {
    long first, end;
};

static struct NAME(span) NAME(span_of)(long whole, long strip, int is_longer)
{
    long end = (strip + 1) * NAME(STRIP);
    return is_longer ? (struct NAME(span)){strip * NAME(STRIP), end < whole ? end : whole}
                     : (struct NAME(span)){0, whole};
}

/* As many as a vector has lanes from *at on; at the end of a span those before it once more, or fewer if it is short. */
static long NAME(next_part)(struct NAME(span) span, long *at)
{
    long left = span.end - *at;
    if (left >= NAME(LANES))
        return NAME(LANES);
    if (span.end - span.first < NAME(LANES))
        return left;
    *at = span.end - NAME(LANES);
    return NAME(LANES);
}

static void NAME(transpose_task)(const void *given, long task)
{
    const struct NAME(matrices) *a = given;
    int by_lines = a->lines >= a->columns;
    long strips = ((by_lines ? a->lines : a->columns) + NAME(STRIP) - 1) / NAME(STRIP), strip = task % strips;
    long row = task / strips % a->rows, block = task / strips / a->rows;
    const REAL *from = a->from + block * a->from_block + row * a->from_row;
    REAL *to = a->to + block * a->to_block + row * a->to_row;
    struct NAME(span) of_lines = NAME(span_of)(a->lines, strip, by_lines);
    struct NAME(span) of_columns = NAME(span_of)(a->columns, strip, !by_lines);
    for (long l = of_lines.first; l < of_lines.end; l += NAME(LANES)) {
        long lines = NAME(next_part)(of_lines, &l);
        for (long c = of_columns.first; c < of_columns.end; c += NAME(LANES)) {
            long columns = NAME(next_part)(of_columns, &c);
            const REAL *square = from + l * a->from_line + c;
            REAL *turned = to + c * a->to_line + l;
            if (lines == NAME(LANES) && columns == NAME(LANES))
                NAME(transpose_some)(square, a->from_line, turned, a->to_line, NAME(LANES), NAME(LANES));
            else
                NAME(transpose_some)(square, a->from_line, turned, a->to_line, lines, columns);
        }
    }
}

void NAME(transpose)(const REAL *from, long from_block, long from_row, long from_line, REAL *to, long to_block,
                     long to_row, long to_line, long blocks, long rows, long lines, long columns, long threads)
{
    struct NAME(matrices) a = {
        .from = from, .to = to, .from_block = from_block, .from_row = from_row, .from_line = from_line,
        .to_block = to_block, .to_row = to_row, .to_line = to_line, .blocks = blocks, .rows = rows, .lines = lines,
        .columns = columns,
    };
    long longer = lines >= columns ? lines : columns;
    run_tasks(NAME(transpose_task), &a, blocks * rows * ((longer + NAME(STRIP) - 1) / NAME(STRIP)), threads);
}
