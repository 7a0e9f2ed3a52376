/* All steps of a recurrent layer in one call, forward and backward: the equations of lstm.py, gru.py and rnn.py.
 *
 * `compiled.py` compiles this file for the machine it runs on and calls it. What makes it fast for the few rows that
 * a thread has: the recurrent weights are packed once for a window into panels as wide as two vectors, a tile of some
 * rows by one panel stays in registers while it is summed, and what follows a product is done while it is in the
 * cache, without a call for each operation.
 *
 * Every array is float32 and contiguous: dx, dp (T, B, G·H), states and grad (T, B, H), s0, c0 (B, H), weight
 * (G·H, H), bias (G·H); x is (T, B, G·H), or where there are ids (T, B) the table (V, G·H) of which they name a row.
 * In bfloat16 the factors of the recurrent products are rounded to it, and nothing else; the sums stay in float32.
 * The rounded left factors are left behind, (T, B, K rounded up to even), for the gradient of the weights. Where `keep`
 * is 0 no gradient will be asked for, and what a step saves lies where the step before had it: (1, B, ·).
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define ROWS 8  /* of a tile: with two vectors of columns they fill half the registers, and hide each other's delay */
#elif defined(__AVX__)
#define LANES 8
#define ROWS 4
#else
#define LANES 4
#define ROWS 4
#endif
#define PANEL (2 * LANES)

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float Loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

/* ---- vectors -------------------------------------------------------------------------------------------------- */

static inline Vec splat(float a) { return a - (Vec){}; }

static inline Vec load(const float *p, int n) {
    if (n >= LANES) return *(const Loose *)p;
    Vec v = {};
    memcpy(&v, p, 4 * (size_t)n);
    return v;
}

static inline void store(float *p, Vec v, int n) {
    if (n >= LANES)
        *(Loose *)p = v;
    else
        memcpy(p, &v, 4 * (size_t)n);
}

static inline Vec choose(Bits mask, Vec a, Vec b) { return (Vec)((mask & (Bits)a) | (~mask & (Bits)b)); }

/* e^x = 2^n e^r, n the integer nearest to x / ln 2, so |r| < 0.35: a polynomial of r, to the last bit or two. */
static inline Vec exponential(Vec x) {
    x = choose(x > 87.0f, splat(87.0f), choose(x < -87.0f, splat(-87.0f), x));
    Vec shifted = x * 1.44269504f + 12582912.0f; /* 1.5 · 2^23: the integer is now the low bits */
    Vec n = shifted - 12582912.0f;
    Vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Vec p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return (Vec)((Bits)p + ((Bits)shifted << 23));
}

static inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

static inline Vec hyperbolic(Vec x) {
    Vec q = x * x;
    Vec series = x + x * q * (-0.333333333f + q * (0.133333333f + q * (-0.0539682540f + q * 0.0218694885f)));
    return choose(q < 0.04f, series, 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f)); /* 1 - 1 has no digits left */
}

/* ---- the recurrent product ------------------------------------------------------------------------------------ */

#if defined(__AVX512BF16__)
#define HAS_BFLOAT16 1
#else
#define HAS_BFLOAT16 0
#endif

typedef struct {
    int columns, depth, pairs; /* N and K of (B, K) · (K, N); K / 2, rounded up */
    int bfloat16;
    float *panels; /* of each PANEL columns: K rows of PANEL numbers, or in bfloat16 K / 2 rows of pairs */
} Product;

static void *memory(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

#if HAS_BFLOAT16
/* Rounds n numbers to pairs of bfloat16; behind an odd one stands a zero. */
static inline void round_to_pairs(const float *from, int n, uint32_t *to) {
    int i = 0;
    for (; i + 32 <= n; i += 32)
        _mm512_storeu_si512(to + i / 2, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + i + 16),
                                                                     _mm512_loadu_ps(from + i)));
    if (i < n) {
        float rest[32] = {0};
        uint32_t rounded[16];
        memcpy(rest, from + i, 4 * (size_t)(n - i));
        _mm512_storeu_si512(rounded, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(rest + 16), _mm512_loadu_ps(rest)));
        memcpy(to + i / 2, rounded, 4 * (size_t)((n - i + 1) / 2));
    }
}

