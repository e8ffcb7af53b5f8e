/* The parts, for one precision: REAL is its type, INTEGER one of its size, NAME(x) the name of x in it. */

#include "vector.h"
#include "silu.c"
#include "transpose.c"
#include "ema.c"
#include "norm.c"
#include "attention.c"
#include "gates.c"
#include "steps.c"
