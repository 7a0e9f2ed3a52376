/* Drives kernels.c over many shapes and compares it with a scalar reference in double precision.
 *
 *     cc [sanitizers] kernels_driver.c -lm -lpthread && ./a.out values [CASES]
 *
 * values   every cell, forward and backward: random and awkward shapes, ids or vectors, with and without biases, in
 *          float32 and, where the build has it, bfloat16; no steps and no sequences; NaN and infinity; no memory
 * threads  several threads with rows of their own on shared weights, as charlm/training/gradient.py calls it
 * large    arrays of more than 2^31 numbers (of address space, not of memory)
 *
 * Every array has exactly its size, begins anywhere, lies between guards, and is full of NaN before it is written.
 * The reference takes the state before each step from the kernel's own output, so that each step is compared by
 * itself, tightly, in bfloat16 too.
 *
 * Exit status 0: all as expected; 1: a message says what is not; 77: the machine cannot do this.
 */

#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the memory that the kernels ask for: counted, filled with NaN, and refused on demand -------------------- */

static _Thread_local int blocks_held, allocations, refuse_at = -1;

static void *counted_alloc(size_t alignment, size_t bytes) {
    if (allocations++ == refuse_at) return NULL;
    void *block = aligned_alloc(alignment, bytes);
    if (block) memset(block, 0xff, bytes), blocks_held++;
    return block;
}

static void counted_free(void *block) {
    if (block) blocks_held--;
    free(block);
}

#define aligned_alloc counted_alloc
#define free counted_free
#include "../../charlm/kernels/kernels.c"
#undef aligned_alloc
#undef free

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#endif

/* ---- what is tested ------------------------------------------------------------------------------------------ */

typedef struct {
    const char *name;
    int gates, saved, has_c, has_dp;
    int (*forward)(FORWARD);
    int (*backward)(BACKWARD);
} Cell;

enum { RNN, LSTM, GRU_AFTER, GRU_BEFORE, CELLS };

static const Cell cells[CELLS] = {
    {"rnn", 1, 0, 0, 0, charlm_rnn_forward, charlm_rnn_backward},
    {"lstm", 4, 6, 1, 0, charlm_lstm_forward, charlm_lstm_backward},
    {"gru_after", 3, 4, 0, 1, charlm_gru_after_forward, charlm_gru_after_backward},
    {"gru_before", 3, 4, 0, 0, charlm_gru_before_forward, charlm_gru_before_backward},
};

typedef struct {
    int cell, T, B, H, V, ids, bias, bfloat16;
    float scale; /* Of x. */
} Case;

static Case now; /* For messages; set before any thread starts. */