static inline __m512i rounded(Vec v) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v)); }
#endif

/* Packs the right factor, (K, N): a weight as it lies, or (transposed) the other way round. */
static int prepare(Product *product, const float *right, int depth, int columns, int transposed, int bfloat16) {
    int panels = (columns + PANEL - 1) / PANEL, pairs = (depth + 1) / 2, rows = bfloat16 ? pairs : depth;
    *product = (Product){columns, depth, pairs, bfloat16, memory((size_t)panels * rows * PANEL * 4)};
    float *line = memory((size_t)depth * 4);
    for (int p = 0; product->panels && line && p < panels; p++) {
        float *panel = product->panels + (size_t)p * rows * PANEL;
        int width = columns - p * PANEL < PANEL ? columns - p * PANEL : PANEL;
        if (width < PANEL) memset(panel, 0, (size_t)rows * PANEL * 4);
        for (int n = 0; transposed && n < width; n++) {
            const float *from = right + (size_t)(p * PANEL + n) * depth;
#if HAS_BFLOAT16
            if (bfloat16) round_to_pairs(from, depth, (uint32_t *)line), from = line;
#endif
            for (int k = 0; k < rows; k++) panel[(size_t)k * PANEL + n] = from[k];
        }
        for (int k = 0; !transposed && k < rows; k++) {
            const float *from = right + (size_t)(bfloat16 ? 2 * k : k) * columns + p * PANEL;
            float *to = panel + (size_t)k * PANEL;
            for (int n = 0; n < width; n += LANES) {
                Vec v = load(from + n, width - n);
#if HAS_BFLOAT16
                if (bfloat16) {
                    Vec second = 2 * k + 1 < depth ? load(from + columns + n, width - n) : splat(0);
                    v = (Vec)_mm512_or_si512(rounded(v), _mm512_slli_epi32(rounded(second), 16));
                }
#endif
                store(to + n, v, width - n);
            }
        }
    }
    int fine = product->panels && line;
    free(line);
    return fine;
}

/* One tile: `rows` is a constant wherever this is called, so that its sums are registers. */
static inline __attribute__((always_inline)) void tile(const int rows, const Product *product, const float *left,
                                                       const uint32_t *pairs, const float *panel, Vec sums[][2]) {
    Vec acc[ROWS][2];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) acc[i][0] = sums[i][0], acc[i][1] = sums[i][1];
#if HAS_BFLOAT16
    for (int k = 0; product->bfloat16 && k < product->pairs; k++) {
        __m512bh b0 = (__m512bh)_mm512_load_si512(panel + (size_t)k * PANEL);
        __m512bh b1 = (__m512bh)_mm512_load_si512(panel + (size_t)k * PANEL + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            __m512bh a = (__m512bh)_mm512_set1_epi32((int)pairs[(size_t)i * product->pairs + k]);
            acc[i][0] = (Vec)_mm512_dpbf16_ps((__m512)acc[i][0], a, b0);
            acc[i][1] = (Vec)_mm512_dpbf16_ps((__m512)acc[i][1], a, b1);
        }
    }
#endif
    (void)pairs;
    for (int k = 0; !product->bfloat16 && k < product->depth; k++) {
        Vec b0 = *(const Vec *)(panel + (size_t)k * PANEL), b1 = *(const Vec *)(panel + (size_t)k * PANEL + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            Vec a = splat(left[(size_t)i * product->depth + k]);
            acc[i][0] += a * b0;
            acc[i][1] += a * b1;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) sums[i][0] = acc[i][0], sums[i][1] = acc[i][1];
}

/* Where the rows lie that are added to a product: at(b) is the first number of row b. */
typedef struct {
    const float *first;
    size_t stride;
    const int64_t *ids; /* row b is at ids[b] · stride; NULL: at b · stride */
} Rows;

static inline const float *at(Rows rows, int b) {
    return rows.first + (size_t)(rows.ids ? rows.ids[b] : b) * rows.stride;
}

static const Rows NOTHING = {NULL, 0, NULL};

