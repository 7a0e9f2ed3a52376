/* The recurrent layers as machine code: all steps in one call, forward and backward, by the equations of rnn.py,
 * lstm.py and gru.py.
 *
 * compiled.py compiles this file for the machine it runs on and calls it; tests/kernels/kernels_driver.c tests it.
 * Three things make it fast for the few rows of a batch that a thread has. The recurrent weights are packed once a
 * window, into panels as wide as two vectors. A tile of a few rows by one panel stays in registers while it is
 * summed. The gates follow their product while it is in the cache, without a call for each operation.
 *
 * T steps, B sequences, H hidden units, G gates, V symbols. Every array is contiguous and, unless said, float32:
 *
 *   x            (T, B, G·H), U x_t + bias_ih; with ids a table (V, G·H), of which ids name a row for each (t, b)
 *   ids          (T, B), int64, or NULL; the caller has checked that each is the index of a row
 *   weight       (G·H, H);  bias (G·H), bias_hh, or NULL
 *   s0, c0       (B, H), the state before the first step; c0 and all other c for the LSTM only
 *   states       (T, B, H), s_1 … s_T;  last (B, H), c_T
 *   saved        (T, B, n·H), what the backward pass needs besides the states; n stands above each cell
 *   grad         (T, B, H), the gradient of the states;  grad_last (B, H), that of c_T
 *   dx           (T, B, G·H), the gradient of x;  dp (T, B, G·H), that of W s_{t-1} + bias_hh, where it is another
 *   ds, dc       (B, H), the gradients of s0 and c0; ds must be zero at the call
 *   pairs        (T, B, K) bfloat16, K rounded up to an even number: see below; NULL for products in float32
 *
 * With `keep` 0 no backward pass will follow, and `saved` is (1, B, n·H): each step overwrites what the last saved.
 *
 * With `bfloat16` 1 the factors of the recurrent products are rounded to bfloat16, and nothing else; sums stay in
 * float32. The rounded left factors are left in `pairs`, where the gradient of the weights finds them: K is H in
 * the forward pass and G·H in the backward pass. (The GRU with its reset gate before the product only takes the
 * first step of it, for scratch.) charlm_bfloat16() says whether this build can do that.
 *
 * Each function returns 1, or 0 where there was no memory or no such product; its results are then undefined.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A tile has ROWS rows and two vectors of LANES columns. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define ROWS 8 /* Their sums fill half of the 32 registers, enough to hide the delay of each addition. */
#elif defined(__AVX__)
#define LANES 8
#define ROWS 4
#else
#define LANES 4
#define ROWS 4
#endif
#define PANEL (2 * LANES)

#if defined(__AVX512BF16__)
#define HAS_BFLOAT16 1
#else
#define HAS_BFLOAT16 0
#endif

int charlm_bfloat16(void) { return HAS_BFLOAT16; }

typedef ptrdiff_t Index; /* Of numbers in an array: B·H and its multiples may exceed an int. */

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float UnalignedVec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(4 * LANES))); /* Of a comparison: -1 where it holds, else 0. */
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));

/* ---- vectors ------------------------------------------------------------------------------------------------- */

static inline Vec splat(float a) { return a - (Vec){}; }

/* Loads the first n numbers at p, at most a vector of them; the others are 0. */
static inline Vec load(const float *p, Index n) {
    if (n >= LANES) return *(const UnalignedVec *)p;
    Vec v = {};
    memcpy(&v, p, 4 * (size_t)n);
    return v;
}

/* Stores the first n numbers of a vector, and touches nothing behind them. */
static inline void store(float *p, Vec v, Index n) {
    if (n >= LANES)
        *(UnalignedVec *)p = v;
    else
        memcpy(p, &v, 4 * (size_t)n);
}

static inline Vec choose(Mask mask, Vec a, Vec b) { return (Vec)((mask & (Mask)a) | (~mask & (Mask)b)); }

/* e^x = 2^n e^r, where n is the integer nearest to x / ln 2, so that |r| < 0.35. A polynomial gives e^r to the last
 * bit or two. Beyond ±87 the result is e^±87. NaN stays NaN.
 *
 * Adding 1.5 · 2^23 leaves n in the low bits of the sum; the exponent's bias of 127 on top makes them those of the
 * exponent of 2^n. */
