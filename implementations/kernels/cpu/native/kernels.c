/* Every kernel in float and in double. Plain C: no header but those of the language. */

#include "common.h"

#define REAL float
#define INTEGER int32_t
#define NAME(name) name##_float
#include "parts.h"
#undef REAL
#undef INTEGER
#undef NAME

#define REAL double
#define INTEGER int64_t
#define NAME(name) name##_double
#include "parts.h"