static void fail(const char *format, ...) {
    fprintf(stderr, "%s: T %d, B %d, H %d, V %d, %s, %s, %s, x of size %g: ", cells[now.cell].name, now.T, now.B,
            now.H, now.V, now.ids ? "ids" : "vectors", now.bias ? "bias" : "no bias",
            now.bfloat16 ? "bfloat16" : "float32", (double)now.scale);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* ---- random numbers ------------------------------------------------------------------------------------------ */

static uint64_t random_state = 1;

static uint32_t random_bits(void) { /* splitmix64 */
    uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

static int random_below(int n) { return (int)(random_bits() % (uint32_t)n); }

static float random_number(float scale) { /* From -scale to scale. */
    return ((float)(random_bits() >> 8) / 8388608.0f - 1.0f) * scale;
}

/* ---- arrays between guards ----------------------------------------------------------------------------------- */

enum { GUARD = 128, MOST_ARRAYS = 32 };
#define GUARD_BYTE 0xa5

typedef struct {
    char *block, *first;
    size_t bytes;
    uint64_t sum; /* Of an input, which must not change. */
    int is_input;
} Array;

typedef struct {
    Array arrays[MOST_ARRAYS];
    int count;
} Arrays;

static uint64_t checksum(const Array *array) {
    uint64_t sum = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < array->bytes; i++) sum = (sum ^ (unsigned char)array->first[i]) * 1099511628211u;
    return sum;
}

/* An array of n items of a size, at an address that is a multiple of the size and of nothing more. */
static void *make_array(Arrays *all, Index n, size_t size) {
    if (all->count == MOST_ARRAYS) fail("too many arrays");
    Array *array = &all->arrays[all->count++];
    array->bytes = (size_t)n * size;
    array->block = malloc(array->bytes + 3 * GUARD);
    if (!array->block) fail("no memory for the test");
    array->first = array->block + GUARD + (size_t)random_below(64 / (int)size) * size;
    array->is_input = 0;
    memset(array->block, GUARD_BYTE, array->bytes + 3 * GUARD);
    memset(array->first, 0xff, array->bytes); /* NaN, as float32 and as bfloat16 */
#ifdef HAS_ASAN
    char *end = array->block + array->bytes + 3 * GUARD;
    ASAN_POISON_MEMORY_REGION(array->block, (size_t)(array->first - array->block));
    ASAN_POISON_MEMORY_REGION(array->first + array->bytes, (size_t)(end - array->first) - array->bytes);
#endif
    return array->first;
}

static float *make_output(Arrays *all, Index n) { return make_array(all, n, sizeof(float)); }

static float *make_input(Arrays *all, Index n, float scale) {
    float *array = make_array(all, n, sizeof(float));
    for (Index i = 0; i < n; i++) array[i] = random_number(scale);
    return array;
}

/* From here on the arrays are inputs, which no kernel may change. */
static void seal(Arrays *all) {
    for (Array *array = all->arrays; array < all->arrays + all->count; array++)
        array->is_input = 1, array->sum = checksum(array);
}

static void check_guards(Arrays *all) {
    for (int i = 0; i < all->count; i++) {
        Array *array = &all->arrays[i];
        if (array->is_input && checksum(array) != array->sum) fail("input %d was changed", i);
        char *end = array->block + array->bytes + 3 * GUARD;
#ifdef HAS_ASAN
        ASAN_UNPOISON_MEMORY_REGION(array->block, array->bytes + 3 * GUARD);
#endif
        for (char *p = array->block; p < end; p++) {
            if (p == array->first) p += array->bytes;
            if ((unsigned char)*p != GUARD_BYTE) fail("array %d was left at byte %td", i, p - array->first);
        }
    }
    if (blocks_held) fail("%d blocks of memory were not given back", blocks_held);
}

static void discard(Arrays *all) {
    check_guards(all);
    for (int i = 0; i < all->count; i++) free(all->arrays[i].block);
    all->count = 0;
}

/* ---- the reference ------------------------------------------------------------------------------------------- */

static float to_bfloat16(float a) { /* To the nearest, ties to even. */
    uint32_t bits;
    memcpy(&bits, &a, 4);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
    memcpy(&a, &bits, 4);
    return a;
}

static double factor(float a) { return now.bfloat16 ? to_bfloat16(a) : a; }

static double sigma(double a) { return 1 / (1 + exp(-a)); }

static void compare(float found, double expected, const char *what, int t, int b, int j) {
    if (!(fabs(found - expected) <= 2e-5 * (1 + fabs(expected))))
        fail("%s[%d, %d, %d] is %.9g instead of %.9g", what, t, b, j, (double)found, expected);
}

/* The arrays of one case; kernels.c says what they are. */
typedef struct {
    Arrays given, ahead, back; /* Inputs, and outputs of the forward and of the backward pass. */
    float *x, *weight, *bias, *s0, *c0, *grad, *grad_last;
    int64_t *ids;
    float *states, *saved, *last, *dx, *dp, *ds, *dc;
    uint32_t *pairs, *d_pairs;
} Data;

static Index pairs_of(Index width) { return (width + 1) / 2; }

static Data make_data(Case c) {
    const Cell *cell = &cells[c.cell];
    Index T = c.T, B = c.B, H = c.H, rows = cell->gates * H;
    Data d = {.given = {.count = 0}};
    d.x = make_input(&d.given, (c.ids ? c.V : T * B) * rows, c.scale);
    d.ids = c.ids ? make_array(&d.given, T * B, sizeof(int64_t)) : NULL;
    for (Index i = 0; c.ids && i < T * B; i++) d.ids[i] = random_below(c.V);
    d.weight = make_input(&d.given, rows * H, 1.5f / sqrtf((float)H));
    d.bias = c.bias ? make_input(&d.given, rows, 0.5f) : NULL;
    d.s0 = make_input(&d.given, B * H, 1);
    d.c0 = cell->has_c ? make_input(&d.given, B * H, 2) : NULL;
    d.grad = make_input(&d.given, T * B * H, 1);
    d.grad_last = cell->has_c ? make_input(&d.given, B * H, 1) : NULL;
    seal(&d.given);
    d.states = make_output(&d.ahead, T * B * H);
    d.saved = make_output(&d.ahead, T * B * cell->saved * H);
    d.last = cell->has_c ? make_output(&d.ahead, B * H) : NULL;
    d.pairs = c.bfloat16 ? make_array(&d.ahead, T * B * pairs_of(H), sizeof(uint32_t)) : NULL;
    d.dx = make_output(&d.back, T * B * rows);
    d.dp = cell->has_dp ? make_output(&d.back, T * B * rows) : d.dx;
    d.ds = make_output(&d.back, B * H);
    memset(d.ds, 0, (size_t)(B * H) * sizeof(float));
    d.dc = cell->has_c ? make_output(&d.back, B * H) : NULL;
    d.d_pairs = c.bfloat16 ? make_array(&d.back, T * B * pairs_of(rows), sizeof(uint32_t)) : NULL;
    return d;
}

static void discard_data(Data *d) { discard(&d->given), discard(&d->ahead), discard(&d->back); }

static int run_forward(Case c, Data *d) {
    return cells[c.cell].forward(c.T, c.B, c.H, c.bfloat16, 1, d->x, d->ids, d->weight, d->bias, d->s0, d->c0,
                                 d->states, d->saved, d->last, d->pairs);
}

static int run_backward(Case c, Data *d) {
    return cells[c.cell].backward(c.T, c.B, c.H, c.bfloat16, d->grad, d->grad_last, d->weight, d->s0, d->c0,
                                  d->states, d->saved, d->dx, d->dp, d->ds, d->dc, d->d_pairs);
}

/* Σ_k W[row, k] left[k] */
static double times_row(const Data *d, int row, const float *left, int H) {
    double sum = 0;
    for (int k = 0; k < H; k++) sum += factor(d->weight[(Index)row * H + k]) * factor(left[k]);
    return sum;
}

/* Σ_k W[k, column] left[k] over the rows from `first` on. */
static double times_column(const Data *d, int column, const float *left, int first, int rows, int H) {
    double sum = 0;
    for (int k = 0; k < rows; k++) sum += factor(d->weight[(Index)(first + k) * H + column]) * factor(left[k]);
    return sum;
}

/* The rounded left factors of a product, as they were left behind for the gradient of the weights. */
static void check_pairs(const uint32_t *pairs, const float *left, int width, int t, int b) {
    for (int k = 0; k < 2 * (int)pairs_of(width); k++) {
        uint32_t bits = (k % 2 ? pairs[k / 2] >> 16 : pairs[k / 2] & 0xffff) << 16;
        float found, expected = k < width ? to_bfloat16(left[k]) : 0;
        memcpy(&found, &bits, 4);
        if (!(fabsf(found - expected) <= 1e-37f)) /* The processor rounds the tiniest numbers to 0. */
            fail("pairs[%d, %d, %d] are %g instead of %g", t, b, k, (double)found, (double)expected);
    }
}

static void check_forward(Case c, const Data *d) {
    int G = cells[c.cell].gates, S = cells[c.cell].saved, B = c.B, H = c.H;
    for (int b = 0; b < B; b++)
        for (int t = 0; t < c.T; t++) {
            Index row = (Index)t * B + b;
            const float *x = d->x + (d->ids ? d->ids[row] : row) * G * H;
            const float *s = t ? d->states + (row - B) * H : d->s0 + (Index)b * H;
            const float *saved = d->saved + row * S * H;
            if (c.bfloat16 && c.cell != GRU_BEFORE) check_pairs(d->pairs + row * pairs_of(H), s, H, t, b);
            for (int j = 0; j < H; j++) {
                double a[4] = {0}, m[4] = {0}, s_t = 0;
                for (int g = 0; g < G; g++) {
                    const float *left = c.cell == GRU_BEFORE && g == 2 ? saved + 3 * H : s; /* q or s_{t-1} */
                    m[g] = times_row(d, g * H + j, left, H) + (d->bias ? d->bias[g * H + j] : 0);
                    a[g] = x[g * H + j] + m[g];
                }
                if (c.cell == RNN) s_t = tanh(a[0]);
                if (c.cell == LSTM) {
                    double before = t ? saved[(4 - (Index)B * S) * H + j] : d->c0[(Index)b * H + j];
                    double i = sigma(a[0]), f = sigma(a[1]), g = tanh(a[2]), o = sigma(a[3]);
                    double cell = f * before + i * g;
                    double expected[] = {i, f, g, o, cell, tanh(cell)};
                    for (int n = 0; n < 6; n++) compare(saved[n * H + j], expected[n], "saved", t, b, n * H + j);
                    if (t == c.T - 1) compare(d->last[(Index)b * H + j], cell, "last", t, b, j);
                    s_t = o * tanh(cell);
                }
                if (c.cell == GRU_AFTER || c.cell == GRU_BEFORE) {
                    double r = sigma(a[0]), z = sigma(a[1]);
                    double h = c.cell == GRU_BEFORE ? tanh(a[2]) : tanh(x[2 * H + j] + r * m[2]);
                    double expected[] = {r, z, h, c.cell == GRU_BEFORE ? r * s[j] : m[2]};
                    for (int n = 0; n < 4; n++) compare(saved[n * H + j], expected[n], "saved", t, b, n * H + j);
                    s_t = (1 - z) * h + z * s[j];
                }
                compare(d->states[row * H + j], s_t, "states", t, b, j);
            }
        }
}

static void check_backward(Case c, const Data *d) {
    int G = cells[c.cell].gates, S = cells[c.cell].saved, B = c.B, H = c.H;
    double *ds = calloc((size_t)H, sizeof *ds), *dc = calloc((size_t)H, sizeof *dc);
    double *part = calloc((size_t)H, sizeof *part); /* Of ds_{t-1}, what does not come through a product. */
    if (!ds || !dc || !part) fail("no memory for the test");
    for (int b = 0; b < B; b++) {
        for (int j = 0; j < H; j++) ds[j] = 0, dc[j] = d->grad_last ? d->grad_last[(Index)b * H + j] : 0;
        for (int t = c.T - 1; t >= 0; t--) {
            Index row = (Index)t * B + b;
            const float *saved = d->saved + row * S * H, *dx = d->dx + row * G * H, *dp = d->dp + row * G * H;
            const float *s = t ? d->states + (row - B) * H : d->s0 + (Index)b * H;
            if (c.bfloat16 && c.cell != GRU_BEFORE)
                check_pairs(d->d_pairs + row * pairs_of(G * H), dp, G * H, t, b);
            for (int j = 0; j < H; j++) {
                double d_s = ds[j] + d->grad[row * H + j], da[4] = {0}, dm[4];
                part[j] = 0;
                if (c.cell == RNN) da[0] = d_s * (1 - pow(d->states[row * H + j], 2));
                if (c.cell == LSTM) {
                    double before = t ? saved[(4 - (Index)B * S) * H + j] : d->c0[(Index)b * H + j];
                    double i = saved[j], f = saved[H + j], g = saved[2 * H + j], o = saved[3 * H + j];
                    double tanh_c = saved[5 * H + j], d_c = dc[j] + d_s * o * (1 - tanh_c * tanh_c);
                    da[0] = d_c * g * i * (1 - i);
                    da[1] = d_c * before * f * (1 - f);
                    da[2] = d_c * i * (1 - g * g);
                    da[3] = d_s * tanh_c * o * (1 - o);
                    dc[j] = d_c * f;
                }
                if (c.cell == GRU_AFTER || c.cell == GRU_BEFORE) {
                    double r = saved[j], z = saved[H + j], h = saved[2 * H + j], m = saved[3 * H + j];
                    da[1] = d_s * (s[j] - h) * z * (1 - z);
                    da[2] = d_s * (1 - z) * (1 - h * h);
                    part[j] = d_s * z;
                    if (c.cell == GRU_AFTER) da[0] = da[2] * m * r * (1 - r);
                    if (c.cell == GRU_BEFORE) {
                        double dq = times_column(d, j, dx + 2 * H, 2 * H, H, H);
                        da[0] = dq * s[j] * r * (1 - r);
                        part[j] += dq * r;
                    }
                }
                for (int g = 0; g < G; g++) dm[g] = da[g];
                if (c.cell == GRU_AFTER) dm[2] = da[2] * saved[j];
                for (int g = 0; g < G; g++) compare(dx[g * H + j], da[g], "dx", t, b, g * H + j);
                for (int g = 0; g < G; g++) compare(dp[g * H + j], dm[g], "dp", t, b, g * H + j);
            }
            int through = c.cell == GRU_BEFORE ? 2 * H : G * H; /* Rows of the weight that multiply s_{t-1}. */
            for (int j = 0; j < H; j++) ds[j] = part[j] + times_column(d, j, dp, 0, through, H);
        }
        for (int j = 0; j < H; j++) {
            compare(d->ds[(Index)b * H + j], ds[j], "ds", 0, b, j);
            if (d->dc) compare(d->dc[(Index)b * H + j], dc[j], "dc", 0, b, j);
        }
    }
    free(ds), free(dc), free(part);
}

/* ---- values -------------------------------------------------------------------------------------------------- */

static void check_equal(const float *found, const float *expected, Index n, const char *what) {
    for (Index i = 0; i < n; i++)
        if (memcmp(found + i, expected + i, sizeof *found))
            fail("%s: number %td is %.9g, not %.9g", what, i, (double)found[i], (double)expected[i]);
}

static void check_case(Case c) {
    now = c;
    const Cell *cell = &cells[c.cell];
    Index T = c.T, B = c.B, H = c.H;
    Data d = make_data(c);
    if (!run_forward(c, &d)) fail("the forward pass failed");
    check_forward(c, &d);

    /* Without a gradient to come, the same numbers from memory for a single step. */
    Arrays others = {.count = 0};
    float *states = make_output(&others, T * B * H), *saved = make_output(&others, B * cell->saved * H);
    float *last = cell->has_c ? make_output(&others, B * H) : NULL;
    if (!cell->forward(c.T, c.B, c.H, c.bfloat16, 0, d.x, d.ids, d.weight, d.bias, d.s0, d.c0, states, saved, last,
                       d.pairs))
        fail("the forward pass that keeps nothing failed");
    check_equal(states, d.states, T * B * H, "states of the pass that keeps nothing");
    if (last) check_equal(last, d.last, B * H, "last of the pass that keeps nothing");
    discard(&others);

    seal(&d.ahead); /* The backward pass only reads it. */
    if (!run_backward(c, &d)) fail("the backward pass failed");
    check_backward(c, &d);
    discard_data(&d);
}

/* No steps leave the state as it is; no sequences are no mistake. */
static void check_empty(int cell, int bfloat16) {
    for (int empty = 0; empty < 2; empty++) {
        Case c = now = (Case){cell, empty ? 2 : 0, empty ? 0 : 3, 5, 2, 1, 1, bfloat16, 1};
        Data d = make_data(c);
        if (!run_forward(c, &d) || !run_backward(c, &d)) fail("failed");
        if (d.last) check_equal(d.last, d.c0, c.B * c.H, "last");
        if (d.dc) check_equal(d.dc, d.grad_last, c.B * c.H, "dc");
        for (int i = 0; i < c.B * c.H; i++)
            if (d.ds[i] != 0) fail("ds[%d] is %g", i, (double)d.ds[i]);
        discard_data(&d);
    }
}

/* A NaN of any kind stays one in its own sequence and reaches no other; infinities saturate the gates. */
static void check_special_numbers(int cell) {
    static const uint32_t specials[] = {0x7fc00000, 0xffc00000, 0x7f800001, 0x7fffffff,
                                        0xff8001ff, 0x7f800000, 0xff800000}; /* The last two are infinities. */
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
        Case c = now = (Case){cell, 2, 3, 21, 0, 0, 1, 0, 1};
        Data d = make_data(c);
        Arrays others = {.count = 0};
        Index size = (Index)c.T * c.B * cells[cell].gates * c.H;
        float *x = make_input(&others, size, 1), special;
        memcpy(&special, &specials[i], sizeof special);
        for (int j = 0; j < cells[cell].gates * c.H; j++) x[j] = special; /* Sequence 0 at its first step. */
        d.x = x;
        if (!run_forward(c, &d)) fail("failed");
        for (Index j = 0; j < (Index)c.T * c.B * c.H; j++) {
            int special_row = j / c.H % c.B == 0;
            if (!isnan(d.states[j]) != !(isnan(special) && special_row))
                fail("states[%td] are %g after %08" PRIx32, j, (double)d.states[j], specials[i]);
        }
        discard(&others);
        discard_data(&d);
    }
}