static inline Vec exponential(Vec x) {
    const float shift = 12582912.0f + 127.0f;
    x = choose(x > 87.0f, splat(87.0f), choose(x < -87.0f, splat(-87.0f), x));
    Vec shifted = x * 1.44269504f + shift;
    Vec n = shifted - shift;
    Vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Vec p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (Vec)((Bits)shifted << 23); /* p · 2^n */
}

static inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

/* tanh x = 1 - 2 / (e^2x + 1); near 0, where that difference has no digits left, its series. */
static inline Vec hyperbolic_tangent(Vec x) {
    Vec q = x * x;
    Vec series = x + x * q * (-0.333333333f + q * (0.133333333f + q * (-0.0539682540f + q * 0.0218694885f)));
    return choose(q < 0.04f, series, 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f));
}

/* ---- the recurrent product ----------------------------------------------------------------------------------- */

/* The right factor, (K, N), of a product (B, K) · (K, N). */
typedef struct {
    Index columns, depth, pairs; /* N; K; K / 2, rounded up. */
    int bfloat16;
    float *panels; /* For each PANEL columns: K rows of PANEL numbers, or in bfloat16 K / 2 rows of PANEL pairs. */
} Product;

static void *allocate(Index bytes) { return aligned_alloc(64, bytes > 0 ? ((size_t)bytes + 63) / 64 * 64 : 64); }

#if HAS_BFLOAT16
/* Rounds n numbers to bfloat16, two to a word; an odd one is paired with a zero. */
static inline void round_to_pairs(const float *from, Index n, uint32_t *to) {
    Index i = 0;
    for (; i + 32 <= n; i += 32)
        _mm512_storeu_si512(to + i / 2, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + i + 16),
                                                                     _mm512_loadu_ps(from + i)));
    if (i < n) {
        float rest[32] = {0};
        uint32_t rounded[16];
        memcpy(rest, from + i, 4 * (size_t)(n - i));
        _mm512_storeu_si512(rounded, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(rest + 16),
                                                                  _mm512_loadu_ps(rest)));
        memcpy(to + i / 2, rounded, 4 * (size_t)((n - i + 1) / 2));
    }
}

/* Rounds a vector to bfloat16, each number in the low half of its word. */
static inline __m512i round_vector(Vec v) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v)); }
#endif

static inline Index packed_rows(const Product *product) {
    return product->bfloat16 ? product->pairs : product->depth;
}

/* Makes room for a factor that is to be packed; returns 0 where there is none. */
static int make_room(Product *product, Index depth, Index columns, int bfloat16) {
    Index panels = (columns + PANEL - 1) / PANEL;
    *product = (Product){columns, depth, (depth + 1) / 2, bfloat16, NULL};
    if (bfloat16 && !HAS_BFLOAT16) return 0;
    product->panels = allocate(panels * packed_rows(product) * PANEL * 4);
    return product->panels != NULL;
}

/* Returns the panel of the columns from `first` on, and how many of them there are; the rest of it is zero. */
static float *begin_panel(Product *product, Index first, Index *width) {
    Index rows = packed_rows(product);
    float *panel = product->panels + first * rows;
    *width = product->columns - first < PANEL ? product->columns - first : PANEL;
    if (*width < PANEL) memset(panel, 0, 4 * (size_t)(rows * PANEL));
    return panel;
}

/* Packs the right factor where it lies in memory as (K, N): some rows of a weight, for the backward pass. */
static int pack(Product *product, const float *right, Index depth, Index columns, int bfloat16) {
    if (!make_room(product, depth, columns, bfloat16)) return 0;
    for (Index first = 0; first < columns; first += PANEL) {
        Index width;
        float *panel = begin_panel(product, first, &width);
        for (Index k = 0; k < packed_rows(product); k++) {
            const float *from = right + (bfloat16 ? 2 * k : k) * columns + first;
            for (Index n = 0; n < width; n += LANES) {
                Vec v = load(from + n, width - n);
#if HAS_BFLOAT16
                if (bfloat16) {
                    Vec second = 2 * k + 1 < depth ? load(from + columns + n, width - n) : splat(0);
                    v = (Vec)_mm512_or_si512(round_vector(v), _mm512_slli_epi32(round_vector(second), 16));
                }
#endif
                store(panel + k * PANEL + n, v, width - n);
            }
        }
    }
    return 1;
}