/* out = add + bias + left · right: left (B, K) contiguous, in bfloat16 left rounded in `pairs`, (B, K / 2). */
static void multiply(const Product *product, int B, const float *left, Rows add, const float *bias, float *out,
                     int out_stride, uint32_t *pairs) {
    int columns = product->columns, depth = product->depth;
#if HAS_BFLOAT16
    for (int b = 0; product->bfloat16 && b < B; b++)
        round_to_pairs(left + (size_t)b * depth, depth, pairs + (size_t)b * product->pairs);
#endif
    for (int n = 0, p = 0; n < columns; n += PANEL, p++) {
        const float *panel = product->panels + (size_t)p * (product->bfloat16 ? product->pairs : depth) * PANEL;
        int first = columns - n, second = columns - n - LANES;
        Vec b0 = bias ? load(bias + n, first) : splat(0), b1 = splat(0);
        if (bias && second > 0) b1 = load(bias + n + LANES, second);
        for (int b = 0; b < B; b += ROWS) {
            int here = B - b < ROWS ? B - b : ROWS;
            const float *l = left + (size_t)b * depth;
            const uint32_t *q = pairs + (product->bfloat16 ? (size_t)b * product->pairs : 0);
            Vec sums[ROWS][2];
            for (int i = 0; i < here; i++) {
                sums[i][0] = b0, sums[i][1] = b1;
                if (add.first) {
                    const float *more = at(add, b + i) + n;
                    sums[i][0] += load(more, first);
                    if (second > 0) sums[i][1] += load(more + LANES, second);
                }
            }
            switch (here) {
            case 1: tile(1, product, l, q, panel, sums); break;
            case 2: tile(2, product, l, q, panel, sums); break;
            case 3: tile(3, product, l, q, panel, sums); break;
            case 4: tile(4, product, l, q, panel, sums); break;
#if ROWS == 8
            case 5: tile(5, product, l, q, panel, sums); break;
            case 6: tile(6, product, l, q, panel, sums); break;
            case 7: tile(7, product, l, q, panel, sums); break;
            case 8: tile(8, product, l, q, panel, sums); break;
#endif
            }
            for (int i = 0; i < here; i++) {
                float *to = out + (size_t)(b + i) * out_stride + n;
                store(to, sums[i][0], first);
                if (second > 0) store(to + LANES, sums[i][1], second);
            }
        }
    }
}

int charlm_bfloat16(void) { return HAS_BFLOAT16; }

/* ---- the cells ------------------------------------------------------------------------------------------------ */

#define EACH(j, n) for (int j = 0, n = H; j < H; j += LANES, n -= LANES)

/* The rows of x at step t, from the column on; the pairs of a step, where there are any. */
static inline Rows rows_of(const float *x, const int64_t *ids, int t, int B, size_t width, size_t column) {
    return ids ? (Rows){x + column, width, ids + (size_t)t * B}
               : (Rows){x + (size_t)t * B * width + column, width, NULL};
}

static inline uint32_t *step_of(uint32_t *pairs, const Product *product, int t, int B) {
    return pairs ? pairs + (size_t)t * B * product->pairs : NULL;
}

#define FORWARD                                                                                                     \
    int T, int B, int H, int bfloat16, int keep, const float *x, const int64_t *ids, const float *weight,           \
        const float *bias, const float *s0, const float *c0, float *states, float *saved, float *last,              \
        uint32_t *pairs
#define BACKWARD                                                                                                    \
    int T, int B, int H, int bfloat16, const float *grad, const float *grad_last, const float *weight,                \
        const float *s0, const float *c0, const float *states, const float *saved, float *dx, float *dp, float *ds,   \
        float *dc, uint32_t *pairs

/* The simple cell; nothing is saved but its states, and dp is dx. */
int charlm_rnn_forward(FORWARD) {
    (void)keep, (void)c0, (void)saved, (void)last;
    Product W;
    int fine = prepare(&W, weight, H, H, 1, bfloat16);
    for (int t = 0; fine && t < T; t++) {
        float *s_t = states + (size_t)t * B * H;
        multiply(&W, B, t ? s_t - (size_t)B * H : s0, rows_of(x, ids, t, B, H, 0), bias, s_t, H, step_of(pairs, &W, t, B));
        for (int b = 0; b < B; b++)
            EACH(j, n) store(s_t + b * H + j, hyperbolic(load(s_t + b * H + j, n)), n);
    }
    free(W.panels);
    return fine;
}