/* Whichever block of memory is refused, the call says so and gives the others back. */
static void check_no_memory(int cell, int bfloat16) {
    Case c = now = (Case){cell, 2, 3, 7, 2, 1, 1, bfloat16, 1};
    for (int backward = 0; backward < 2; backward++)
        for (int n = 0, ok = 0; !ok; n++) {
            Data d = make_data(c);
            if (backward && !run_forward(c, &d)) fail("failed");
            allocations = 0, refuse_at = n;
            ok = backward ? run_backward(c, &d) : run_forward(c, &d);
            refuse_at = -1;
            if (ok != (n >= allocations)) fail("returned %d, block %d of %d refused", ok, n, allocations);
            if (ok && n == 0) fail("asked for no memory");
            discard_data(&d);
        }
}

static int awkward(int i) {
    static const int sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65};
    return sizes[i % (int)(sizeof sizes / sizeof *sizes)];
}

static void check_values(int cases) {
    for (int cell = 0; cell < CELLS; cell++) {
        for (int bfloat16 = 0; bfloat16 <= charlm_bfloat16(); bfloat16++) {
            for (int i = 0; i < cases; i++) {
                int odd = i % 2, sizes = random_below(1000);
                int B = odd ? 1 + sizes % 19 : awkward(sizes % 9), H = odd ? 1 + random_below(70) : awkward(i / 2);
                float scale = i % 8 == 7 ? 40.0f : 1.0f;
                check_case((Case){cell, 1 + random_below(5), B, H, 1 + random_below(7), random_below(2),
                                  random_below(2), bfloat16, scale});
            }
            check_empty(cell, bfloat16);
            check_no_memory(cell, bfloat16);
        }
        check_special_numbers(cell);
        if (!charlm_bfloat16()) {
            Case c = now = (Case){cell, 2, 3, 7, 2, 1, 1, 1, 1};
            Data d = make_data(c);
            if (run_forward(c, &d) || run_backward(c, &d)) fail("bfloat16 was promised by a build without it");
            discard_data(&d);
        }
    }
}