/* Packs the right factor where it lies in memory as (N, K): some rows of a weight, for the forward pass. */
static int pack_transposed(Product *product, const float *right, Index depth, Index columns, int bfloat16) {
    if (!make_room(product, depth, columns, bfloat16)) return 0;
    uint32_t *rounded = bfloat16 ? allocate(product->pairs * 4) : NULL; /* One column of the factor. */
    if (bfloat16 && !rounded) return 0;
    for (Index first = 0; first < columns; first += PANEL) {
        Index width;
        float *panel = begin_panel(product, first, &width);
        for (Index n = 0; n < width; n++) {
            const float *column = right + (first + n) * depth;
            const void *words = column; /* Of four bytes: numbers or pairs. */
#if HAS_BFLOAT16
            if (bfloat16) round_to_pairs(column, depth, rounded), words = rounded;
#endif
            for (Index k = 0; k < packed_rows(product); k++)
                memcpy(panel + k * PANEL + n, (const char *)words + 4 * k, 4);
        }
    }
    free(rounded);
    return 1;
}

/* Adds to the sums of one tile. `rows` is a constant wherever this is called, so that the sums are registers. */
static inline __attribute__((always_inline)) void add_tile(const int rows, const Product *product,
                                                           const float *left, const uint32_t *pairs,
                                                           const float *panel, Vec sums[][2]) {
    Vec acc[ROWS][2];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) acc[i][0] = sums[i][0], acc[i][1] = sums[i][1];
#if HAS_BFLOAT16
    for (Index k = 0; product->bfloat16 && k < product->pairs; k++) {
        __m512bh b0 = (__m512bh)_mm512_load_si512(panel + k * PANEL);
        __m512bh b1 = (__m512bh)_mm512_load_si512(panel + k * PANEL + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            __m512bh a = (__m512bh)_mm512_set1_epi32((int)pairs[i * product->pairs + k]);
            acc[i][0] = (Vec)_mm512_dpbf16_ps((__m512)acc[i][0], a, b0);
            acc[i][1] = (Vec)_mm512_dpbf16_ps((__m512)acc[i][1], a, b1);
        }
    }
#endif
    (void)pairs;
    for (Index k = 0; !product->bfloat16 && k < product->depth; k++) {
        Vec b0 = *(const Vec *)(panel + k * PANEL), b1 = *(const Vec *)(panel + k * PANEL + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            Vec a = splat(left[i * product->depth + k]);
            acc[i][0] += a * b0;
            acc[i][1] += a * b1;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) sums[i][0] = acc[i][0], sums[i][1] = acc[i][1];
}

/* B rows that are added to a product. */
typedef struct {
    const float *first; /* NULL: nothing is added. */
    Index stride;
    const int64_t *ids; /* Row b begins ids[b] · stride behind the first; without ids b · stride. */
} Rows;

static const Rows NO_ROWS = {NULL, 0, NULL};

static inline const float *row_of(Rows rows, Index b) {
    return rows.first + (rows.ids ? (Index)rows.ids[b] : b) * rows.stride;
}

/* out = add + bias + left · right, where left is (B, K). In bfloat16 left is rounded to `pairs`, (B, K / 2), first.
 * `add` may be `out` itself: each number is read before it is written. */