int charlm_rnn_backward(BACKWARD) {
    (void)grad_last, (void)s0, (void)c0, (void)saved, (void)dp, (void)dc;
    Product W;
    int fine = prepare(&W, weight, H, H, 0, bfloat16);
    for (int t = T - 1; fine && t >= 0; t--) {
        size_t at_t = (size_t)t * B * H;
        for (int b = 0; b < B; b++)
            EACH(j, n) {
                size_t i = at_t + (size_t)b * H + j;
                Vec s = load(states + i, n), d = load(ds + b * H + j, n) + load(grad + i, n);
                store(dx + i, d * (1.0f - s * s), n);
            }
        multiply(&W, B, dx + at_t, NOTHING, NULL, ds, H, step_of(pairs, &W, t, B));
    }
    free(W.panels);
    return fine;
}

/* The LSTM saves i, f, g, o, then c_t and tanh c_t: (T, B, 6H). dp is dx. */
int charlm_lstm_forward(FORWARD) {
    Product W;
    int fine = prepare(&W, weight, H, 4 * H, 1, bfloat16);
    size_t step = keep ? (size_t)B * 6 * H : 0;
    for (int t = 0; fine && t < T; t++) {
        float *s_t = states + (size_t)t * B * H, *saved_t = saved + t * step;
        multiply(&W, B, t ? s_t - (size_t)B * H : s0, rows_of(x, ids, t, B, 4 * H, 0), bias, saved_t, 6 * H,
                 step_of(pairs, &W, t, B));
        for (int b = 0; b < B; b++) {
            float *gates = saved_t + (size_t)b * 6 * H;
            const float *before = t ? gates - step + 4 * H : c0 + (size_t)b * H;
            EACH(j, n) {
                Vec i = sigmoid(load(gates + j, n)), f = sigmoid(load(gates + H + j, n));
                Vec g = hyperbolic(load(gates + 2 * H + j, n)), o = sigmoid(load(gates + 3 * H + j, n));
                Vec c = f * load(before + j, n) + i * g, h = hyperbolic(c);
                store(gates + j, i, n);
                store(gates + H + j, f, n);
                store(gates + 2 * H + j, g, n);
                store(gates + 3 * H + j, o, n);
                store(gates + 4 * H + j, c, n);
                store(gates + 5 * H + j, h, n);
                store(s_t + (size_t)b * H + j, o * h, n);
                if (t == T - 1) store(last + (size_t)b * H + j, c, n);
            }
        }
    }
    free(W.panels);
    return fine;
}

int charlm_lstm_backward(BACKWARD) {
    (void)s0, (void)states, (void)dp;
    Product W;
    int fine = prepare(&W, weight, 4 * H, H, 0, bfloat16);
    memcpy(dc, grad_last, (size_t)B * H * 4);
    for (int t = T - 1; fine && t >= 0; t--) {
        float *dx_t = dx + (size_t)t * B * 4 * H;
        for (int b = 0; b < B; b++) {
            const float *gates = saved + ((size_t)t * B + b) * 6 * H;
            const float *before = t ? gates - (size_t)B * 6 * H + 4 * H : c0 + (size_t)b * H;
            float *da = dx_t + (size_t)b * 4 * H, *ds_b = ds + (size_t)b * H, *dc_b = dc + (size_t)b * H;
            const float *grad_b = grad + ((size_t)t * B + b) * H;
            EACH(j, n) {
                Vec i = load(gates + j, n), f = load(gates + H + j, n), g = load(gates + 2 * H + j, n);
                Vec o = load(gates + 3 * H + j, n), h = load(gates + 5 * H + j, n);
                Vec d = load(ds_b + j, n) + load(grad_b + j, n);
                Vec d_c = load(dc_b + j, n) + d * o * (1.0f - h * h);
                store(da + j, d_c * g * i * (1.0f - i), n);
                store(da + H + j, d_c * load(before + j, n) * f * (1.0f - f), n);
                store(da + 2 * H + j, d_c * i * (1.0f - g * g), n);
                store(da + 3 * H + j, d * h * o * (1.0f - o), n);
                store(dc_b + j, d_c * f, n);
            }
        }
        multiply(&W, B, dx_t, NOTHING, NULL, ds, H, step_of(pairs, &W, t, B));
    }
    free(W.panels);
    return fine;
}