/* ---- threads ------------------------------------------------------------------------------------------------- */

enum { THREADS = 4 };

typedef struct {
    Case c;
    Data d;
    pthread_barrier_t *start;
    int ok;
} Part;

static void *run_part(void *argument) {
    Part *part = argument;
    pthread_barrier_wait(part->start);
    part->ok = run_forward(part->c, &part->d) && run_backward(part->c, &part->d) && !blocks_held;
    return NULL;
}

/* Copies the rows from `first` on, of (T, B, width) into (T, b, width). */
static void copy_rows(const void *from, void *to, int T, int B, int b, int first, size_t row_bytes) {
    for (Index t = 0; t < T; t++)
        memcpy((char *)to + t * b * (Index)row_bytes, (const char *)from + (t * B + first) * (Index)row_bytes,
               (size_t)b * row_bytes);
}

/* Threads with rows of their own make the numbers of one call with all rows, bit by bit. */
static void check_threads(int cell, int ids, int bfloat16) {
    Case whole = now = (Case){cell, 6, 4 * THREADS + 3, 37, 5, ids, 1, bfloat16, 1};
    const Cell *found = &cells[cell];
    Data all = make_data(whole);
    if (!run_forward(whole, &all) || !run_backward(whole, &all)) fail("failed");
    pthread_barrier_t start;
    pthread_t threads[THREADS];
    Part parts[THREADS];
    pthread_barrier_init(&start, NULL, THREADS);
    size_t row = (size_t)whole.H * sizeof(float), x_row = row * (size_t)found->gates;
    for (int i = 0; i < THREADS; i++) {
        int T = whole.T, B = whole.B, first = i * B / THREADS, b = (i + 1) * B / THREADS - first;
        Part *part = &parts[i];
        *part = (Part){.c = whole, .start = &start};
        part->c.B = b;
        part->d = make_data(part->c);
        if (ids)
            copy_rows(all.ids, part->d.ids, T, B, b, first, sizeof(int64_t));
        else
            copy_rows(all.x, part->d.x, T, B, b, first, x_row);
        copy_rows(all.s0, part->d.s0, 1, B, b, first, row);
        copy_rows(all.grad, part->d.grad, T, B, b, first, row);
        if (found->has_c) copy_rows(all.c0, part->d.c0, 1, B, b, first, row);
        if (found->has_c) copy_rows(all.grad_last, part->d.grad_last, 1, B, b, first, row);
        seal(&part->d.given);
        part->d.weight = all.weight, part->d.bias = all.bias; /* Shared, and with ids the table too. */
        if (ids) part->d.x = all.x;
    }
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, run_part, &parts[i])) fail("no thread");
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        Part *part = &parts[i];
        int T = whole.T, B = whole.B, first = i * B / THREADS, b = part->c.B;
        if (!part->ok) fail("failed in thread %d", i);
        for (int t = 0; t < T; t++) {
            Index from = (Index)t * B + first, to = (Index)t * b, width = found->gates * (Index)whole.H;
            check_equal(part->d.states + to * whole.H, all.states + from * whole.H, (Index)b * whole.H, "states");
            check_equal(part->d.dx + to * width, all.dx + from * width, b * width, "dx");
            check_equal(part->d.dp + to * width, all.dp + from * width, b * width, "dp");
        }
        check_equal(part->d.ds, all.ds + (Index)first * whole.H, (Index)b * whole.H, "ds");
        discard_data(&part->d);
    }
    pthread_barrier_destroy(&start);
    discard_data(&all);
}