static void multiply(const Product *product, Index B, const float *left, Rows add, const float *bias, float *out,
                     Index out_stride, uint32_t *pairs) {
    Index columns = product->columns, depth = product->depth;
#if HAS_BFLOAT16
    for (Index b = 0; product->bfloat16 && b < B; b++)
        round_to_pairs(left + b * depth, depth, pairs + b * product->pairs);
#endif
    for (Index n = 0, p = 0; n < columns; n += PANEL, p++) {
        const float *panel = product->panels + p * (product->bfloat16 ? product->pairs : depth) * PANEL;
        Index first = columns - n, second = columns - n - LANES; /* What is left for either vector of columns. */
        Vec bias0 = bias ? load(bias + n, first) : splat(0), bias1 = splat(0);
        if (bias && second > 0) bias1 = load(bias + n + LANES, second);
        for (Index b = 0; b < B; b += ROWS) {
            int rows = B - b < ROWS ? (int)(B - b) : ROWS;
            const float *left_b = left + b * depth;
            const uint32_t *pairs_b = product->bfloat16 ? pairs + b * product->pairs : NULL;
            Vec sums[ROWS][2];
            for (int i = 0; i < rows; i++) {
                sums[i][0] = bias0, sums[i][1] = bias1;
                if (add.first) {
                    const float *more = row_of(add, b + i) + n;
                    sums[i][0] += load(more, first);
                    if (second > 0) sums[i][1] += load(more + LANES, second);
                }
            }
            switch (rows) {
            case 1: add_tile(1, product, left_b, pairs_b, panel, sums); break;
            case 2: add_tile(2, product, left_b, pairs_b, panel, sums); break;
            case 3: add_tile(3, product, left_b, pairs_b, panel, sums); break;
            case 4: add_tile(4, product, left_b, pairs_b, panel, sums); break;
#if ROWS == 8
            case 5: add_tile(5, product, left_b, pairs_b, panel, sums); break;
            case 6: add_tile(6, product, left_b, pairs_b, panel, sums); break;
            case 7: add_tile(7, product, left_b, pairs_b, panel, sums); break;
            case 8: add_tile(8, product, left_b, pairs_b, panel, sums); break;
#endif
            }
            for (int i = 0; i < rows; i++) {
                float *to = out + (b + i) * out_stride + n;
                store(to, sums[i][0], first);
                if (second > 0) store(to + LANES, sums[i][1], second);
            }
        }
    }
}

/* ---- the cells ----------------------------------------------------------------------------------------------- */

/* The first number j of each vector of a row of H, and how many numbers n are left from there. */
#define EACH_VECTOR(j, n) for (Index j = 0, n = H; j < H; j += LANES, n -= LANES)

/* The rows of x at step t, (B, width), from a column on. */
static inline Rows x_at(const float *x, const int64_t *ids, Index t, Index B, Index width, Index column) {
    return ids ? (Rows){x + column, width, ids + t * B} : (Rows){x + t * B * width + column, width, NULL};
}

static inline uint32_t *pairs_at(uint32_t *pairs, const Product *product, Index t, Index B) {
    return pairs ? pairs + t * B * product->pairs : NULL;
}

#define FORWARD                                                                                                    \
    int steps, int sequences, int hidden, int bfloat16, int keep, const float *x, const int64_t *ids,              \
        const float *weight, const float *bias, const float *s0, const float *c0, float *states, float *saved,     \
        float *last, uint32_t *pairs
#define BACKWARD                                                                                                   \
    int steps, int sequences, int hidden, int bfloat16, const float *grad, const float *grad_last,                 \
        const float *weight, const float *s0, const float *c0, const float *states, const float *saved,            \
        float *dx, float *dp, float *ds, float *dc, uint32_t *pairs
#define SIZES const Index T = steps, B = sequences, H = hidden

/* ---- the simple cell saves nothing but its states; dp is dx -------------------------------------------------- */

int charlm_rnn_forward(FORWARD) {
    (void)keep, (void)c0, (void)saved, (void)last;
    SIZES;
    Product W;
    int ok = pack_transposed(&W, weight, H, H, bfloat16);
    for (Index t = 0; ok && t < T; t++) {
        float *s_t = states + t * B * H;
        const float *before = t ? s_t - B * H : s0;
        multiply(&W, B, before, x_at(x, ids, t, B, H, 0), bias, s_t, H, pairs_at(pairs, &W, t, B));
        for (Index b = 0; b < B; b++)
            EACH_VECTOR(j, n) store(s_t + b * H + j, hyperbolic_tangent(load(s_t + b * H + j, n)), n);
    }
    free(W.panels);
    return ok;
}

