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

/* As many lines of a matrix as a vector has lanes. */
static void NAME(transpose_task)(const void *given, long task)
{
    const struct NAME(matrices) *a = given;
    long strips = (a->lines + NAME(LANES) - 1) / NAME(LANES), first = task % strips * NAME(LANES);
    long row = task / strips % a->rows, block = task / strips / a->rows;
    long lines = a->lines - first < NAME(LANES) ? a->lines - first : NAME(LANES), c = 0;
    const REAL *from = a->from + block * a->from_block + row * a->from_row + first * a->from_line;
    REAL *to = a->to + block * a->to_block + row * a->to_row + first;
    if (lines == NAME(LANES))
        for (; c + NAME(LANES) <= a->columns; c += NAME(LANES))
            NAME(transpose_some)(from + c, a->from_line, to + c * a->to_line, a->to_line, NAME(LANES), NAME(LANES));
    for (; c < a->columns; c += NAME(LANES)) {
        long columns = a->columns - c < NAME(LANES) ? a->columns - c : NAME(LANES);
        NAME(transpose_some)(from + c, a->from_line, to + c * a->to_line, a->to_line, lines, columns);
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
    run_tasks(NAME(transpose_task), &a, blocks * rows * ((lines + NAME(LANES) - 1) / NAME(LANES)), threads);
}