/* ---- large --------------------------------------------------------------------------------------------------- */

/* An array whose pages all show the same few megabytes, behind as much room that must not be touched. */
static void *make_mirrored(size_t bytes) {
    const size_t window = (size_t)1 << 24;
    size_t size = (bytes + window - 1) / window * window;
    int file = memfd_create("mirrored", 0);
    char *room = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (file < 0 || ftruncate(file, (off_t)window) || room == MAP_FAILED) return NULL;
    for (char *at = room + size; at < room + 2 * size; at += window)
        if (mmap(at, window, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) return NULL;
    close(file);
    return room + size;
}

/* The simple cell, whose arrays reach 2^31 numbers soonest. Its results mean nothing, as all pages are the same.
 * What counts is that no index overflows, and that nothing outside the arrays is touched. */
static int check_large(void) {
    Case c = now = (Case){RNN, 1, (1 << 26) + 1, 32, 1, 1, 0, 0, 1};
    float *rows = make_mirrored((size_t)c.B * (size_t)c.H * sizeof(float));
    int64_t *ids = make_mirrored((size_t)c.B * sizeof(int64_t)); /* All 0. */
    if (!rows || !ids) {
        fputs("not enough address space\n", stderr);
        return 77;
    }
    Arrays all = {.count = 0};
    float *x = make_input(&all, c.H, 1), *weight = make_input(&all, (Index)c.H * c.H, 0.1f);
    if (!charlm_rnn_forward(c.T, c.B, c.H, 0, 1, x, ids, weight, NULL, rows, NULL, rows, NULL, NULL, NULL) ||
        !charlm_rnn_backward(c.T, c.B, c.H, 0, rows, NULL, weight, rows, NULL, rows, NULL, rows, NULL, rows, NULL,
                             NULL))
        fail("failed");
    discard(&all);
    return 0;
}

int main(int count, char **arguments) {
    const char *mode = count > 1 ? arguments[1] : "";
    int cases = count > 2 ? atoi(arguments[2]) : 40;
    if (!strcmp(mode, "values")) {
        check_values(cases);
    } else if (!strcmp(mode, "threads")) {
        for (int i = 0; i < 2 * CELLS; i++)
            for (int bfloat16 = 0; bfloat16 <= charlm_bfloat16(); bfloat16++) check_threads(i / 2, i % 2, bfloat16);
    } else if (!strcmp(mode, "large")) {
        return check_large();
    } else {
        fputs("usage: kernels_driver values [CASES] | threads | large\n", stderr);
        return 2;
    }
    printf("%s: all as expected, %d lanes, bfloat16 %s\n", mode, LANES, charlm_bfloat16() ? "yes" : "no");
    return 0;
}