int charlm_rnn_backward(BACKWARD) {
    (void)grad_last, (void)s0, (void)c0, (void)saved, (void)dp, (void)dc;
    SIZES;
    Product W;
    int ok = pack(&W, weight, H, H, bfloat16);
    for (Index t = T - 1; ok && t >= 0; t--) {
        for (Index b = 0; b < B; b++) {
            Index row = (t * B + b) * H;
            EACH_VECTOR(j, n) {
                Vec s = load(states + row + j, n), d = load(ds + b * H + j, n) + load(grad + row + j, n);
                store(dx + row + j, d * (1.0f - s * s), n);
            }
        }
        multiply(&W, B, dx + t * B * H, NO_ROWS, NULL, ds, H, pairs_at(pairs, &W, t, B));
    }
    free(W.panels);
    return ok;
}

/* ---- the LSTM saves i, f, g, o, c_t and tanh c_t, (T, B, 6H); dp is dx --------------------------------------- */

int charlm_lstm_forward(FORWARD) {
    SIZES;
    Product W;
    int ok = pack_transposed(&W, weight, H, 4 * H, bfloat16);
    Index step = keep ? B * 6 * H : 0;
    if (T == 0) memcpy(last, c0, 4 * (size_t)(B * H));
    for (Index t = 0; ok && t < T; t++) {
        float *s_t = states + t * B * H, *saved_t = saved + t * step;
        const float *before = t ? s_t - B * H : s0;
        multiply(&W, B, before, x_at(x, ids, t, B, 4 * H, 0), bias, saved_t, 6 * H, pairs_at(pairs, &W, t, B));
        for (Index b = 0; b < B; b++) {
            float *gates = saved_t + b * 6 * H;
            const float *c_before = t ? gates - step + 4 * H : c0 + b * H;
            EACH_VECTOR(j, n) {
                Vec i = sigmoid(load(gates + j, n)), f = sigmoid(load(gates + H + j, n));
                Vec g = hyperbolic_tangent(load(gates + 2 * H + j, n)), o = sigmoid(load(gates + 3 * H + j, n));
                Vec c = f * load(c_before + j, n) + i * g, tanh_c = hyperbolic_tangent(c);
                store(gates + j, i, n);
                store(gates + H + j, f, n);
                store(gates + 2 * H + j, g, n);
                store(gates + 3 * H + j, o, n);
                store(gates + 4 * H + j, c, n);
                store(gates + 5 * H + j, tanh_c, n);
                store(s_t + b * H + j, o * tanh_c, n);
                if (t == T - 1) store(last + b * H + j, c, n);
            }
        }
    }
    free(W.panels);
    return ok;
}

int charlm_lstm_backward(BACKWARD) {
    (void)s0, (void)states, (void)dp;
    SIZES;
    Product W;
    int ok = pack(&W, weight, 4 * H, H, bfloat16);
    memcpy(dc, grad_last, 4 * (size_t)(B * H));
    for (Index t = T - 1; ok && t >= 0; t--) {
        float *dx_t = dx + t * B * 4 * H;
        for (Index b = 0; b < B; b++) {
            const float *gates = saved + (t * B + b) * 6 * H, *grad_b = grad + (t * B + b) * H;
            const float *c_before = t ? gates - B * 6 * H + 4 * H : c0 + b * H;
            float *da = dx_t + b * 4 * H, *ds_b = ds + b * H, *dc_b = dc + b * H;
            EACH_VECTOR(j, n) {
                Vec i = load(gates + j, n), f = load(gates + H + j, n), g = load(gates + 2 * H + j, n);
                Vec o = load(gates + 3 * H + j, n), tanh_c = load(gates + 5 * H + j, n);
                Vec d = load(ds_b + j, n) + load(grad_b + j, n);
                Vec d_c = load(dc_b + j, n) + d * o * (1.0f - tanh_c * tanh_c);
                store(da + j, d_c * g * i * (1.0f - i), n);
                store(da + H + j, d_c * load(c_before + j, n) * f * (1.0f - f), n);
                store(da + 2 * H + j, d_c * i * (1.0f - g * g), n);
                store(da + 3 * H + j, d * tanh_c * o * (1.0f - o), n);
                store(dc_b + j, d_c * f, n);
            }
        }
        multiply(&W, B, dx_t, NO_ROWS, NULL, ds, H, pairs_at(pairs, &W, t, B));
    }
    free(W.panels);
    return ok;
}