/* The GRU, reset after the product, saves r, z, h and m = W_h s + b'_h: (T, B, 4H). */
int charlm_gru_after_forward(FORWARD) {
    (void)c0, (void)last;
    Product W;
    int fine = prepare(&W, weight, H, 3 * H, 1, bfloat16);
    float *a = memory((size_t)B * 3 * H * 4);
    size_t step = keep ? (size_t)B * 4 * H : 0;
    fine = fine && a;
    for (int t = 0; fine && t < T; t++) {
        float *s_t = states + (size_t)t * B * H;
        const float *before = t ? s_t - (size_t)B * H : s0;
        multiply(&W, B, before, NOTHING, bias, a, 3 * H, step_of(pairs, &W, t, B));
        Rows x_t = rows_of(x, ids, t, B, 3 * H, 0);
        for (int b = 0; b < B; b++) {
            const float *x_b = at(x_t, b), *a_b = a + (size_t)b * 3 * H;
            float *saved_b = saved + t * step + (size_t)b * 4 * H;
            EACH(j, n) {
                Vec r = sigmoid(load(x_b + j, n) + load(a_b + j, n));
                Vec z = sigmoid(load(x_b + H + j, n) + load(a_b + H + j, n));
                Vec m = load(a_b + 2 * H + j, n), h = hyperbolic(load(x_b + 2 * H + j, n) + r * m);
                store(saved_b + j, r, n);
                store(saved_b + H + j, z, n);
                store(saved_b + 2 * H + j, h, n);
                store(saved_b + 3 * H + j, m, n);
                store(s_t + (size_t)b * H + j, h + z * (load(before + (size_t)b * H + j, n) - h), n);
            }
        }
    }
    free(a);
    free(W.panels);
    return fine;
}

int charlm_gru_after_backward(BACKWARD) {
    (void)grad_last, (void)c0, (void)dc;
    Product W;
    int fine = prepare(&W, weight, 3 * H, H, 0, bfloat16);
    float *part = memory((size_t)B * H * 4);
    fine = fine && part;
    for (int t = T - 1; fine && t >= 0; t--) {
        for (int b = 0; b < B; b++) {
            size_t row = (size_t)t * B + b;
            const float *saved_b = saved + row * 4 * H;
            const float *before = t ? states + (row - B) * H : s0 + (size_t)b * H;
            float *dx_b = dx + row * 3 * H, *dp_b = dp + row * 3 * H;
            EACH(j, n) {
                Vec r = load(saved_b + j, n), z = load(saved_b + H + j, n), h = load(saved_b + 2 * H + j, n);
                Vec m = load(saved_b + 3 * H + j, n);
                Vec d = load(ds + (size_t)b * H + j, n) + load(grad + row * H + j, n);
                Vec dz = d * (load(before + j, n) - h) * z * (1.0f - z), dn = d * (1.0f - z) * (1.0f - h * h);
                Vec dr = dn * m * r * (1.0f - r);
                store(dx_b + j, dr, n);
                store(dx_b + H + j, dz, n);
                store(dx_b + 2 * H + j, dn, n);
                store(dp_b + j, dr, n);
                store(dp_b + H + j, dz, n);
                store(dp_b + 2 * H + j, dn * r, n);
                store(part + (size_t)b * H + j, d * z, n);
            }
        }
        multiply(&W, B, dp + (size_t)t * B * 3 * H, (Rows){part, H, NULL}, NULL, ds, H, step_of(pairs, &W, t, B));
    }
    free(part);
    free(W.panels);
    return fine;
}

