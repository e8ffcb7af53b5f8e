/* What both precisions share: threads, and which elements dropout keeps. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Bytes of a vector register. */
#if defined(__AVX512F__)
#define VECTOR 64
#elif defined(__AVX__)
#define VECTOR 32
#else
#define VECTOR 16
#endif

/* The pool of threads is the one that torch computes with: GOMP_parallel of the OpenMP that it has loaded. */
typedef void (*parallel_function)(void (*)(void *), void *, unsigned, unsigned);
typedef int (*number_function)(void);

static parallel_function pool;
static number_function thread_number, thread_count;

void use_pool(parallel_function parallel, number_function number, number_function count)
{
    pool = parallel;
    thread_number = number;
    thread_count = count;
}

typedef void (*task_function)(const void *arguments, long task);

struct tasks {
    task_function run;
    const void *arguments;
    long count;
};

static void share_of_thread(void *given)
{
    const struct tasks *tasks = given;
    for (long task = thread_number(); task < tasks->count; task += thread_count())
        tasks->run(tasks->arguments, task);
}

/* Run tasks 0 … count − 1 on that many threads at most. */
static void run_tasks(task_function run, const void *arguments, long count, long threads)
{
    struct tasks tasks = {run, arguments, count};
    if (threads > count)
        threads = count;
    if (pool && threads > 1) {
        pool(share_of_thread, &tasks, (unsigned)threads, 0);
        return;
    }
    for (long task = 0; task < count; task++)
        run(arguments, task);
}

/* Dropout: an element is kept if a hash of its number and a seed is at least the threshold, p·2³². Forward and
   backward passes draw the same by the same seed, and nothing is kept in memory. */
struct dropout {
    uint32_t low, high, threshold;
    double scale;
};

static struct dropout dropout_of(double p, int64_t seed)
{
    struct dropout dropout = {(uint32_t)seed, (uint32_t)((uint64_t)seed >> 32), 0, 1.0};
    if (p >= 1.0)
        dropout.threshold = UINT32_MAX, dropout.scale = 0.0;
    else if (p > 0.0)
        dropout.threshold = (uint32_t)(p * 4294967296.0), dropout.scale = 1.0 / (1.0 - p);
    return dropout;
}

/* MurmurHash3's finaliser, with the two halves of the seed. */
static inline int keeps(struct dropout dropout, uint32_t number)
{
    uint32_t h = number ^ dropout.low;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h ^= dropout.high;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    h ^= h >> 16;
    return h >= dropout.threshold;
}

/* Where e^x is a normal number. Not constants: a compiler that knows them computes what follows from a limit, such as
   x·sigmoid(−88), in every lane beside what follows from x, and an Intel processor takes a hundred cycles for each
   subnormal number in it. */
float least_exponent = -87.0f, greatest_exponent = 88.0f;

/* e^x for x ≤ 88 to two units in the last place: 2^n·e^r with |r| ≤ ln 2 / 2, and Taylor's series of e^r. */
static inline float exponential_float(float x)
{
    const float round = 12582912.0f; /* 1.5·2²³: adding it rounds to an integer. */
    x = x < least_exponent ? least_exponent : x;
    x = x > greatest_exponent ? greatest_exponent : x;
    float shifted = x * 1.44269504f + round, n = shifted - round;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float e = 1.0f / 5040.0f;
    e = e * r + 1.0f / 720.0f;
    e = e * r + 1.0f / 120.0f;
    e = e * r + 1.0f / 24.0f;
    e = e * r + 1.0f / 6.0f;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23; /* The low bits of shifted are those of n. */
    float power;
    memcpy(&power, &bits, sizeof power);
    return e * power;
}

static inline double exponential_double(double x)
{
    return exp(x);
}

static inline float root_float(float x)
{
    return sqrtf(x);
}

static inline double root_double(double x)
{
    return sqrt(x);
}

#define LARGEST_float FLT_MAX
#define LARGEST_double DBL_MAX

/* Where keys lie in a matrix of a row per query from the first on: key j of query i in column j − i + shift + i mod
   period. */
struct columns {
    long pitch, shift, period;
};

/* The keys in a query's reach. */
struct keys {
    long first, count;
};