/* ---- the GRU with its reset gate after the product saves r, z, h and m = W_h s_{t-1} + b'_h, (T, B, 4H) ------ */

int charlm_gru_after_forward(FORWARD) {
    (void)c0, (void)last;
    SIZES;
    Product W;
    int ok = pack_transposed(&W, weight, H, 3 * H, bfloat16);
    float *a = allocate(B * 3 * H * 4);
    Index step = keep ? B * 4 * H : 0;
    ok = ok && a;
    for (Index t = 0; ok && t < T; t++) {
        float *s_t = states + t * B * H;
        const float *before = t ? s_t - B * H : s0;
        multiply(&W, B, before, NO_ROWS, bias, a, 3 * H, pairs_at(pairs, &W, t, B));
        Rows x_t = x_at(x, ids, t, B, 3 * H, 0);
        for (Index b = 0; b < B; b++) {
            const float *x_b = row_of(x_t, b), *a_b = a + b * 3 * H;
            float *saved_b = saved + t * step + b * 4 * H;
            EACH_VECTOR(j, n) {
                Vec r = sigmoid(load(x_b + j, n) + load(a_b + j, n));
                Vec z = sigmoid(load(x_b + H + j, n) + load(a_b + H + j, n));
                Vec m = load(a_b + 2 * H + j, n), h = hyperbolic_tangent(load(x_b + 2 * H + j, n) + r * m);
                store(saved_b + j, r, n);
                store(saved_b + H + j, z, n);
                store(saved_b + 2 * H + j, h, n);
                store(saved_b + 3 * H + j, m, n);
                store(s_t + b * H + j, h + z * (load(before + b * H + j, n) - h), n);
            }
        }
    }
    free(a);
    free(W.panels);
    return ok;
}

int charlm_gru_after_backward(BACKWARD) {
    (void)grad_last, (void)c0, (void)dc;
    SIZES;
    Product W;
    int ok = pack(&W, weight, 3 * H, H, bfloat16);
    float *ds_z = allocate(B * H * 4); /* ds_t ∘ z */
    ok = ok && ds_z;
    for (Index t = T - 1; ok && t >= 0; t--) {
        for (Index b = 0; b < B; b++) {
            Index row = t * B + b;
            const float *saved_b = saved + row * 4 * H;
            const float *before = t ? states + (row - B) * H : s0 + b * H;
            float *dx_b = dx + row * 3 * H, *dp_b = dp + row * 3 * H;
            EACH_VECTOR(j, n) {
                Vec r = load(saved_b + j, n), z = load(saved_b + H + j, n), h = load(saved_b + 2 * H + j, n);
                Vec m = load(saved_b + 3 * H + j, n);
                Vec d = load(ds + b * H + j, n) + load(grad + row * H + j, n);
                Vec da_z = d * (load(before + j, n) - h) * z * (1.0f - z);
                Vec da_n = d * (1.0f - z) * (1.0f - h * h), da_r = da_n * m * r * (1.0f - r);
                store(dx_b + j, da_r, n);
                store(dx_b + H + j, da_z, n);
                store(dx_b + 2 * H + j, da_n, n);
                store(dp_b + j, da_r, n);
                store(dp_b + H + j, da_z, n);
                store(dp_b + 2 * H + j, da_n * r, n);
                store(ds_z + b * H + j, d * z, n);
            }
        }
        multiply(&W, B, dp + t * B * 3 * H, (Rows){ds_z, H, NULL}, NULL, ds, H, pairs_at(pairs, &W, t, B));
    }
    free(ds_z);
    free(W.panels);
    return ok;
}

/* ---- the GRU with its reset gate before the product saves r, z, h and q = r ∘ s_{t-1}, (T, B, 4H); dp is dx -- */