/* The GRU, reset before the product, saves r, z, h and q = r ∘ s_{t-1}: (T, B, 4H). dp is dx. */
int charlm_gru_before_forward(FORWARD) {
    (void)c0, (void)last;
    Product rz, candidate;
    int fine = prepare(&rz, weight, H, 2 * H, 1, bfloat16);
    fine &= prepare(&candidate, weight + (size_t)2 * H * H, H, H, 1, bfloat16);
    float *a = memory((size_t)B * 2 * H * 4), *q = memory((size_t)B * H * 4);
    size_t step = keep ? (size_t)B * 4 * H : 0;
    fine = fine && a && q;
    for (int t = 0; fine && t < T; t++) {
        float *s_t = states + (size_t)t * B * H;
        const float *before = t ? s_t - (size_t)B * H : s0;
        multiply(&rz, B, before, rows_of(x, ids, t, B, 3 * H, 0), bias, a, 2 * H, pairs);
        for (int b = 0; b < B; b++) {
            float *saved_b = saved + t * step + (size_t)b * 4 * H;
            EACH(j, n) {
                Vec r = sigmoid(load(a + (size_t)b * 2 * H + j, n));
                Vec q_b = r * load(before + (size_t)b * H + j, n);
                store(saved_b + j, r, n);
                store(saved_b + H + j, sigmoid(load(a + (size_t)b * 2 * H + H + j, n)), n);
                store(saved_b + 3 * H + j, q_b, n);
                store(q + (size_t)b * H + j, q_b, n);
            }
        }
        multiply(&candidate, B, q, rows_of(x, ids, t, B, 3 * H, 2 * H), bias ? bias + 2 * H : NULL, s_t, H, pairs);
        for (int b = 0; b < B; b++) {
            float *saved_b = saved + t * step + (size_t)b * 4 * H, *s_b = s_t + (size_t)b * H;
            EACH(j, n) {
                Vec h = hyperbolic(load(s_b + j, n)), z = load(saved_b + H + j, n);
                store(saved_b + 2 * H + j, h, n);
                store(s_b + j, h + z * (load(before + (size_t)b * H + j, n) - h), n);
            }
        }
    }
    free(a);
    free(q);
    free(rz.panels);
    free(candidate.panels);
    return fine;
}

int charlm_gru_before_backward(BACKWARD) {
    (void)grad_last, (void)c0, (void)dp, (void)dc;
    Product rz, candidate;
    int fine = prepare(&rz, weight, 2 * H, H, 0, bfloat16);
    fine &= prepare(&candidate, weight + (size_t)2 * H * H, H, H, 0, bfloat16);
    float *da = memory((size_t)B * 2 * H * 4), *dn = memory((size_t)B * H * 4), *dq = memory((size_t)B * H * 4);
    fine = fine && da && dn && dq;
    for (int t = T - 1; fine && t >= 0; t--) {
        for (int b = 0; b < B; b++) {
            size_t row = (size_t)t * B + b;
            const float *saved_b = saved + row * 4 * H;
            const float *before = t ? states + (row - B) * H : s0 + (size_t)b * H;
            EACH(j, n) {
                Vec z = load(saved_b + H + j, n), h = load(saved_b + 2 * H + j, n);
                Vec d = load(ds + (size_t)b * H + j, n) + load(grad + row * H + j, n);
                Vec dz = d * (load(before + j, n) - h) * z * (1.0f - z), dh = d * (1.0f - z) * (1.0f - h * h);
                store(dn + (size_t)b * H + j, dh, n);
                store(da + (size_t)b * 2 * H + H + j, dz, n);
                store(dx + row * 3 * H + H + j, dz, n);
                store(dx + row * 3 * H + 2 * H + j, dh, n);
                store(ds + (size_t)b * H + j, d * z, n);
            }
        }
        multiply(&candidate, B, dn, NOTHING, NULL, dq, H, pairs);
        for (int b = 0; b < B; b++) {
            size_t row = (size_t)t * B + b;
            const float *before = t ? states + (row - B) * H : s0 + (size_t)b * H;
            EACH(j, n) {
                Vec r = load(saved + row * 4 * H + j, n), d_q = load(dq + (size_t)b * H + j, n);
                Vec dr = d_q * load(before + j, n) * r * (1.0f - r);
                store(da + (size_t)b * 2 * H + j, dr, n);
                store(dx + row * 3 * H + j, dr, n);
                store(ds + (size_t)b * H + j, load(ds + (size_t)b * H + j, n) + d_q * r, n);
            }
        }
        multiply(&rz, B, da, (Rows){ds, H, NULL}, NULL, ds, H, pairs);
    }
    free(da);
    free(dn);
    free(dq);
    free(rz.panels);
    free(candidate.panels);
    return fine;
}