int charlm_gru_before_forward(FORWARD) {
    (void)c0, (void)last;
    SIZES;
    Product W_rz, W_h;
    int ok = pack_transposed(&W_rz, weight, H, 2 * H, bfloat16);
    ok &= pack_transposed(&W_h, weight + 2 * H * H, H, H, bfloat16);
    float *a = allocate(B * 2 * H * 4), *q = allocate(B * H * 4);
    Index step = keep ? B * 4 * H : 0;
    ok = ok && a && q;
    for (Index t = 0; ok && t < T; t++) {
        float *s_t = states + t * B * H;
        const float *before = t ? s_t - B * H : s0;
        multiply(&W_rz, B, before, x_at(x, ids, t, B, 3 * H, 0), bias, a, 2 * H, pairs);
        for (Index b = 0; b < B; b++) {
            const float *a_b = a + b * 2 * H;
            float *saved_b = saved + t * step + b * 4 * H;
            EACH_VECTOR(j, n) {
                Vec r = sigmoid(load(a_b + j, n)), z = sigmoid(load(a_b + H + j, n));
                Vec q_b = r * load(before + b * H + j, n);
                store(saved_b + j, r, n);
                store(saved_b + H + j, z, n);
                store(saved_b + 3 * H + j, q_b, n);
                store(q + b * H + j, q_b, n);
            }
        }
        multiply(&W_h, B, q, x_at(x, ids, t, B, 3 * H, 2 * H), bias ? bias + 2 * H : NULL, s_t, H, pairs);
        for (Index b = 0; b < B; b++) {
            float *saved_b = saved + t * step + b * 4 * H, *s_b = s_t + b * H;
            EACH_VECTOR(j, n) {
                Vec h = hyperbolic_tangent(load(s_b + j, n)), z = load(saved_b + H + j, n);
                store(saved_b + 2 * H + j, h, n);
                store(s_b + j, h + z * (load(before + b * H + j, n) - h), n);
            }
        }
    }
    free(a);
    free(q);
    free(W_rz.panels);
    free(W_h.panels);
    return ok;
}

int charlm_gru_before_backward(BACKWARD) {
    (void)grad_last, (void)c0, (void)dp, (void)dc;
    SIZES;
    Product W_rz, W_h;
    int ok = pack(&W_rz, weight, 2 * H, H, bfloat16);
    ok &= pack(&W_h, weight + 2 * H * H, H, H, bfloat16);
    float *da_rz = allocate(B * 2 * H * 4), *da_n = allocate(B * H * 4), *dq = allocate(B * H * 4);
    ok = ok && da_rz && da_n && dq;
    for (Index t = T - 1; ok && t >= 0; t--) {
        for (Index b = 0; b < B; b++) {
            Index row = t * B + b;
            const float *saved_b = saved + row * 4 * H;
            const float *before = t ? states + (row - B) * H : s0 + b * H;
            EACH_VECTOR(j, n) {
                Vec z = load(saved_b + H + j, n), h = load(saved_b + 2 * H + j, n);
                Vec d = load(ds + b * H + j, n) + load(grad + row * H + j, n);
                Vec da_z = d * (load(before + j, n) - h) * z * (1.0f - z);
                Vec da_h = d * (1.0f - z) * (1.0f - h * h);
                store(da_n + b * H + j, da_h, n);
                store(da_rz + b * 2 * H + H + j, da_z, n);
                store(dx + row * 3 * H + H + j, da_z, n);
                store(dx + row * 3 * H + 2 * H + j, da_h, n);
                store(ds + b * H + j, d * z, n);
            }
        }
        multiply(&W_h, B, da_n, NO_ROWS, NULL, dq, H, pairs);
        for (Index b = 0; b < B; b++) {
            Index row = t * B + b;
            const float *before = t ? states + (row - B) * H : s0 + b * H;
            EACH_VECTOR(j, n) {
                Vec r = load(saved + row * 4 * H + j, n), d_q = load(dq + b * H + j, n);
                Vec da_r = d_q * load(before + j, n) * r * (1.0f - r);
                store(da_rz + b * 2 * H + j, da_r, n);
                store(dx + row * 3 * H + j, da_r, n);
                store(ds + b * H + j, load(ds + b * H + j, n) + d_q * r, n);
            }
        }
        multiply(&W_rz, B, da_rz, (Rows){ds, H, NULL}, NULL, ds, H, pairs);
    }
    free(da_rz);
    free(da_n);
    free(dq);
    free(W_rz.panels);
    free(W_h.panels);
    return ok;
}
